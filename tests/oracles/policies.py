"""The operations of augmentation policies by Pillow, one image (K, H, W) at a time.

Each gives the result and, bool (H, W), where Pillow's rules for what lies beside the image do not matter.
"""

import math

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps


def _picture(image):
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def _array(picture):
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _everywhere(change):
    def operation(image, magnitude):
        return _array(change(_picture(image), magnitude)), np.ones(image.shape[1:], dtype=bool)

    return operation


def _affine(coefficients):
    """Looked up at (a·x + b·y + c, d·x + e·y + f), by the middle of a pixel."""

    def operation(image, magnitude):
        height, width = image.shape[1:]
        a, b, c, d, e, f = coefficients(magnitude, height, width)
        found = _picture(image).transform(
            (width, height), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
        )
        y, x = np.mgrid[:height, :width] + 0.5
        u, v = a * x + b * y + c, d * x + e * y + f
        inside = (u > 1) & (u < width - 1) & (v > 1) & (v < height - 1)
        outside = (u < -1) | (u > width + 1) | (v < -1) | (v > height + 1)
        return _array(found), inside | outside

    return operation


def _turned(angle, height, width):
    """Counter-clockwise around the middle; y points downwards."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y = width / 2, height / 2
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y


def _enhanced(kind):
    return _everywhere(lambda picture, m: kind(picture).enhance(1 + m))


def _sharpened(picture, m):
    """`ImageEnhance.Sharpness`, but for the border, which Pillow blends with itself."""
    return Image.blend(picture.filter(ImageFilter.SMOOTH), picture, 1 + m)


OPERATIONS = {
    "identity": _everywhere(lambda picture, m: picture),
    "shear-x": _affine(lambda m, h, w: (1, m, 0, 0, 1, 0)),
    "shear-y": _affine(lambda m, h, w: (1, 0, 0, m, 1, 0)),
    "translate-x": _affine(lambda m, h, w: (1, 0, -int(m), 0, 1, 0)),
    "translate-y": _affine(lambda m, h, w: (1, 0, 0, 0, 1, -int(m))),
    "rotate": _affine(_turned),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "color": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "sharpness": _everywhere(_sharpened),
    "posterize": _everywhere(lambda picture, m: ImageOps.posterize(picture, int(m))),
    "solarize": _everywhere(lambda picture, m: ImageOps.solarize(picture, math.ceil(255 * m))),
    "auto-contrast": _everywhere(lambda picture, m: ImageOps.autocontrast(picture)),
    "equalize": _everywhere(lambda picture, m: ImageOps.equalize(picture)),
}
