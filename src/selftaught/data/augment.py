"""Augmentation of a whole batch at once, on whatever device it is.

`random_crop_flip` is the paper's, Sec. 3: "4 pixels are padded on each side, and a 32x32 patch is randomly cropped from
the padded images or their horizontal flip". `random_resized_crop` is the usual one for photographs (Szegedy et al.,
2015). What is drawn and what is done with it are two functions each, so that an epoch's draws are made at its start.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Placement(NamedTuple):
    """Per image: the patch's first row and column in the padded image, int64 (B,), and whether it is flipped."""

    tops: Tensor
    lefts: Tensor
    flips: Tensor

    def to(self, device: torch.device | str) -> "Placement":
        """The same on another device."""
        return Placement(*(tensor.to(device) for tensor in self))

    def take(self, samples: slice) -> "Placement":
        """Those of some of the images."""
        return Placement(*(tensor[samples] for tensor in self))


def draw(count: int, generator: torch.Generator, padding: int = 4, flip: bool = True) -> Placement:
    """Random placements for `count` images, uniform over all patches; half of them flipped if `flip`."""
    offsets = torch.randint(2 * padding + 1, (2, count), generator=generator)
    flips = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)
    return Placement(offsets[0], offsets[1], flips)


def crop_flip(images: Tensor, placement: Placement, padding: int = 4) -> Tensor:
    """Each image padded with zeros and cropped to its own size at its placement, then mirrored if flipped.

    Args:
        images: (B, K, H, W), of any dtype.
        placement: on the images' device, offsets in 0..2·padding.
        padding: pixels on each side.

    Returns:
        The same shape and dtype.
    """
    batch, channels, height, width = images.shape
    padded = F.pad(images, [padding] * 4)
    rows = placement.tops[:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    columns = torch.where(placement.flips[:, None], width - 1 - columns, columns) + placement.lefts[:, None]
    # One gather over flattened pixels: on a CPU seven times as fast as indexing with four tensors.
    pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    index = pixels.view(batch, 1, height * width).expand(batch, channels, height * width)
    return padded.flatten(2).gather(2, index).view(images.shape)


def random_crop_flip(
    images: Tensor, generator: torch.Generator, padding: int = 4, flip: bool = True
) -> Tensor:
    """Random crops of the padded images or of their mirror images, each image its own.

    Args:
        images: uint8 (B, K, H, W) on any device.
        generator: on the CPU, so that all devices draw the same.
        padding: pixels of zeros on each side; 0 crops nothing.
        flip: mirror each image with probability 1/2.

    Returns:
        The same shape, dtype and device.

    >>> images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    >>> random_crop_flip(images, torch.Generator().manual_seed(0)).shape
    torch.Size([8, 3, 32, 32])
    """
    return crop_flip(images, draw(len(images), generator, padding, flip).to(images.device), padding)


_RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
_PART = 2**16


class Boxes(NamedTuple):
    """Per image: the rectangle to cut out, int64 (B,) each, and whether it is flipped."""

    tops: Tensor
    lefts: Tensor
    heights: Tensor
    widths: Tensor
    flips: Tensor

    def to(self, device: torch.device | str) -> "Boxes":
        """The same on another device."""
        return Boxes(*(tensor.to(device) for tensor in self))

    def take(self, samples: slice) -> "Boxes":
        """Those of some of the images."""
        return Boxes(*(tensor[samples] for tensor in self))


def draw_boxes(
    count: int, size: tuple[int, int], generator: torch.Generator, min_scale: float = 0.08, flip: bool = True
) -> Boxes:
    """Random rectangles for `count` images of one `size` (height, width), as torchvision's RandomResizedCrop has them.

    The share of the image's area is uniform in [`min_scale`, 1], the ratio of width to height log-uniform in
    [3/4, 4/3], the place uniform. Of ten attempts the first that fits is taken; where none does, the largest
    rectangle in the middle whose ratio is in range.
    """
    # In parts, so that a million images do not take a gigabyte of attempts.
    parts = [
        _draw_boxes(min(_PART, count - start), size, generator, min_scale, flip)
        for start in range(0, max(count, 1), _PART)
    ]
    return Boxes(*map(torch.cat, zip(*parts, strict=True)))


def _draw_boxes(
    count: int, size: tuple[int, int], generator: torch.Generator, min_scale: float, flip: bool
) -> Boxes:
    height, width = size
    share, ratio, top, left = torch.rand((4, count, _ATTEMPTS), generator=generator, dtype=torch.float64)
    flips = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)
    area = height * width * (min_scale + (1 - min_scale) * share)
    ratio = torch.exp(math.log(_RATIO[0]) + (math.log(_RATIO[1]) - math.log(_RATIO[0])) * ratio)
    widths, heights = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.int().argmax(1, keepdim=True)
    boxes = torch.stack(
        [(top * (height - heights + 1)).long(), (left * (width - widths + 1)).long(), heights, widths]
    )
    boxes = boxes.gather(2, first.expand(4, count, 1)).squeeze(2)
    boxes[:, ~fits.any(1)] = torch.tensor(_middle(height, width))[:, None]
    tops, lefts, heights, widths = boxes
    return Boxes(tops, lefts, heights, widths, flips)


def _middle(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of the largest rectangle in the middle with a ratio in range."""
    h = min(height, round(width / _RATIO[0]))
    w = min(width, round(height * _RATIO[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def resized_crop(images: Tensor, boxes: Boxes) -> Tensor:
    """Each image's box enlarged (bilinear) to the whole image's size, then mirrored if flipped.

    Args:
        images: uint8 (B, K, H, W).
        boxes: on the images' device, inside the images.

    Returns:
        The same shape and dtype.
    """
    batch, _, height, width = images.shape
    rows = _sources(height, boxes.tops, boxes.heights)
    columns = _sources(width, boxes.lefts, boxes.widths)
    columns = torch.where(boxes.flips[:, None], columns.flip(1), columns)
    grid = torch.stack(
        [columns[:, None, :].expand(batch, height, width), rows[:, :, None].expand(batch, height, width)],
        dim=3,
    )
    enlarged = F.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return enlarged.round_().clamp_(0, 255).to(torch.uint8)


def _sources(size: int, starts: Tensor, lengths: Tensor) -> Tensor:
    """Where each of an axis's `size` pixels comes from, in `grid_sample`'s coordinates: (B, size).

    Kept between the centres of the box's outermost pixels: nothing outside of the box is seen.
    """
    centres = (torch.arange(size, device=starts.device) + 0.5) * (lengths[:, None] / size) - 0.5
    inside = starts[:, None] + torch.minimum(centres.clamp(min=0), lengths[:, None] - 1)
    return (2 * inside + 1) / size - 1


def random_resized_crop(
    images: Tensor, generator: torch.Generator, min_scale: float = 0.08, flip: bool = True
) -> Tensor:
    """Random parts of the images, enlarged to the images' size and half of them mirrored, each image its own.

    Args:
        images: uint8 (B, K, H, W) on any device.
        generator: on the CPU, so that all devices draw the same.
        min_scale: the smallest share of the image's area, in (0, 1].
        flip: mirror each image with probability 1/2.

    Returns:
        The same shape, dtype and device.

    >>> images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    >>> random_resized_crop(images, torch.Generator().manual_seed(0)).shape
    torch.Size([8, 3, 32, 32])
    """
    height, width = images.shape[2:]
    boxes = draw_boxes(len(images), (height, width), generator, min_scale, flip)
    return resized_crop(images, boxes.to(images.device))
