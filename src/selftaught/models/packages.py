"""What classifiers of timm and torchvision have in common: a package that may be missing, and weights from files."""

import hashlib
import importlib
import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from selftaught.errors import InputError, SelftaughtError, shown
from selftaught.models import digest
from selftaught.models.architecture import Architecture, Spec
from selftaught.models.wrapped import Wrapped, head_layers, reason, try_out


def imported(package: str) -> ModuleType:
    """The package, imported now; an `InputError` says how to get it where it is missing or does not fit torch."""
    try:
        with quiet():
            return importlib.import_module(package)
    except ModuleNotFoundError:
        raise InputError(
            f"models called {package}: need the package {package}: pip install {package}"
        ) from None
    except Exception as error:  # a build for another torch fails in its own way
        raise InputError(
            f"the package {package} cannot be imported beside torch {torch.__version__} ({reason(error)}): install the "
            "release that fits it"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """While inside, no warning is shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def refusing(what: str, remedy: str) -> Iterator[None]:
    """While inside, whatever goes wrong is an `InputError` of one line: what cannot be done, and the remedy."""
    try:
        with quiet():
            yield
    except SelftaughtError:
        raise
    except Exception as error:  # of an architecture's own code
        raise InputError(f"{what} ({_reason(error)}): {remedy}") from None


def _reason(error: Exception) -> str:
    """In one line; of an error that lists what is wrong, the first item."""
    first, _, rest = str(error).strip().partition("\n")
    return reason(ValueError(rest) if first.endswith(":") and rest else error)


class Packaged(Architecture, ABC):
    """A classifier that a package calls `source`, with that package's weights or a file's, and a new head."""

    package = ""

    def __init__(self, source: str, weights: str | None) -> None:
        super().__init__(f"{self.package}'s {source}, pretrained, with a new head")
        self.source_name, self.weights, self.name = source, weights, f"{self.package}:{source}"

    @abstractmethod
    def own_file(self) -> Path:
        """The file of the package's own weights, fetched if it is not here."""

    @abstractmethod
    def head(self) -> Iterable[str]:
        """The names that parameters of the head may have."""

    @abstractmethod
    def fresh(self, spec: Spec) -> tuple[nn.Module, dict[str, Any]]:
        """The network with random weights, and what to make it from again, fit for JSON.

        That may be given as part of `spec.description`: it comes from outside, and InputError refuses it.
        """

    @abstractmethod
    def filled(self, network: nn.Module, recipe: dict[str, Any], spec: Spec, head: list[str]) -> nn.Module:
        """The `fresh` network with trained weights, but for those of the head."""

    def remedy(self) -> str:
        """What to do where the images do not suit the network."""
        return f"use --image-size {(self.preparation().size or (224,))[0]}"

    def pretrained(self) -> bool:
        """Always."""
        return True

    def fingerprint(self) -> str:
        """Of the model's name, of the file of its weights, and of what its preparation does to pixel values.

        The rest of the preparation shows in the pictures.
        """
        path, asked = given(self.weights) if self.weights else self.own_file(), self.preparation()
        content = f"{self.name}\n{digest.of_file(path)}\n{asked.mean} {asked.std}\n"
        return hashlib.sha256(content.encode()).hexdigest()

    def notes(self) -> tuple[str, ...]:
        """What is left out of a user's file of weights."""
        note = left_out(self.weights, self.head()) if self.weights else None
        return (note,) if note else ()

    def build(self, spec: Spec) -> nn.Module:
        """The network, wrapped and tried out; from its description alone where there is one."""
        network, recipe = self.fresh(spec)
        head = [key for key in self.head() if key in network.state_dict()]
        if not head:
            raise InputError(
                f"{self.name} has no head that could be made for other classes: use another model"
            )
        if spec.description is None:
            network = self.filled(network, recipe, spec, head)
        layers = head_layers(self.name, network, head, spec.dropout)
        model = Wrapped(network, layers, {self.package: recipe}, spec.dropout)
        if spec.description is None:
            try_out(self.name, model, spec, self.remedy())
        return model


def given(weights: str) -> Path:
    """The file that a user named; it is opened, but not read.

    Raises:
        InputError: there is none, or it holds no tensors in the format of safetensors.
    """
    path = Path(weights).expanduser()
    if not path.is_file():
        raise InputError(f"--weights {weights} is no file: check its path")
    try:
        with safe_open(path, "pt"):
            return path
    except OSError as error:
        raise InputError(f"--weights {weights} cannot be read ({error.strerror}): make it readable") from None
    except SafetensorError:
        raise InputError(
            f"--weights {weights} is no whole safetensors file, and pickled weights could run code: load them where "
            "you trust them and write them with safetensors.torch.save_file()"
        ) from None


def tensors(path: Path, own: Mapping[str, Tensor], head: Iterable[str]) -> dict[str, Tensor]:
    """The weights of a safetensors file, with the parameters called `head` of the `own` state dict in place of theirs.

    Where all names begin with a part that the network's do not have (``module.``, ``network.``), it is taken off.
    """
    found = load_file(path)
    beginnings = {key.partition(".")[0] for key in found}
    if len(beginnings) == 1 and not found.keys() & own.keys():
        found = {key.partition(".")[2]: value for key, value in found.items()}
    return found | {key: own[key] for key in head}


def left_out(weights: str, head: Iterable[str]) -> str | None:
    """What to tell of a head that a user's file of weights holds as well; None where it holds none."""
    ours = set(head)
    with safe_open(given(weights), "pt") as file:
        found = [key for key in file.keys() if key in ours or key.partition(".")[2] in ours]  # noqa: SIM118
    if not found:
        return None
    return (
        f"the head in {shown(weights)} ({', '.join(map(shown, sorted(found)))}) is left out: "
        "the network gets a new one for these classes"
    )


def fill(what: str, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights that must fit the network without a rest.

    Raises:
        InputError: something is missing, superfluous or of another shape; `what` says whose weights they are.
    """
    own = network.state_dict()
    missing, superfluous = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    other = [key for key in sorted(own.keys() & weights.keys()) if own[key].shape != weights[key].shape]
    if missing or superfluous or other:
        raise InputError(
            f"{what} do not fit: {len(missing)} of the network's tensors are missing, {len(superfluous)} belong to "
            f"none, {len(other)} have another shape ({shown([*other, *missing, *superfluous][0])}, for one): give "
            "those of this very network"
        )
    with refusing(f"{what} cannot be loaded", "give those of this very network"):
        network.load_state_dict(versioned(weights, own), strict=False)


def versioned(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with what a state dict says of its layers' versions, which no file of tensors holds: as in `own`."""
    state = OrderedDict(weights)
    state._metadata = getattr(own, "_metadata", {})  # type: ignore[attr-defined]
    return state
