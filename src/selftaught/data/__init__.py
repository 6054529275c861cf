"""Labelled images as tensors: where they come from, how they are divided, augmented and batched.

A data set is added by one line in `selftaught.data.sources`.
"""

from selftaught.data import augment, batches
from selftaught.data.channels import channel_stats
from selftaught.data.dataset import ImageData
from selftaught.data.loading import load, names, summary

__all__ = ["ImageData", "augment", "batches", "channel_stats", "load", "names", "summary"]
