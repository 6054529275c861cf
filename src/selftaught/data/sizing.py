"""Which size and how many channels the images get, and how much memory that may take."""

import math
import os
import statistics

import psutil

from selftaught.data.decoding import Format, Survey
from selftaught.data.preparation import Preparation
from selftaught.errors import InputError

_LONGEST = 64
"""Larger pictures are made smaller unless somebody asks for their size: training on a CPU stays possible."""


def settle(
    asked: tuple[int, int] | None, preparation: Preparation, usual: tuple[int, int] | None, survey: Survey
) -> tuple[Format, str | None]:
    """What the pictures become, and what to tell the user about it.

    The size is what the user `asked` for, else what the model does, else the source's `usual` one, else that of the
    pictures if they all have one and it is small, else a square. Channels are 1 where all pictures are grey, else 3.
    """
    channels = preparation.channels or (1 if survey.grey.all() else 3)
    size, note = asked or preparation.size or usual, None
    sizes = {(h, w) for h, w in survey.sizes.tolist()}
    if size is None:
        size = _own(sizes, survey)
        if sizes != {size}:
            note = f"{_range(sizes)} are resized to {_text(size)}: --image-size chooses another"
    elif not asked and preparation.size and sizes != {size}:
        how = "resized" if preparation.crop is None else "scaled and cropped"
        note = f"{_range(sizes)} are {how} to {_text(size)}, as the model asks"
    form = Format((channels, *size), preparation.crop, preparation.resample, preparation.stretch)
    return form, note


def budget(memory: int | None = None) -> int:
    """How many bytes of decoded images may be held: `memory`, ``$SELFTAUGHT_MEMORY`` GiB, or half of what is free."""
    if memory is not None:
        return memory
    asked = os.environ.get("SELFTAUGHT_MEMORY")
    if asked is None:
        return psutil.virtual_memory().available // 2
    try:
        gib = float(asked)
    except ValueError:
        gib = math.nan
    if not 0 <= gib < math.inf:
        raise InputError(f"SELFTAUGHT_MEMORY is {asked!r} but should be a number of GiB, such as 4 or 0.5")
    return int(gib * 2**30)


def _own(sizes: set[tuple[int, int]], survey: Survey) -> tuple[int, int]:
    if len(sizes) == 1:
        (only,) = sizes
        if max(only) <= _LONGEST:
            return only
    side = min(_LONGEST, statistics.median_low(survey.sizes.amin(1).tolist()))
    return side, side


def _range(sizes: set[tuple[int, int]]) -> str:
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    if len(sizes) == 1:
        return f"pictures of {_text(by_area[0])} pixels (height x width)"
    return f"pictures of {len(sizes):,} sizes, from {_text(by_area[0])} to {_text(by_area[-1])} (height x width),"


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
