"""The training methods by name: which there are, what each is, and how one is made."""

from typing import Any

from selftaught import errors
from selftaught.methods.base import KNOWN, Objective

_ORDER = [
    *("ce", "dropout", "ls", "cp"),
    *("le", "le-permut", "le-uniform", "le-teacher"),
    *("kd", "cwtm", "cwtm-permut", "cwtm-random", "dkpp"),
    *("ban", "ban+l", "dml"),
    *("hint", "at", "fsp", "takd"),
    "probe",
]


def names() -> list[str]:
    """The names of the methods, baselines first."""
    return sorted(KNOWN, key=lambda key: (_ORDER.index(key) if key in _ORDER else len(_ORDER), key))


def find(key: str) -> type[Objective]:
    """The class of a method, whose attributes say what the method needs.

    Raises:
        InputError: an unknown method.

    >>> find("kd").learns_from, find("dml").peers, find("probe").head_only, find("le").warms_up_plainly
    ('teacher', 1, True, True)
    """
    if key not in KNOWN:
        raise errors.unknown("method", key, names())
    return KNOWN[key]


def summary(key: str) -> str:
    """A method in one line."""
    return find(key).summary


def settings(key: str) -> dict[str, Any]:
    """A method's own settings and their defaults.

    >>> settings("ls")
    {'alpha': 0.9}
    """
    return find(key).settings()


def create(key: str, **options: Any) -> Objective:
    """A method with its settings.

    Raises:
        InputError: an unknown method, a setting it does not have, or a value out of range.
    """
    return find(key).create(**options)
