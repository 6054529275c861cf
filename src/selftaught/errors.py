"""What goes wrong, in one line that names the culprit and the remedy."""

import difflib
from collections.abc import Iterable, Sequence


class SelftaughtError(Exception):
    """Base of every error raised on purpose; its message is one line, fit to be shown to a user."""


class InputError(SelftaughtError, ValueError):
    """The caller's input is wrong: an unknown name, a value out of range, data that cannot be used."""


class ExplanationError(SelftaughtError, RuntimeError):
    """The model cannot be explained as asked: all-zero or non-finite maps, no usable layer, ..."""


class DegenerateMapsError(ExplanationError):
    """The maps of one batch are all zero or not finite; those of another batch or of other weights may be fine."""


class ShortcutError(SelftaughtError, RuntimeError):
    """A shortcut to Grad-CAM's weights did not hold in steps that a CUDA graph replayed: take them again."""


class Note(UserWarning):
    """What is doubtful about a use of this package, though nothing is wrong."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not among `known`, with the nearest match, whatever its case.

    >>> print(unknown("model", "resnet9", ["mlp", "resnet8"]))
    unknown model 'resnet9': did you mean 'resnet8'? (known: mlp, resnet8)
    """
    known = list(known)
    if not known:
        return InputError(f"unknown {kind} {name!r}: there is none at all")
    separator = "; " if any("," in candidate for candidate in known) else ", "
    folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(str(name).casefold(), folded, n=1)
    hint = f": did you mean {folded[near[0]]!r}?" if near else ""
    return InputError(f"unknown {kind} {name!r}{hint} (known: {separator.join(known)})")


def shown(name: object) -> str:
    """A path, name or message as printable text on one line, whatever it is made of: a terminal acts on nothing in it.

    >>> shown("a\\x1b[31m.png")
    'a\ufffd[31m.png'
    """
    return "".join(character if character.isprintable() else "\ufffd" for character in str(name))


def together(problems: Sequence[str]) -> str:
    """Several one-line problems as one line: the first five, and how many more.

    >>> together(["a is empty: remove it", "b is no image: remove it"])
    'a is empty: remove it; b is no image: remove it'
    """
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return "; ".join(problems[:5]) + more


def listed(names: Sequence[str]) -> str:
    """Names for a message: the first five, and how many more.

    >>> listed(["a", "b"]), listed(["0", "1", "2", "3", "4", "5"])
    ('a, b', '0, 1, 2, 3, 4 and 1 more')
    """
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
