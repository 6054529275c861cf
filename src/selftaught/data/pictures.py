"""Encoded pictures (PNG, JPEG, WebP, TIFF, ...) to uint8 arrays."""

import importlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from selftaught.data import levels, mending
from selftaught.data.levels import Extent
from selftaught.data.preparation import Preparation

# Raise when the same bytes start to give other pixels, so that no cache keeps the old ones.
VERSION = 3

_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""What Pillow knows but hands to other programs (IPTC: whatever lies inside it), or does not decode at all."""

_GREY = {"1", "L", "LA", "La", "I", "F"}  # and the 16-bit I;16, I;16B, ...

HEIC = {".heic", ".heif", ".hif"}
"""Suffixes of what telephones take pictures in, which Pillow reads with the package pillow-heif alone."""

HEIC_ADVICE = "convert it to JPEG or PNG, or 'pip install pillow-heif' to have it read"

_KNOWN = {
    rb"(?s).{4}ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)": f"it is a HEIC picture: {HEIC_ADVICE}",
    rb"%PDF": "it is a PDF document",
    rb"(?is)\s*(<\?xml.{0,300})?<svg": "it is an SVG drawing",
    rb"(?is)\s*<(!doctype )?html": "it is a web page, perhaps of a download that failed",
}
"""What is met under the names of pictures, by how it begins."""

_SEVERAL = {"AVIF", "GIF", "PNG", "TIFF", "WEBP"}
"""Formats whose further frames are pictures of their own; an MPO's are the same one as another camera saw it."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its EXIF orientation. From 5 on its sides change places."""


class Header(NamedTuple):
    """What a picture says of itself before it is decoded.

    Attributes:
        height: when it is upright.
        width: likewise.
        grey: whether it has one channel.
        deep: whether it is grey and its values have more than 8 bits.
        coarse: whether it has colour channels of 16 bits, of which Pillow gives the upper 8.
        several: whether it is the first one of several frames or pages.
    """

    height: int
    width: int
    grey: bool
    deep: bool
    coarse: bool
    several: bool


def formats() -> list[str]:
    """The formats that are decoded, by Pillow's names for them; Pillow itself decodes each in this process.

    Where the package pillow-heif is installed HEIC is among them.
    """
    Image.init()
    _register_heif()
    return [kind for kind in Image.ID if kind in Image.OPEN and kind not in _NOT_DECODED]


def header(blob: bytes) -> Header:
    """Size and kind of an encoded picture, without decoding it. Raises ValueError where it is none."""
    with _opened(blob) as picture:
        # Not the plug-in's own `getexif`: for a PNG it decodes the picture. That for TIFF has turned the size already.
        turn = 1 if picture.format == "TIFF" else _orientation(Image.Image.getexif, picture)
        sideways = turn in (5, 6, 7, 8)
        size = (picture.width, picture.height) if sideways else (picture.height, picture.width)
        deep = levels.is_deep(picture)
        return Header(
            *size, _is_grey(picture), deep, not deep and _sixteen_bits(picture, blob), _several(picture)
        )


def extent(blob: bytes) -> Extent:
    """Between which values those of a picture of more than 8 bits lie. Raises ValueError as `decode` does."""
    with _opened(blob) as picture:
        picture.load()
        return levels.extent(levels.values(picture), picture.info.get("transparency"))


def decode(blob: bytes, preparation: Preparation = Preparation()) -> np.ndarray:  # noqa: B008  (it is frozen)
    """The pixels of one encoded picture: uint8 (H, W) if it is grey, else (H, W, 3).

    `preparation.channels`, 1 or 3, asks for one of the two. The picture is turned as its EXIF orientation says, of
    an animation the first frame is taken, transparency is laid over white, values of more than 8 bits are scaled to 8
    bits by `preparation.levels`. Then it is brought to `preparation.size`: stretched, or scaled and cut, see
    `Preparation`.

    Raises:
        ValueError: with the reason, where the bytes are no picture, a damaged one, one of more than twice Pillow's
            `MAX_IMAGE_PIXELS` (refused unread), or one whose black and white nobody knows: without levels that of
            floating-point or 32-bit values, with levels that of 8 bits, unless the levels are all of some bits.
    """
    return decode_several(blob, [preparation])[0][0]


def decode_several(blob: bytes, preparations: Sequence[Preparation]) -> tuple[list[np.ndarray], bool]:
    """As `decode`, once for several preparations that agree in channels and levels.

    Also whether the file lacks its end, though none of its pixels, see `mending.with_end`.
    """
    try:
        return _decode(blob, preparations), mending.lacks_end(blob)
    except ValueError:
        # Compared at full size: a lost corner would hardly show in a picture made small.
        whole = [Preparation(levels=preparations[0].levels)]
        mended = mending.with_end(blob, lambda content: _decode(content, whole)[0])
        if mended is None:
            raise
        return _decode(mended, preparations), True


def _decode(blob: bytes, preparations: Sequence[Preparation]) -> list[np.ndarray]:
    preparation = preparations[0]
    with _opened(blob) as picture:
        picture.load()
        grey = _is_grey(picture) if preparation.channels is None else preparation.channels == 1
        turn = _UPRIGHT.get(_orientation(type(picture).getexif, picture))
        flat = _opaque(_eight_bits(picture, preparation.levels)).convert("L" if grey else "RGB")
        upright = flat if turn is None else flat.transpose(turn)
        return [np.asarray(_fit(upright, one)) for one in preparations]


def stack(arrays: list[np.ndarray]) -> Tensor:
    """Arrays of one height and width as uint8 (N, K, H, W): K is 1 if all are grey, else 3."""
    if any(array.ndim == 3 for array in arrays):
        arrays = [array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2) for array in arrays]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    return torch.from_numpy(np.stack(arrays))[:, None]


@contextmanager
def _opened(blob: bytes) -> Iterator[Image.Image]:
    """The picture, not yet decoded; whatever goes wrong with it is a ValueError of one line."""
    if not blob:
        raise ValueError("it is empty")
    with warnings.catch_warnings():
        # Odd metadata of some picture is nothing that a user could act on, many pixels (Pillow's warning) are fine.
        warnings.simplefilter("ignore")
        try:
            content = io.BytesIO(mending.without_large_texts(blob))
            with Image.open(content, formats=formats()) as picture:
                yield picture
        except UnidentifiedImageError:
            raise ValueError(_no_picture(blob)) from None
        except Image.DecompressionBombError as error:
            raise ValueError(_too_large(error)) from None
        except Exception as error:  # Pillow's plug-ins raise whatever their parsers do
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(reason) from error


@lru_cache(maxsize=1)
def _register_heif() -> None:
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()


def _no_picture(blob: bytes) -> str:
    named = (what for beginning, what in _KNOWN.items() if re.match(beginning, blob[:512]))
    return next(named, "it is not a picture in any format that can be decoded")


def _sixteen_bits(picture: Image.Image, blob: bytes) -> bool:
    """Whether a picture of 8 bits was one of 16 in its file."""
    if picture.format == "PNG":
        return blob[24] == 16
    bits = getattr(picture, "tag_v2", {}).get(258, ())
    return max(bits, default=8) == 16


def _several(picture: Image.Image) -> bool:
    try:
        return picture.format in _SEVERAL and bool(getattr(picture, "is_animated", False))
    except Exception:  # a broken second frame is not looked at
        return False


def _too_large(error: Image.DecompressionBombError) -> str:
    """Pillow tells the number of pixels, and the most that it takes, in its message alone."""
    found, most = [f"{int(number) / 1e6:.4g}" for number in re.findall(r"\d+", str(error))]
    return f"it has {found} megapixels, and {most} is the most that is read: scale it down"


def _is_grey(picture: Image.Image) -> bool:
    return picture.mode in _GREY or picture.mode.startswith("I;16")


def _orientation(getexif: Callable[..., Any], picture: Image.Image) -> int:
    """1..8; 1, upright, where the EXIF data is missing or broken: the pixels are good all the same."""
    try:
        return getexif(picture).get(ExifTags.Base.Orientation, 1)
    except Exception:  # the parser meets whatever a camera or an editor left there
        return 1


def _eight_bits(picture: Image.Image, chosen: levels.Levels | None) -> Image.Image:
    """The picture with values of at most 8 bits, to the nearest; without `chosen` levels those of 16 bits."""
    if not levels.is_deep(picture):
        if chosen and not levels.fits_eight_bits(chosen):
            raise ValueError(
                f"its values have 8 bits, but the network was trained on pictures of more, of which {chosen[0]:g} to "
                f"{chosen[1]:g} became black to white: give it as it was before it was converted"
            )
        return _lab_to_rgb(picture) if picture.mode == "LAB" else picture
    if picture.mode == "F" and not chosen:
        raise ValueError("its pixels are floating-point numbers: convert it to 8 or 16 bits")
    values = levels.values(picture)
    # Pillow reads 16-bit PNG and PGM files as mode I, too; real 32-bit values show themselves by their range.
    if not chosen and (values.min() < 0 or values.max() > 65535):
        raise ValueError("its pixels have 32 bits: convert it to 8 or 16 bits")
    scaled = levels.scaled(values, chosen or levels.WHOLE)
    if "transparency" in picture.info:
        scaled[values == picture.info["transparency"]] = 255  # over white, as in `_opaque`
    return Image.fromarray(scaled)


def _lab_to_rgb(picture: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
    assert converted is not None  # it is None only where the picture is changed in place
    return converted


def _opaque(picture: Image.Image) -> Image.Image:
    """Laid over white, as a browser's page or paper would show it.

    Dropping the alpha channel instead would bring out colours that nobody has seen, often black.
    """
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def _fit(picture: Image.Image, preparation: Preparation) -> Image.Image:
    """The picture at the preparation's size, anti-aliased where it becomes smaller."""
    size = preparation.size
    if size is None:
        return picture
    if preparation.crop is None:
        return _resize(picture, size, preparation.resample)
    (height, width), (h, w) = size, (picture.height, picture.width)
    # The side that binds is rounded, the other one follows and is cut off: what torchvision and transformers do.
    if preparation.stretch:
        h, w = round(height / preparation.crop), round(width / preparation.crop)
    elif height * w >= width * h:
        h, w = round(height / preparation.crop), round(height / preparation.crop) * w // h
    else:
        h, w = round(width / preparation.crop) * h // w, round(width / preparation.crop)
    if Image.MAX_IMAGE_PIXELS and h * w > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{picture.height}x{picture.width} pixels are too long and narrow to be cropped")
    picture = _resize(picture, (h, w), preparation.resample)
    top, left = (h - height) // 2, (w - width) // 2
    return picture.crop((left, top, left + width, top + height))


def _resize(picture: Image.Image, size: tuple[int, int], resample: str) -> Image.Image:
    if (picture.height, picture.width) == size:
        return picture
    return picture.resize((size[1], size[0]), Image.Resampling[resample.upper()])
