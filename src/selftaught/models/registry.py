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
    Unless it is `pretrained`, the model's weights are about to be replaced, and those that it starts from may be gone.
    """

    num_classes: int
    in_channels: int
    height: int
    width: int
    dropout: float
    description: dict[str, Any] | None = None
    pretrained: bool = True


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
        declared: whether somebody has said so, or that it does not; else it shows when it is built.
        runs_code: building it runs the user's own code.
        located: its name, with the path in it made absolute; None where it has none.
        source: the user's own code, None where there is none.
        rebuilds: whether a finished run's model is made without the files that it started from, given that its code
            has not changed.
        notes: what a user should know of how it starts, one line each.
    """

    build: Builder
    summary: str
    spatial: bool
    preparation: Callable[[], Preparation] = Preparation
    fingerprint: Callable[[], str] = str
    pretrained: Callable[[], bool] = bool
    declared: Callable[[], bool] = lambda: True
    runs_code: bool = False
    located: str | None = None
    source: Callable[[], bytes] | None = None
    rebuilds: Callable[[], bool] = bool
    notes: Callable[[], tuple[str, ...]] = tuple


_ARCHITECTURES: dict[str, Architecture] = {}
_PATTERNS: dict[re.Pattern[str], tuple[Callable[..., Architecture], bool]] = {}


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
    pattern: str, takes_weights: bool = False
) -> Callable[[Callable[..., Architecture]], Callable[..., Architecture]]:
    """Decorator: the function makes an architecture from the groups of a name that the pattern matches as a whole.

    One that `takes_weights` gets after them the path of a file of weights, or None for its own.
    """

    def add(architecture: Callable[..., Architecture]) -> Callable[..., Architecture]:
        _PATTERNS[re.compile(pattern)] = architecture, takes_weights
        return architecture

    return add


def names() -> list[str]:
    """The listed models.

    >>> names()[:5]
    ['cnn6', 'cnn8', 'cnn10', 'mlp', 'resnet8']
    """
    return list(_ARCHITECTURES)


def find(name: str, weights: str | None = None) -> Architecture:
    """The architecture called `name`, which starts from the file of `weights` if there is one.

    Raises:
        InputError: there is no such model, with the nearest match; or it takes no file of weights.
    """
    found = _ARCHITECTURES.get(name)
    for pattern, (architecture, takes_weights) in _PATTERNS.items() if found is None else ():
        if match := pattern.fullmatch(name):
            if takes_weights:
                return architecture(*match.groups(), weights)
            found = architecture(*match.groups())
            break
    if found is None:
        raise InputError(
            f"{unknown('model', name, names())}; a model of transformers is hf:FOLDER or hf:HUB_ID, one of timm "
            "timm:NAME, one of torchvision torchvision:NAME, one of your own FILE.py:FUNCTION"
        )
    if weights is not None:
        raise InputError(
            f"--weights {weights} is of no use to model {name}: it belongs to timm:NAME and torchvision:NAME"
        )
    return found
