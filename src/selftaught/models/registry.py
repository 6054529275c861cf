"""Which models exist: a name (or a family of numbered names) and the function that builds each."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from selftaught.errors import unknown
from selftaught.models.classifier import Classifier


class Spec(NamedTuple):
    """What a model is built for: validated by `selftaught.models.create`."""

    num_classes: int
    in_channels: int
    height: int
    width: int
    dropout: float


Builder = Callable[[Spec], Classifier]


@dataclass(frozen=True)
class Architecture:
    """A model that can be built. `spatial`: its features are maps (B, K, H, W), so Grad-CAM applies."""

    build: Builder
    summary: str
    spatial: bool


_ARCHITECTURES: dict[str, Architecture] = {}
_FAMILIES: dict[str, Callable[[int], Architecture]] = {}


def register(name: str, summary: str, spatial: bool = True) -> Callable[[Builder], Builder]:
    """Decorator: the function builds the model called `name`."""

    def add(build: Builder) -> Builder:
        _ARCHITECTURES[name] = Architecture(build, summary, spatial)
        return build

    return add


def register_family(
    prefix: str, *listed: int
) -> Callable[[Callable[[int], Architecture]], Callable[[int], Architecture]]:
    """Decorator: the function makes the architecture `prefix` + number, or raises InputError.

    The `listed` numbers appear among the names; any other number the function accepts works too.
    """

    def add(architecture: Callable[[int], Architecture]) -> Callable[[int], Architecture]:
        _FAMILIES[prefix] = architecture
        _ARCHITECTURES.update({f"{prefix}{number}": architecture(number) for number in listed})
        return architecture

    return add


def names() -> list[str]:
    """The listed models.

    >>> names()[:5]
    ['cnn6', 'cnn8', 'cnn10', 'mlp', 'resnet8']
    """
    return list(_ARCHITECTURES)


def find(name: str) -> Architecture:
    """The architecture called `name`; InputError, with the nearest match, where there is none."""
    if name in _ARCHITECTURES:
        return _ARCHITECTURES[name]
    for prefix, architecture in _FAMILIES.items():
        if match := re.fullmatch(re.escape(prefix) + "([1-9][0-9]{0,3})", name):
            return architecture(int(match[1]))
    raise unknown("model", name, names())
