"""The paper's augmentation, for a whole batch at once on whatever device it is.

Sec. 3: "4 pixels are padded on each side, and a 32x32 patch is randomly cropped from the padded images or their
horizontal flip".
"""

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
