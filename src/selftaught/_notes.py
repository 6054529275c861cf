"""Warnings that point to the line of a user's program that led to them."""

import sys
import warnings
from pathlib import Path
from types import FrameType

import torch

from selftaught.errors import Note

_OURS = str(Path(__file__).parent) + "/"
_BETWEEN = (_OURS, str(Path(torch.__file__).parent) + "/")
"""Where what lies between a user's line and us lies: a module is called by way of torch."""


def note(message: str) -> None:
    """Warn; the line that is named is the one that called this package, and not one of its own."""
    warnings.warn(message, Note, stacklevel=_depth() + 1)


def _depth() -> int:
    """How many calls above the caller's the user's line is: the first one outside, past the last one of ours."""
    files = list[str]()
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    ours = [number for number, file in enumerate(files) if file.startswith(_OURS)]
    outside = [number for number in range(ours[-1] + 1, len(files)) if not files[number].startswith(_BETWEEN)]
    # Where all is ours, as in the command line, the innermost does as well as any.
    return 1 + (outside[0] if outside else 0)
