"""Encoded pictures (PNG, JPEG, WebP, ...) to uint8 arrays of one size."""

import io

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

# Raise when the same bytes start to give other pixels, so that no cache keeps the old ones.
VERSION = 1

_GREY = {"1", "L", "LA", "La"}


def decode(blob: bytes, size: tuple[int, int] | None = None, channels: int | None = None) -> np.ndarray:
    """The pixels of one encoded picture: uint8 (H, W) if it is grey, else (H, W, 3).

    `channels`, 1 or 3, asks for one of the two. Rotated as its EXIF tag says, transparency dropped, resized to
    `size` (height, width) as `resize` does. Raises ValueError, with the reason, where the bytes are no picture of
    8 bits per channel.
    """
    try:
        with Image.open(io.BytesIO(blob)) as picture:
            picture.load()
            if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
                raise ValueError(
                    f"its pixels have more than 8 bits (mode {picture.mode!r}): convert it to 8 bits"
                )
            if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                picture = ImageOps.exif_transpose(picture)
            grey = picture.mode in _GREY if channels is None else channels == 1
            return resize(picture.convert("L" if grey else "RGB"), size)
    except Exception as error:  # Pillow's plug-ins raise whatever their parsers do
        raise ValueError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def resize(picture: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    """The picture as uint8 (H, W) or (H, W, 3), of the given (height, width); bilinear, anti-aliased."""
    if size and (picture.height, picture.width) != size:
        picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def stack(arrays: list[np.ndarray]) -> Tensor:
    """Arrays of one height and width as uint8 (N, K, H, W): K is 1 if all are grey, else 3."""
    if any(array.ndim == 3 for array in arrays):
        arrays = [array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2) for array in arrays]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    return torch.from_numpy(np.stack(arrays))[:, None]
