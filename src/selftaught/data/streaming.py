"""Images that are not held as one tensor: too many for memory, or a choice from some that processes share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selftaught.data import decoding, workers
from selftaught.data.encoded import Pictures

_COPIED_BYTES = 2**28
"""A choice of images up to this size is copied into a tensor of its own; larger ones stay where they are."""


class _Images:
    """Offers `.shape`, `len()`, and ``[slice or int64 index tensor]``, which gives a uint8 tensor (n, K, H, W)."""

    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, eq=False)
class Selected(_Images):
    """Some of the images of a tensor that other parts and other processes use as well."""

    pixels: Tensor
    positions: Tensor

    @property
    def shape(self) -> torch.Size:
        """(N, K, H, W)."""
        return torch.Size((len(self), *self.pixels.shape[1:]))

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        return self.pixels[self.positions[chosen]]


@dataclass(frozen=True, eq=False)
class Streamed(_Images):
    """Images that are decoded each time they are asked for: those at `positions` of a source in some `form`.

    `digests`, uint8 (N, 32), are of all pictures of the source: what they were when the data was loaded.
    """

    source: Pictures
    form: decoding.Format
    positions: Tensor
    digests: Tensor

    @property
    def shape(self) -> torch.Size:
        """(N, K, H, W)."""
        return torch.Size((len(self), *self.form.shape))

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        return torch.from_numpy(self.decode(self.positions[chosen].tolist()))

    def decode(self, positions: Sequence[int]) -> np.ndarray:
        """The pictures at some positions of the source; InputError names one that is not what it was."""
        return decoding.decode_again(self.source, positions, self.form, self.digests[list(positions)])


Images = Tensor | Selected | Streamed


def part(pixels: Tensor, positions: Tensor) -> Tensor | Selected:
    """The images at `positions`, int64 and ascending, of uint8 (N, K, H, W), copied only where that is cheap."""
    count = len(positions)
    if not count or int(positions[-1] - positions[0]) == count - 1:
        first = int(positions[0]) if count else 0
        return pixels[first : first + count]
    if count * pixels[0].numel() <= _COPIED_BYTES:
        return pixels[positions]
    return Selected(pixels, positions)


def fetch(images: Images, choices: Sequence[slice | Tensor]) -> Iterator[Tensor]:
    """``images[choice]`` for each choice in turn; what has to be decoded is decoded ahead by worker processes."""
    if isinstance(images, Streamed):
        wanted = [images.positions[choice].tolist() for choice in choices]
        return (torch.from_numpy(array) for array in workers.ordered(images.decode, wanted))
    return (images[choice] for choice in choices)
