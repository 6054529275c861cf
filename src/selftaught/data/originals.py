"""Pictures that random parts are cut from: as they were, or not much smaller, whatever the size of a model's input.

Cut from a picture that has been brought to the input's size, a quarter of its area would have a quarter of the input's
pixels, blown up. So training pictures are kept at twice the input's size, or as they are where that is less.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from selftaught.data import augment, decoding, workers
from selftaught.data.augment import Boxes
from selftaught.data.decoding import Format, OnProgress
from selftaught.data.encoded import Pictures
from selftaught.data.streaming import Images, fetch
from selftaught.errors import InputError

_TIMES, _LONGEST = 2, 8
"""How often a kept side has the input's: at least, where the original has as much; and at most, for long pictures."""


@dataclass(frozen=True)
class Uncut:
    """How pictures are kept for an input of some `form`.

    Where the input is stretched, so are they: at most twice its height and width. Else their proportions are kept: the
    shorter side has at most twice the input's, the longer one at most eight times.
    """

    form: Format

    def __str__(self) -> str:
        height, width = (_TIMES * side for side in self.form.shape[1:])
        return f"{height}x{width} pixels" + (" at the shorter side" if self._keeps_proportions else "")

    def sizes(self, found: Tensor) -> Tensor:
        """Height and width that pictures of the sizes `found`, integers (N, 2), are kept in: int64 (N, 2)."""
        found, wanted = found.double(), torch.tensor(self.form.shape[1:], dtype=torch.float64)
        scaled = found
        if self._keeps_proportions:
            factor = (_TIMES * wanted / found).amax(1, keepdim=True).clamp(max=1)
            scaled = (found * factor).round()
        most = (_LONGEST if self._keeps_proportions else _TIMES) * wanted
        return scaled.minimum(most).clamp(min=1).long()

    def proportions(self, found: Tensor) -> Tensor:
        """Width over height, in kept pixels, of the part of each picture that the input shows undistorted: (N,).

        Undistorted is what evaluation shows: where that stretches pictures, a part as wide and high as the picture.
        """
        kept = self.sizes(found).double()
        if not self._keeps_proportions:
            return kept[:, 1] / kept[:, 0]
        stretched = kept / found.double()
        height, width = self.form.shape[1:]
        return width / height * stretched[:, 1] / stretched[:, 0]

    def kept(self, size: Sequence[int]) -> Format:
        """What a picture becomes that is kept in `size`."""
        height, width = size
        return replace(self.form, shape=(self.form.shape[0], height, width), crop=None, stretch=False)

    @property
    def _keeps_proportions(self) -> bool:
        return self.form.crop is not None and not self.form.stretch


class Originals(Protocol):
    """N pictures, each of its own size, that parts are cut from."""

    @property
    def sizes(self) -> Tensor:
        """Height and width: int64 (N, 2)."""
        ...

    @property
    def proportions(self) -> Tensor:
        """See `Uncut.proportions`: float64 (N,)."""
        ...

    def cut(
        self, chosen: Sequence[Tensor], boxes: Sequence[Boxes], size: tuple[int, int]
    ) -> Iterator[Tensor]:
        """For each choice of n pictures (int64) and as many boxes the parts, brought to `size`: uint8 (n, K, H, W)."""
        ...

    def to(self, device: torch.device) -> "Originals":
        """The same on a device, or where they are if they would fill it."""
        ...


@dataclass(frozen=True, eq=False)
class Held:
    """Pictures in memory, one after the other in `pixels`, uint8 (h, w, K) each.

    Attributes:
        pixels: uint8, flat, of a whole source.
        starts: int64 (N,), where in it the pictures begin.
        channels: K.
    """

    pixels: Tensor
    starts: Tensor
    sizes: Tensor
    proportions: Tensor
    channels: int

    def cut(
        self, chosen: Sequence[Tensor], boxes: Sequence[Boxes], size: tuple[int, int]
    ) -> Iterator[Tensor]:
        """See `Originals`."""
        for positions, parts in zip(chosen, boxes, strict=True):
            yield augment.resized_crop([self._picture(i) for i in positions.tolist()], parts, size)

    def part(self, chosen: Tensor) -> "Held":
        """Those of some positions."""
        return replace(
            self,
            starts=self.starts[chosen],
            sizes=self.sizes[chosen],
            proportions=self.proportions[chosen],
        )

    def to(self, device: torch.device) -> "Held":
        """See `Originals`."""
        if device.type != "cuda" or len(self.pixels) > torch.cuda.mem_get_info(device)[0] // 2:
            return self
        return replace(self, pixels=self.pixels.to(device))

    def _picture(self, index: int) -> Tensor:
        height, width = self.sizes[index].tolist()
        start = int(self.starts[index])
        flat = self.pixels[start : start + height * width * self.channels]
        return flat.view(height, width, self.channels).permute(2, 0, 1)


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pictures that are decoded each time a part of them is wanted, by worker processes.

    Attributes:
        source: all pictures of the data.
        uncut: how they are kept.
        positions: int64 (N,), which of them these are.
        digests: uint8 (N, 32), what they were when the data was loaded.
    """

    source: Pictures
    uncut: Uncut
    positions: Tensor
    digests: Tensor
    sizes: Tensor
    proportions: Tensor

    def cut(
        self, chosen: Sequence[Tensor], boxes: Sequence[Boxes], size: tuple[int, int]
    ) -> Iterator[Tensor]:
        """See `Originals`. Raises InputError where a picture is not what it was."""
        items = [(positions, parts, size) for positions, parts in zip(chosen, boxes, strict=True)]
        return (torch.from_numpy(array) for array in workers.ordered(self._cut, items))

    def part(self, chosen: Tensor) -> "Decoded":
        """Those of some positions."""
        return replace(
            self,
            positions=self.positions[chosen],
            digests=self.digests[chosen],
            sizes=self.sizes[chosen],
            proportions=self.proportions[chosen],
        )

    def to(self, _: torch.device) -> "Decoded":
        """See `Originals`."""
        return self

    def _cut(self, item: tuple[Tensor, Boxes, tuple[int, int]]) -> np.ndarray:
        positions, boxes, size = item
        found = [self._picture(index) for index in positions.tolist()]
        return augment.resized_crop(found, boxes, size).numpy()

    def _picture(self, index: int) -> Tensor:
        position = int(self.positions[index])
        image = decoding.decode(self.source, [position], self.uncut.kept(self.sizes[index].tolist()))
        if not np.array_equal(decoding.digest(image)[0], self.digests[index].numpy()):
            raise InputError(f"{self.source.name(position)} has changed while it was being used: start again")
        # As a picture in memory lies, so that both are cut alike.
        return torch.from_numpy(np.ascontiguousarray(image[0].transpose(1, 2, 0))).permute(2, 0, 1)


@dataclass(frozen=True, eq=False)
class Alike:
    """Images of one size that somebody else has prepared."""

    images: Images

    @property
    def sizes(self) -> Tensor:
        """See `Originals`."""
        return torch.tensor(self.images.shape[2:]).expand(len(self.images), 2)

    @property
    def proportions(self) -> Tensor:
        """See `Originals`: taken for undistorted."""
        return torch.ones(len(self.images), dtype=torch.float64)

    def cut(
        self, chosen: Sequence[Tensor], boxes: Sequence[Boxes], size: tuple[int, int]
    ) -> Iterator[Tensor]:
        """See `Originals`."""
        for images, parts in zip(fetch(self.images, chosen), boxes, strict=True):
            yield augment.resized_crop(images, parts, size)

    def to(self, _: torch.device) -> "Alike":
        """See `Originals`: who prepared the images has moved them."""
        return self


class Making:
    """Originals in the making, told of one picture after the other.

    Args:
        uncut: how they are kept.
        sizes: int64 (N, 2), see `Uncut.sizes`, of the first N pictures of a source; others are no originals.
        keep: whether their pixels are to be held.
    """

    def __init__(self, uncut: Uncut, sizes: Tensor, keep: bool) -> None:
        self.further = _Further(uncut, sizes, keep)
        count = int(offsets(sizes, uncut.form.shape[0])[-1]) if keep else 0
        self._pixels, self._done = np.empty(count, dtype=np.uint8), 0
        self._digests: list[np.ndarray] = []

    def add(self, digest: np.ndarray, flat: np.ndarray) -> None:
        """The next picture."""
        self._digests.append(digest)
        self._pixels[self._done : self._done + len(flat)] = flat
        self._done += len(flat)

    def made(self) -> tuple[Tensor, Tensor | None]:
        """Digests of all pictures, uint8 (N, 32), and, if they are to be kept, their pixels as `Held` has them."""
        pixels = torch.from_numpy(self._pixels) if self.further.keep else None
        return torch.from_numpy(np.concatenate(self._digests)), pixels


def decode_all(source: Pictures, making: Making, on_progress: OnProgress) -> None:
    """Decode the pictures for their originals alone.

    Raises:
        InputError: pictures that cannot be read or decoded, by name.
    """
    for of_chunk in decoding.reported(_Decode(source, making.further), len(source), on_progress):
        for digest, flat in of_chunk:
            making.add(digest, flat)


def offsets(sizes: Tensor, channels: int) -> Tensor:
    """Where each of the pictures begins that lie one after the other, and where the last one ends: int64 (N + 1,)."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), (sizes.prod(1) * channels).cumsum(0)])


@dataclass(frozen=True)
class _Further:
    """See `decoding.Further`: how each of the first pictures is kept, its digest, and its pixels if they are held."""

    uncut: Uncut
    sizes: Tensor
    keep: bool

    def form(self, position: int) -> Format | None:
        return self.uncut.kept(self.sizes[position].tolist()) if position < len(self.sizes) else None

    def take(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = image.transpose(1, 2, 0).reshape(-1) if self.keep else np.empty(0, dtype=np.uint8)
        return decoding.digest(image[None]), flat


@dataclass(frozen=True)
class _Decode:
    """A range of pictures: of each what is taken."""

    source: Pictures
    further: _Further

    def __call__(self, positions: range) -> list[tuple[np.ndarray, np.ndarray]]:
        found = []
        for position in positions:
            form = self.further.form(position)
            assert form is not None
            found.append(self.further.take(decoding.decode(self.source, [position], form)[0]))
        return found
