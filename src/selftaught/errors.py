"""What goes wrong, in one line that names the culprit and the remedy."""

import difflib
from collections.abc import Iterable


class SelftaughtError(Exception):
    """Base of every error raised on purpose; its message is one line, fit to be shown to a user."""


class InputError(SelftaughtError, ValueError):
    """The caller's input is wrong: an unknown name, a value out of range, data that cannot be used."""


class ExplanationError(SelftaughtError, RuntimeError):
    """The model cannot be explained as asked: all-zero or non-finite maps, no usable layer, ..."""


class DegenerateMapsError(ExplanationError):
    """The maps of one batch are all zero or not finite; those of another batch or of other weights may be fine."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not among `known`, with the nearest match.

    >>> print(unknown("model", "resnet9", ["mlp", "resnet8"]))
    unknown model 'resnet9': did you mean 'resnet8'? (known: mlp, resnet8)
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f": did you mean {near[0]!r}?" if near else ""
    return InputError(f"unknown {kind} {name!r}{hint} (known: {', '.join(known)})")
