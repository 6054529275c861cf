"""Test images, saliency maps and large confusion matrices as small pictures inside the page."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

PHOTOGRAPH = 64
"""Colour images whose shorter side has at least so many pixels are photographs: maps are laid over them."""

_PICTURE, _MAP, _MATRIX = 192, 56, 200
"""The longest sides that are kept: more than a page shows only makes it heavy."""

_LEVELS = 16
"""Steps of strength that a map has on either side of zero."""

_AGAINST, _FOR, _RIGHT, _WRONG = (33, 102, 206), (206, 38, 38), (86, 122, 158), (214, 96, 0)


def is_photograph(image: np.ndarray) -> bool:
    """Whether an image (K, H, W) is shown as a photograph."""
    return image.shape[0] == 3 and min(image.shape[1:]) >= PHOTOGRAPH


def picture(image: np.ndarray) -> str:
    """A data: URI of a uint8 image (K, H, W), made smaller where it is large."""
    pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    made = Image.fromarray(np.ascontiguousarray(pixels))
    made.thumbnail((_PICTURE, _PICTURE), Image.Resampling.LANCZOS)
    return _uri(made, "JPEG", quality=85) if is_photograph(image) else _uri(made, "PNG", optimize=True)


def saliency(values: np.ndarray, scale: float) -> str:
    """A data: URI of a map (h, w): red supports, blue speaks against, the stronger the less transparent.

    Args:
        values: float, signed.
        scale: the absolute value that is opaque; the maps of one image share it.
    """
    made = Image.fromarray(np.asarray(values, dtype=np.float32))
    made = made.resize(_fitting(made.size, _MAP), Image.Resampling.BOX)
    strength = np.clip(np.asarray(made) / (scale or 1.0), -1, 1)
    index = np.rint(strength * _LEVELS).astype(np.int16) + _LEVELS
    alphas = [round(255 * abs(level) / _LEVELS) for level in range(-_LEVELS, _LEVELS + 1)]
    colours = [_AGAINST] * _LEVELS + [_FOR] * (_LEVELS + 1)
    paletted = Image.fromarray(index.astype(np.uint8), "P")
    paletted.putpalette([channel for colour in colours for channel in colour])
    return _uri(paletted, "PNG", transparency=bytes(alphas), optimize=True)


def matrix(confusion: np.ndarray) -> str:
    """A data: URI of a confusion matrix (C, C) of counts: right ones blue, mistakes orange, a pixel per class.

    Rows are shares of the true class; mistakes are drawn on a scale of their own, by their square root. Matrices of
    very many classes are averaged down.
    """
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    wrong = shares * (1 - np.eye(len(shares)))
    side = min(len(shares), _MATRIX)
    right, wrong = (
        np.asarray(Image.fromarray(part.astype(np.float32)).resize((side, side), Image.Resampling.BOX))
        for part in (shares - wrong, wrong)
    )
    wrong = np.sqrt(np.clip(wrong, 0, None) / (wrong.max() or 1.0))
    right = np.clip(right / (right.max() or 1.0), 0, 1)
    on_diagonal = right > 0
    rgba = np.empty((side, side, 4), np.uint8)
    rgba[..., :3] = np.where(on_diagonal[..., None], _RIGHT, _WRONG)
    rgba[..., 3] = np.rint(255 * np.where(on_diagonal, right, wrong))
    return _uri(Image.fromarray(rgba, "RGBA"), "PNG", optimize=True)


def _fitting(size: tuple[int, int], longest: int) -> tuple[int, int]:
    shrink = min(1.0, longest / max(size))
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


def _uri(image: Image.Image, form: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
