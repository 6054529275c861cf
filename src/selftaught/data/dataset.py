"""The tensors that data comes as: a decoded source, and the training, validation and test parts made of it."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from selftaught.errors import InputError


@dataclass(frozen=True, eq=False)
class Decoded:
    """A whole source, decoded: images uint8 (N, K, H, W), labels int64 (N,), and the names of the classes."""

    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """The four tensors by name."""
        return {
            "train_images": self.train_images,
            "train_labels": self.train_labels,
            "test_images": self.test_images,
            "test_labels": self.test_labels,
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, in hex: equal for equal images, whichever way they came."""
        content = hashlib.sha256(json.dumps(self.classes).encode())
        for tensor in self.tensors().values():
            content.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
            content.update(tensor.flatten().numpy().data)
        return content.hexdigest()


@dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled image data set in memory, on the CPU.

    Images are uint8 (N, K, H, W), labels int64 (N,) in 0..C-1. The validation part is empty unless a hold-out
    was asked for; it is taken from the training part, never from the test part. `fingerprint` is a hex digest
    of the source's images and labels and of which of them are in which part.
    """

    name: str
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    val_images: Tensor
    val_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    fingerprint: str

    @property
    def channels(self) -> int:
        """K, the number of channels: 1 for grey and 3 for colour."""
        return self.train_images.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.train_images.shape[2:]
        return height, width

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return len(self.classes)


def channel_stats(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, of images scaled to [0, 1].

    Exact: the 256 values are counted in integers and summed in float64. The standard deviation is the
    population's (n); a constant channel has 1.0, so that dividing by it is harmless.

    Args:
        images: uint8 (N, K, H, W), not empty.

    >>> channel_stats(torch.tensor([0, 255, 255, 0], dtype=torch.uint8).view(1, 1, 2, 2))
    ([0.5], [0.5])
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or not images.numel():
        raise InputError(
            f"images must be uint8 of shape (N, K, H, W) and not empty, got {images.dtype} "
            f"of shape {tuple(images.shape)}"
        )
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].flatten(), minlength=256).cpu()
        share = counts.double() / counts.sum()
        mean = (share * values).sum()
        std = (share * (values - mean).square()).sum().sqrt().item()
        constant = int(counts.count_nonzero()) == 1
        means.append(mean.item())
        stds.append(1.0 if constant else std)
    return means, stds
