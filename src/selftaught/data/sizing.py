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
    sizes = {(h, w) for h, w in survey.sizes.tolist()}
    size = asked or preparation.size or usual or _own(sizes, survey)
    form = Format((channels, *size), preparation.crop, preparation.resample, preparation.stretch)
    return form, _note(form, sizes, asked, preparation.size, usual)


def _note(
    form: Format,
    sizes: set[tuple[int, int]],
    asked: tuple[int, int] | None,
    of_model: tuple[int, int] | None,
    usual: tuple[int, int] | None,
) -> str | None:
    """What becomes of pictures that do not have the input's size: None where they all have it, or nobody need know."""
    size = form.shape[1:]
    if sizes == {size} and form.crop in (None, 1.0):
        return None
    if asked:
        why = (
            ", as --image-size asks"
            if of_model in (None, asked)
            else f", not the model's own {_text(of_model)}"
        )
    elif of_model:
        why = ", as the model asks"
    elif usual:
        return None
    else:
        why = ": --image-size chooses another"
    how, part = _how(form, sizes)
    return f"{_range(sizes)} are {how} to {_text(size)}{part}{why}"


def _how(form: Format, sizes: set[tuple[int, int]]) -> tuple[str, str]:
    """What is done to pictures of these sizes, and which part of them is left."""
    (height, width), share = form.shape[1:], form.crop
    if share is None or (form.stretch and share == 1):
        return ("stretched" if any(h * width != w * height for h, w in sizes) else "resized"), ""
    if form.stretch:
        return "stretched and cropped", f" (the middle, {100 * share:g} % of each side)"
    side = f"{100 * share:g} % of" if share < 1 else "all of"
    return "scaled and cropped", f" (the middle, {side} the shorter side)"


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
