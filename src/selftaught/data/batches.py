"""Batches of a data set that lives on the device: shuffled, augmented and normalised there."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from selftaught.data import augment
from selftaught.errors import InputError


class Batches:
    """An image data set as batches, epoch by epoch.

    What epoch n holds, its order and its augmentation, depends on (`seed`, n) alone: not on earlier epochs, nor
    on the global RNG, which is left alone. So a resumed run sees what it would have seen.

    Args:
        images: uint8 (N, K, H, W), moved to `device` once.
        labels: int64 (N,), moved likewise.
        batch_size: images per batch. When training, a last batch of one image is left out, since batch
            normalisation cannot use it.
        mean: per channel, of images scaled to [0, 1]; subtracted.
        std: per channel; divided by.
        device: where the images live and the batches are made.
        seed: at least 0; None to evaluate: in order, every image, as it is.
        padding: zero padding in pixels for random crops, see `augment.random_crop_flip`.
        flip: mirror at random.
        memory_format: of the batches; `torch.channels_last` for convolutions that like it.

    Raises:
        InputError: sizes that do not agree, a batch size below 1, a negative seed.

    >>> images = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    >>> batches = Batches(images, torch.arange(5), 2, mean=[0.5], std=[0.25], seed=0)
    >>> [tuple(x.shape) for x, y in batches.epoch(0)]
    [(2, 1, 8, 8), (2, 1, 8, 8)]
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str = "cpu",
        seed: int | None = None,
        padding: int = 0,
        flip: bool = False,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        _check(images, labels, batch_size, mean, std, seed, padding)
        self.images = images.to(device)
        self.labels = labels.to(device)
        self.batch_size = batch_size
        self.seed = seed
        self.padding = padding
        self.flip = flip
        self.memory_format = memory_format
        # (x / 255 - mean) / std in two passes over the batch.
        self._shift = 255 * torch.tensor(mean, dtype=torch.float32, device=device).view(-1, 1, 1)
        self._scale = 255 * torch.tensor(std, dtype=torch.float32, device=device).view(-1, 1, 1)

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self.labels), self.batch_size)
        lonely = self.seed is not None and rest == 1 and whole > 0
        return whole + (rest > 0) - lonely

    def epoch(self, n: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch n: x float32 (B, K, H, W), normalised, and y int64 (B,)."""
        if self.seed is None:
            for samples in self._slices():
                yield self._normalise(self.images[samples]), self.labels[samples]
            return
        device = self.images.device
        generator = _generator(self.seed, n)
        order = torch.randperm(len(self.labels), generator=generator).to(device)
        # Drawn for the whole epoch, so that a GPU waits for one transfer and not for one per batch.
        placement = augment.draw(len(self.labels), generator, self.padding, self.flip).to(device)
        for samples in self._slices():
            chosen = order[samples]
            x = self.images[chosen]
            if self.padding or self.flip:
                x = augment.crop_flip(x, placement.take(samples), self.padding)
            yield self._normalise(x), self.labels[chosen]

    def _slices(self) -> Iterator[slice]:
        for number in range(len(self)):
            yield slice(number * self.batch_size, (number + 1) * self.batch_size)

    def _normalise(self, x: Tensor) -> Tensor:
        x = x.to(torch.float32, memory_format=self.memory_format)
        return x.sub_(self._shift).div_(self._scale)


def _generator(seed: int, epoch: int) -> torch.Generator:
    """A generator of its own for every (seed, epoch): neighbouring seeds share no epoch."""
    mixed = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0] >> np.uint64(1)))


def _check(
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int | None,
    padding: int,
) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise InputError(
            f"images must be uint8 of shape (N, K, H, W), got {images.dtype} of shape {tuple(images.shape)}"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise InputError(
            f"labels must be int64 of shape ({len(images)},), got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if not len(mean) == len(std) == images.shape[1]:
        raise InputError(f"mean and std must have {images.shape[1]} values, got {len(mean)} and {len(std)}")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if padding < 0:
        raise InputError(f"padding must be at least 0, got {padding}")
    if seed is not None and seed < 0:
        raise InputError(f"seed must be at least 0, got {seed}")
