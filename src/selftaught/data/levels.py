"""Grey values of more than 8 bits: which of them become black and white, for a whole collection alike."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from selftaught.errors import InputError

Levels = tuple[float, float]
"""The value that becomes black (0) and the one that becomes white (255); what lies beyond is clipped."""

WHOLE: Levels = (0, 65535)
"""The levels of every run that says none: all that 16 bits can say."""

_ROWS = 2**20
"""Values scaled at once: a picture of a hundred megapixels is no reason to hold it three times."""

_SAMPLE = 2**22
_OUTLIERS = 0.001
"""The share of a picture's values at either end that may be dead or hot pixels of a detector."""

_STRETCHED = 4
"""Outliers are clipped only where they stretch the range by more than this: else nothing is lost by keeping them."""


class Extent(NamedTuple):
    """A picture's smallest and largest value, and the same without a thousandth of its pixels at either end."""

    smallest: float
    largest: float
    low: float
    high: float


def is_deep(picture: Image.Image) -> bool:
    """Whether a picture is grey and its values have more than 8 bits."""
    return picture.mode in ("I", "F") or picture.mode.startswith("I;16")


def values(picture: Image.Image) -> np.ndarray:
    """The values of a deep picture, (H, W): int32, uint32 or float32.

    Raises:
        ValueError: some are infinite or no numbers.
    """
    if picture.mode == "F":
        found = np.asarray(picture)
        if not np.isfinite(found).all():
            raise ValueError("some of its values are infinite or no numbers")
        return found
    found = np.asarray(picture if picture.mode == "I" else picture.convert("I"))
    # Pillow keeps unsigned 32-bit values of TIFF files as signed ones: the upper half would be negative.
    tags = getattr(picture, "tag_v2", {})
    unsigned = tags.get(258) == (32,) and tags.get(339, (1,)) == (1,)
    return found.view(np.uint32) if unsigned else found


def extent(found: np.ndarray, transparent: float | None = None) -> Extent:
    """Of values (H, W); those that are `transparent` do not count, unless all are."""
    if transparent is not None and (found != transparent).any():
        found = found[found != transparent]
    flat = found.reshape(-1)
    sample = np.sort(flat[:: -(-flat.size // _SAMPLE)])
    last = sample.size - 1
    # At least one value at either end may be an outlier, however small the picture is.
    low = sample[min(max(round(_OUTLIERS * last), 1), last // 2)]
    high = sample[max(last - max(round(_OUTLIERS * last), 1), last - last // 2)]
    return Extent(float(flat.min()), float(flat.max()), float(low), float(high))


def scaled(found: np.ndarray, levels: Levels) -> np.ndarray:
    """Values (H, W) as uint8, to the nearest: `levels` become 0 and 255, and what lies beyond as well."""
    black, white = levels
    rows = max(1, _ROWS // found.shape[1])
    out = np.empty(found.shape, np.uint8)
    for start in range(0, len(found), rows):
        part = (found[start : start + rows].astype(np.float64) - black) * (255 / (white - black))
        out[start : start + rows] = np.clip(np.floor(part + 0.5), 0, 255)
    return out


def fits_eight_bits(levels: Levels) -> bool:
    """Whether `levels` are all that some number of bits can say, as 0 and 255 are of 8 bits."""
    black, white = levels
    return black == 0 and float(white).is_integer() and (int(white) & (int(white) + 1)) == 0


def choose(
    deep: Tensor, extents: Tensor, train: Tensor, name: Callable[[int], str]
) -> tuple[Levels | None, str | None]:
    """Which values become black and white in a collection, and what to tell the user; None where none has to.

    The range is that of the training part, for every part alike. Where pictures of 8 bits are among the others, it is
    all that the least number of bits can say that holds every value, because that is what 0 to 255 are.

    Args:
        deep: bool (N,), which pictures have more than 8 bits.
        extents: float64 (N, 4), see `Extent`, of those that are deep.
        train: int64, the positions of the training part.
        name: what to call a picture.

    Raises:
        InputError: pictures of 8 bits are mixed with such that are not scaled by a number of bits.
    """
    if not deep.any():
        return None, None
    if not deep.all():
        return _of_mixed(deep, extents, name)
    smallest, largest, low, high = (column.tolist() for column in extents[train].T)
    levels, clipped = (min(smallest), max(largest)), ""
    within = (min(low), max(high))
    if within[1] > within[0] and levels[1] - levels[0] > _STRETCHED * (within[1] - within[0]):
        clipped = f"; a few pixels have values as far as {_text(levels[0])} or {_text(levels[1])}, which are clipped"
        levels = within
    if levels[0] == levels[1]:
        levels = (levels[0], levels[0] + 1)
    rest = torch.ones(len(deep), dtype=torch.bool).index_fill(0, train, False)
    slack = (levels[1] - levels[0]) / 255
    beyond = rest & ((extents[:, 2] < levels[0] - slack) | (extents[:, 3] > levels[1] + slack))
    if beyond.any():
        clipped += (
            f"; {int(beyond.sum()):,} of the other {int(rest.sum()):,} pictures go beyond and are clipped"
        )
    return levels, (
        f"the pictures have grey values of more than 8 bits: {_text(levels[0])} to {_text(levels[1])}, the range of "
        f"the training part, become black to white (0 to 255) in all of them{clipped}"
    )


def _of_mixed(deep: Tensor, extents: Tensor, name: Callable[[int], str]) -> tuple[Levels, str]:
    some, example = extents[deep], name(int(deep.int().argmax()))
    whole = torch.equal(some, some.round())
    least, most = some[:, 0].min().item(), some[:, 1].max().item()
    which = f"{int(deep.sum()):,} of {len(deep):,} pictures (such as {example})"
    if not whole or least < 0 or most > 65535:
        raise InputError(
            f"{which} have values from {_text(least)} to {_text(most)} and the others have 8 bits: which of them are "
            "black and white is not known; convert all to 8 bits, or keep only one kind"
        )
    white = 2.0 ** max(8, int(most).bit_length()) - 1
    return (0.0, white), (
        f"{which} have grey values of more than 8 bits, up to {_text(most)}: 0 to {_text(white)} become black to "
        "white, as 0 to 255 do in the others"
    )


def _text(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
