"""Pictures that random parts are cut from: as they were, or not much smaller, whatever the size of a model's input.

Cut from a picture that has been brought to the input's size, a quarter of its area would have a quarter of the input's
pixels, blown up. So training pictures are kept at twice the input's size, or as they are where that is less.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from selftaught.data import augment, decoding, workers
from selftaught.data.augment import Boxes
from selftaught.data.decoding import Format
from selftaught.data.encoded import Pictures
from selftaught.data.streaming import Images, fetch

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


class Originals:
    """N pictures that parts are cut from.

    Attributes:
        sizes: height and width of each, int64 (N, 2).
        proportions: see `Uncut.proportions`, float64 (N,).
    """

    sizes: Tensor
    proportions: Tensor
    _of_each: tuple[str, ...] = ("sizes", "proportions")

    def cut(
        self, chosen: Sequence[Tensor], boxes: Sequence[Boxes], size: tuple[int, int]
    ) -> Iterator[Tensor]:
        """For each choice of n pictures (int64) and as many boxes the parts, brought to `size`: uint8 (n, K, H, W)."""
        return (self._cut((*both, size)) for both in zip(chosen, boxes, strict=True))

    def part(self, chosen: Tensor) -> "Originals":
        """Those of some positions."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in self._of_each})  # type: ignore[type-var]

    def to(self, _: torch.device) -> "Originals":
        """The same on a device, or where they are if they would fill it, or are nowhere."""
        return self

    def _cut(self, item: tuple[Tensor, Boxes, tuple[int, int]]) -> Tensor:
        positions, boxes, size = item
        return augment.resized_crop([self._picture(index) for index in positions.tolist()], boxes, size)

    def _picture(self, index: int) -> Tensor:
        """Uint8 (K, h, w); as it lies in memory a value's channels are side by side, so that all are cut alike."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Held(Originals):
    """Pictures in memory, uint8 (h, w, K) each, that begin at `starts`, int64 (N,), in a source's flat `pixels`."""

    pixels: Tensor
    starts: Tensor
    sizes: Tensor
    proportions: Tensor
    channels: int
    _of_each = ("starts", "sizes", "proportions")

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
class Decoded(Originals):
    """Pictures that are decoded each time a part of them is wanted, by worker processes.

    They are at `positions`, int64 (N,), of a source; `digests`, uint8 (N, 32), say what they were at first.
    """

    source: Pictures
    uncut: Uncut
    positions: Tensor
    digests: Tensor
    sizes: Tensor
    proportions: Tensor
    _of_each = ("positions", "digests", "sizes", "proportions")

    def cut(
        self, chosen: Sequence[Tensor], boxes: Sequence[Boxes], size: tuple[int, int]
    ) -> Iterator[Tensor]:
        """See `Originals`. Raises InputError where a picture is not what it was."""
        items = [(*both, size) for both in zip(chosen, boxes, strict=True)]
        return (torch.from_numpy(array) for array in workers.ordered(self._array, items))

    def _array(self, item: tuple[Tensor, Boxes, tuple[int, int]]) -> np.ndarray:
        return self._cut(item).numpy()

    def _picture(self, index: int) -> Tensor:
        form, at = self.uncut.kept(self.sizes[index].tolist()), slice(index, index + 1)
        [image] = decoding.decode_again(self.source, self.positions[at].tolist(), form, self.digests[at])
        return torch.from_numpy(np.ascontiguousarray(image.transpose(1, 2, 0))).permute(2, 0, 1)


class Alike(Originals):
    """Images of one size that somebody else has prepared, and moved to a device; taken for undistorted."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self.sizes = torch.tensor(images.shape[2:]).expand(len(images), 2)
        self.proportions = torch.ones(len(images), dtype=torch.float64)

    def cut(
        self, chosen: Sequence[Tensor], boxes: Sequence[Boxes], size: tuple[int, int]
    ) -> Iterator[Tensor]:
        """See `Originals`."""
        for images, parts in zip(fetch(self.images, chosen), boxes, strict=True):
            yield augment.resized_crop(images, parts, size)


@dataclass(frozen=True)
class Large:
    """What pictures of the sizes `found`, int (N, 2), the first ones of a source, are decoded into."""

    uncut: Uncut
    found: Tensor

    @cached_property
    def sizes(self) -> Tensor:
        """See `Uncut.sizes`."""
        return self.uncut.sizes(self.found)

    def form(self, position: int) -> Format | None:
        """See `decoding.Target`."""
        return self.uncut.kept(self.sizes[position].tolist()) if position < len(self.sizes) else None

    def starts(self) -> Tensor:
        """Where each picture begins, and where the last one ends: int64 (N + 1,)."""
        values = self.sizes.prod(1) * self.uncut.form.shape[0]
        return torch.cat([torch.zeros(1, dtype=torch.int64), values.cumsum(0)])

    def space(self, _: int) -> int:
        """See `decoding.Target`."""
        return int(self.starts()[-1])

    def facts(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """See `decoding.Target`: their digests, uint8 (n, 32)."""
        return (np.concatenate([decoding.digest(image[None]) for image in images]),)

    def flat(self, image: np.ndarray) -> np.ndarray:
        """See `decoding.Target`: as `Held` has them."""
        return image.transpose(1, 2, 0).reshape(-1)
