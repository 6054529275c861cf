"""Which models exist: a name, or a pattern that names match, and what makes the model from it."""

import re
from collections.abc import Callable
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


class Architecture:
    """A model that can be built. Unless a subclass says otherwise, its name says all and it is trained from scratch.

    Attributes:
        summary: one line about it.
        spatial: its features are maps (B, K, H, W), so that Grad-CAM applies; taken for granted of a user's own model.
        runs_code: building it runs the user's own code.
        located: its name, with the path in it made absolute; None where it has none.
    """

    runs_code = False
    located: str | None = None

    def __init__(
        self, summary: str, spatial: bool = True, build: Callable[[Spec], nn.Module] | None = None
    ) -> None:
        self.summary, self.spatial, self._builder = summary, spatial, build

    def build(self, spec: Spec) -> nn.Module:
        """The model, initialised from the global generators."""
        assert self._builder is not None
        return self._builder(spec)

    def preparation(self) -> Preparation:
        """What it asks of its images; InputError where its files cannot be used, or ask what cannot be done."""
        return Preparation()

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the files that define and initialise it, "" where there are none; InputError if missing."""
        return ""

    def pretrained(self) -> bool:
        """Whether it starts from trained weights; InputError where a Python file does not say so plainly."""
        return False

    def declared(self) -> bool:
        """Whether somebody has said whether it is pretrained; else it shows when it is built."""
        return True

    def source(self) -> bytes | None:
        """The user's own code; None where there is none."""
        return None

    def rebuilds(self) -> bool:
        """Whether a finished run's model is made without the files that it started from, if its code is unchanged."""
        return False

    def notes(self) -> tuple[str, ...]:
        """What a user should know of how it starts, one line each."""
        return ()


_ARCHITECTURES: dict[str, Architecture] = {}
_PATTERNS: dict[re.Pattern[str], tuple[Callable[..., Architecture], bool]] = {}


def register(name: str, summary: str, spatial: bool = True) -> Callable[[Callable], Callable]:
    """Decorator: the function builds the model called `name` for a `Spec`."""

    def add(build: Callable[[Spec], nn.Module]) -> Callable[[Spec], nn.Module]:
        _ARCHITECTURES[name] = Architecture(summary, spatial, build)
        return build

    return add


def register_family(prefix: str, *listed: int) -> Callable[[Callable], Callable]:
    """Decorator: the function makes the architecture `prefix` + number, or raises InputError.

    The `listed` numbers appear among the names; any other number the function accepts works too.
    """

    def add(architecture: Callable[[int], Architecture]) -> Callable[[int], Architecture]:
        register_pattern(re.escape(prefix) + "([1-9][0-9]{0,3})")(lambda number: architecture(int(number)))
        _ARCHITECTURES.update({f"{prefix}{number}": architecture(number) for number in listed})
        return architecture

    return add


def register_pattern(pattern: str, takes_weights: bool = False) -> Callable[[Callable], Callable]:
    """Decorator: the function or class makes an architecture from the groups of a name that the pattern matches.

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
