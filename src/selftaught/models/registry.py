"""Which models exist: a name, or a pattern that names match, and what makes the model from it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from selftaught.data.preparation import Preparation
from selftaught.errors import InputError, unknown


class Spec(NamedTuple):
    """What a model is built for: validated by `selftaught.models.create`.

    `description` is what `selftaught.models.description` gave for a trained model whose own files may be gone.
    """

    num_classes: int
    in_channels: int
    height: int
    width: int
    dropout: float
    description: dict[str, Any] | None = None


Builder = Callable[[Spec], nn.Module]


@dataclass(frozen=True)
class Architecture:
    """A model that can be built.

    Attributes:
        build: makes it, initialised from torch's global generator.
        summary: one line about it.
        spatial: its features are maps, so Grad-CAM applies.
        preparation: what it asks of its images.
        fingerprint: SHA-256 of what defines and initialises it, "" where its name says it all.
        pretrained: whether it starts from trained weights.
        runs_code: building it runs the user's own code.
        located: its name, with the path in it made absolute; None where it has none.
        source: the user's own code, None where there is none.
    """

    build: Builder
    summary: str
    spatial: bool
    preparation: Callable[[], Preparation] = Preparation
    fingerprint: Callable[[], str] = str
    pretrained: Callable[[], bool] = bool
    runs_code: bool = False
    located: str | None = None
    source: Callable[[], bytes] | None = None


_ARCHITECTURES: dict[str, Architecture] = {}
_PATTERNS: dict[re.Pattern[str], Callable[..., Architecture]] = {}


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
        register_pattern(re.escape(prefix) + "([1-9][0-9]{0,3})")(lambda number: architecture(int(number)))
        _ARCHITECTURES.update({f"{prefix}{number}": architecture(number) for number in listed})
        return architecture

    return add


def register_pattern(
    pattern: str,
) -> Callable[[Callable[..., Architecture]], Callable[..., Architecture]]:
    """Decorator: the function makes an architecture from the groups of a name that the pattern matches as a whole."""

    def add(architecture: Callable[..., Architecture]) -> Callable[..., Architecture]:
        _PATTERNS[re.compile(pattern)] = architecture
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
    for pattern, architecture in _PATTERNS.items():
        if match := pattern.fullmatch(name):
            return architecture(*match.groups())
    raise InputError(
        f"{unknown('model', name, names())}; a model of transformers is hf:FOLDER or hf:HUB_ID, "
        "one of your own FILE.py:FUNCTION"
    )
