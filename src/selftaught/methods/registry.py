"""The training methods by name: which there are, what each is, and how one is made."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from selftaught import errors
from selftaught.files.catalogue import METHODS
from selftaught.methods.base import KNOWN, Method


def names() -> list[str]:
    """The names of the methods, baselines first, those that are registered besides last."""
    return [*METHODS, *sorted(KNOWN.keys() - METHODS.keys())]


def find(key: str) -> type[Method]:
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
    return {name: declared.default for name, declared in find(key).settings().items()}


def check(key: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings of a method before there is a network.

    Raises:
        InputError: an unknown method, a setting it does not have, or a value out of range.
    """
    find(key).check(settings)


def model_options(key: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a method with these settings needs of the model: keyword arguments of `selftaught.models.create`.

    >>> model_options("dropout", {"drop_rate": 0.25}), model_options("ce", {})
    ({'dropout': 0.25}, {})
    """
    return find(key).model_options(settings)


def create(
    key: str,
    model: nn.Module,
    teacher: nn.Module | None = None,
    peers: Sequence[nn.Module] = (),
    example: Tensor | None = None,
    **settings: Any,
) -> Method:
    """A method ready to train `model`; see `Method` for the arguments.

    Raises:
        InputError: an unknown method, a setting it does not have, a value out of range, or a network that is missing.
    """
    return find(key)(model, teacher=teacher, peers=peers, example=example, **settings)
