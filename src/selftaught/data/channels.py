"""Mean and standard deviation of each channel, exact: from integer sums, so in any order and any grouping."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from selftaught.errors import InputError

_TOGETHER = 256
"""Images squared at once; bounds the memory that it takes."""


def power_sums(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the values and of their squares of uint8 (N, K, H, W): two times int64 (N, K)."""
    flat = images.reshape(*images.shape[:2], -1)
    return flat.sum(2, dtype=np.int64), np.square(flat, dtype=np.uint32).sum(2, dtype=np.int64)


def normalisation(sums: Tensor, squares: Tensor, pixels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of images scaled to [0, 1].

    The standard deviation is the population's (n); a constant channel has 1.0, so that dividing by it is harmless.
    `sums` and `squares`, int64 (N, K), are those of each image's values 0..255, of which it has `pixels`, H·W.
    """
    count = len(sums) * pixels
    means, deviations = [], []
    # In Python's integers, whose quotient is correctly rounded.
    for total, square in zip(sums.sum(0).tolist(), squares.sum(0).tolist(), strict=True):
        spread = count * square - total * total
        means.append(total / (255 * count))
        deviations.append(math.sqrt(spread / (255 * count) ** 2) if spread else 1.0)
    return tuple(means), tuple(deviations)


def channel_stats(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, of images scaled to [0, 1], see `normalisation`.

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
    parts: Sequence[Tensor] = images.cpu().split(_TOGETHER)
    sums, squares = zip(*(power_sums(part.numpy()) for part in parts), strict=True)
    mean, std = normalisation(
        torch.from_numpy(np.concatenate(sums)),
        torch.from_numpy(np.concatenate(squares)),
        images.shape[2] * images.shape[3],
    )
    return list(mean), list(std)
