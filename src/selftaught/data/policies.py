"""Augmentation by policies: wide TrivialAugment (Müller and Hutter, 2021) and RandAugment (Cubuk and others, 2020).

A policy draws for each image one operation or more, each with a magnitude. The operations and their ranges are those of
torchvision 0.29, `transforms.v2`, with bilinear interpolation and black where nothing is; they are implemented here, so
that a run does not depend on whether that package is there. Everything is done on uint8, all images of one operation at
once, and what becomes of an image does not depend on the others.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_BINS = 31
"""Magnitudes come in so many steps from nothing to the most."""

_GREY = (0.2989, 0.587, 0.114)
"""The shares of red, green and blue in grey."""

_IN_CACHE = 2**17
"""So many values at most."""

Size = tuple[int, int]
"""Height and width."""


class Choices(NamedTuple):
    """Per image the operations in their order, as indices into `OPERATIONS`, int64 (B, T), and their magnitudes.

    Magnitudes are float32 (B, T).
    """

    kinds: Tensor
    magnitudes: Tensor


def _identity(images: Tensor, _: Tensor) -> Tensor:
    return images


def _warp(images: Tensor, xx: Tensor, xy: Tensor, x0: Tensor, yx: Tensor, yy: Tensor, y0: Tensor) -> Tensor:
    """Each image looked up at (xx·x + xy·y + x0, yx·x + yy·y + y0), in pixels from its middle; float32 (n,) each."""
    height, width = images.shape[2:]
    device = images.device
    x = torch.linspace((1 - width) / 2, (width - 1) / 2, width, device=device)
    y = torch.linspace((1 - height) / 2, (height - 1) / 2, height, device=device)[:, None]

    def along(of_x: Tensor, of_y: Tensor, constant: Tensor, size: int) -> Tensor:
        of_x, of_y, constant = (2 / size * term[:, None, None] for term in (of_x, of_y, constant))
        return (of_y * y + constant) + of_x * x

    grid = torch.stack([along(xx, xy, x0, width), along(yx, yy, y0, height)], dim=3)
    found = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found.round_().to(torch.uint8)


def _shear_x(images: Tensor, m: Tensor) -> Tensor:
    one, none = torch.ones_like(m), torch.zeros_like(m)
    return _warp(images, one, m, m * (images.shape[2] / 2), none, one, none)


def _shear_y(images: Tensor, m: Tensor) -> Tensor:
    one, none = torch.ones_like(m), torch.zeros_like(m)
    return _warp(images, one, none, none, m, one, m * (images.shape[3] / 2))


def _translate(images: Tensor, m: Tensor, dim: int) -> Tensor:
    """By whole pixels, for which nothing has to be interpolated."""
    moved = torch.zeros_like(images)
    size = images.shape[dim]
    for source, target, pixels in zip(images, moved, m.trunc().int().tolist(), strict=True):
        count = max(size - abs(pixels), 0)
        start, end = max(-pixels, 0), max(pixels, 0)
        if count:
            target.narrow(dim - 1, end, count).copy_(source.narrow(dim - 1, start, count))
    return moved


def _rotate(images: Tensor, m: Tensor) -> Tensor:
    """Counter-clockwise by degrees."""
    angle = torch.deg2rad(m.double())
    cos, sin = angle.cos().float(), angle.sin().float()
    none = torch.zeros_like(cos)
    return _warp(images, cos, -sin, none, sin, cos, none)


def _brightness(images: Tensor, m: Tensor) -> Tensor:
    return _eight_bits(images * _by_image(1 + m))


def _color(images: Tensor, m: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else _blended(images, _grey(images), m)


def _contrast(images: Tensor, m: Tensor) -> Tensor:
    grey = _grey(images).to(torch.int64)
    # A sum of whole numbers is the same however it is added up.
    mean = grey.sum((1, 2, 3), keepdim=True).double() / grey[0].numel()
    return _blended(images, mean.float(), m)


def _sharpness(images: Tensor, m: Tensor) -> Tensor:
    height, width = images.shape[2:]
    if min(height, width) <= 2:
        return images
    found = images.float()
    rows = found[:, :, :-2] + found[:, :, 1:-1] + found[:, :, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    inner = found[:, :, 1:-1, 1:-1]
    blurred = ((around + 4 * inner) / 13).round_()
    inner.add_((blurred - inner) * _by_image(-m))
    return _eight_bits(found)


def _posterize(images: Tensor, m: Tensor) -> Tensor:
    bits = m.to(torch.int32)
    mask = ((1 << bits) - 1) << (8 - bits)
    return images & _by_image(mask.to(torch.uint8))


def _solarize(images: Tensor, m: Tensor) -> Tensor:
    inverted = images >= _by_image((255 * m).ceil().to(torch.uint8))
    return images ^ inverted.to(torch.uint8).mul_(255)


def _auto_contrast(images: Tensor, _: Tensor) -> Tensor:
    low, high = (of.float() for of in (images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)))
    flat = low == high
    scale = torch.where(flat, 1.0, (high - low) * (1 / 255))
    return _eight_bits((images - torch.where(flat, 0.0, low)) / scale)


def _equalize(images: Tensor, _: Tensor) -> Tensor:
    """As Pillow does it, each channel by itself."""
    count, channels, height, width = images.shape
    values = images.reshape(count * channels, height * width).long()
    one = torch.ones(1, 1, dtype=torch.int64, device=images.device).expand_as(values)
    seen = torch.zeros(count * channels, 256, dtype=torch.int64, device=images.device)
    seen.scatter_add_(1, values, one)
    below = seen.cumsum(1) - seen
    of_largest = seen.gather(1, values.amax(1, keepdim=True))
    step = (height * width - of_largest) // 255
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device)).to(torch.uint8)
    return table.gather(1, values).view(images.shape)


def _grey(images: Tensor) -> Tensor:
    """Float32 (n, 1, H, W), whole numbers."""
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = images.float().split(1, dim=1)
    return (red * _GREY[0] + green * _GREY[1] + blue * _GREY[2]).floor_()


def _blended(images: Tensor, other: Tensor, m: Tensor) -> Tensor:
    """1 + m parts of the image and -m parts of another one."""
    return _eight_bits(images * _by_image(1 + m) - other * _by_image(m))


def _by_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _eight_bits(images: Tensor) -> Tensor:
    return images.clamp_(0, 255).to(torch.uint8)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": _identity,
    "shear-x": _shear_x,
    "shear-y": _shear_y,
    "translate-x": partial(_translate, dim=3),
    "translate-y": partial(_translate, dim=2),
    "rotate": _rotate,
    "brightness": _brightness,
    "color": _color,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "auto-contrast": _auto_contrast,
    "equalize": _equalize,
}
"""From uint8 (n, K, H, W) and magnitudes, float32 (n,), to the same shape and type."""


@dataclass(frozen=True)
class Policy:
    """How operations are drawn for an image: how many, one after the other, and how much they do at most."""

    times: int
    bin: int | None  # the magnitude of all, in steps; None draws one
    shear: float  # as a slope
    move: Callable[[int], float]  # in pixels, of the side
    turn: float  # in degrees
    blend: float  # of brightness, color, contrast and sharpness
    bits: int  # of eight, that posterize takes away

    def magnitudes(self, size: Size) -> Tensor:
        """Those of each operation at each step, without sign: float32 (14, 31)."""
        height, width = size
        most = {
            "shear-x": self.shear,
            "shear-y": self.shear,
            "translate-x": self.move(width),
            "translate-y": self.move(height),
            "rotate": self.turn,
            **dict.fromkeys(_BLENDED, self.blend),
        }
        steps = {name: torch.linspace(0, top, _BINS) for name, top in most.items()}
        steps["posterize"] = 8 - (torch.arange(_BINS) / ((_BINS - 1) / self.bits)).round()
        steps["solarize"] = torch.linspace(1, 0, _BINS)
        return torch.stack([steps.get(name, torch.zeros(_BINS)) for name in OPERATIONS])

    def draw(self, count: int, size: Size, generator: torch.Generator) -> Choices:
        """What is done to `count` images of this size."""
        shape = (count, self.times)
        kinds = torch.randint(len(OPERATIONS), shape, generator=generator)
        steps = torch.randint(_BINS, shape, generator=generator)
        signs = torch.randint(2, shape, generator=generator) * 2.0 - 1
        if self.bin is not None:
            steps = torch.full_like(steps, self.bin)
        signed = torch.tensor([name in _SIGNED for name in OPERATIONS])
        magnitudes = self.magnitudes(size)[kinds, steps]
        return Choices(kinds, torch.where(signed[kinds], signs * magnitudes, magnitudes))


_BLENDED = ("brightness", "color", "contrast", "sharpness")
_SIGNED = {"shear-x", "shear-y", "translate-x", "translate-y", "rotate", *_BLENDED}

POLICIES: dict[str, Policy] = {
    "trivial": Policy(times=1, bin=None, shear=0.99, move=lambda _: 32.0, turn=135.0, blend=0.99, bits=6),
    "rand": Policy(
        times=2, bin=9, shear=0.3, move=lambda side: 150 / 331 * side, turn=30.0, blend=0.9, bits=4
    ),
}
"""By name."""


def apply(images: Tensor, choices: Choices) -> Tensor:
    """Each image after its operations.

    Args:
        images: uint8 (B, K, H, W), K 1 or 3, on any device; left as they are.
        choices: on the CPU.

    Returns:
        The same shape, dtype and device.

    >>> images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    >>> apply(images, POLICIES["rand"].draw(8, (32, 32), torch.Generator().manual_seed(0))).shape
    torch.Size([8, 3, 32, 32])
    """
    images = images.clone()
    # On a CPU what is worked on is to stay in its cache, which is twice as fast.
    at_once = max(1, _IN_CACHE // images[:1].numel()) if images.device.type == "cpu" else len(images)
    for kinds, magnitudes in zip(choices.kinds.T, choices.magnitudes.T, strict=True):
        for kind, operation in enumerate(OPERATIONS.values()):
            places = torch.nonzero(kinds == kind).flatten()
            if operation is _identity or not len(places):
                continue
            for chosen in places.split(at_once):
                at = chosen.to(images.device)
                images[at] = operation(images[at], magnitudes[chosen].to(images.device))
    return images


class Holes(NamedTuple):
    """Per image the rectangle to erase, int64 (B,) each; nothing where it has no height."""

    tops: Tensor
    lefts: Tensor
    heights: Tensor
    widths: Tensor


_HOLE_SHARE, _HOLE_RATIO, _ATTEMPTS = (0.02, 0.33), (0.3, 3.3), 10


def draw_holes(count: int, size: Size, probability: float, generator: torch.Generator) -> Holes:
    """Random erasing (Zhong et al., 2017) as torchvision has it: rectangles for this share of the images.

    The share of the area is uniform in [0.02, 0.33], the ratio of height to width log-uniform in [0.3, 3.3], the place
    uniform; of ten attempts the first that is smaller than the image counts, and nothing is erased where none is.
    """
    height, width = size
    share, ratio, top, left = torch.rand((4, count, _ATTEMPTS), generator=generator, dtype=torch.float64)
    wanted = torch.rand(count, generator=generator, dtype=torch.float64) < probability
    area = height * width * (_HOLE_SHARE[0] + (_HOLE_SHARE[1] - _HOLE_SHARE[0]) * share)
    low, high = map(math.log, _HOLE_RATIO)
    ratio = torch.exp(low + (high - low) * ratio)
    heights, widths = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (heights < height) & (widths < width)
    boxes = torch.stack(
        [(top * (height - heights + 1)).long(), (left * (width - widths + 1)).long(), heights, widths]
    )
    first = fits.int().argmax(1, keepdim=True)
    boxes = boxes.gather(2, first.expand(4, count, 1)).squeeze(2)
    return Holes(*torch.where(wanted & fits.any(1), boxes, 0))


def erase(images: Tensor, holes: Holes) -> Tensor:
    """Set each image's rectangle to 0, the mean of normalised images, in place; (B, K, H, W) of any dtype."""
    boxes: Sequence[list[int]] = torch.stack(holes).T.tolist()
    for image, (top, left, height, width) in zip(images, boxes, strict=True):
        if height:
            image[:, top : top + height, left : left + width] = 0
    return images
