"""What classifiers of timm and torchvision have in common: a package that may be missing, and weights from files."""

import hashlib
import importlib
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from selftaught.data.preparation import Preparation
from selftaught.errors import InputError, SelftaughtError, shown
from selftaught.models import digest
from selftaught.models.rehearsal import reason


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


def fingerprint(name: str, path: Path, preparation: Preparation) -> str:
    """SHA-256 of the model's name, of the file of its weights, and of what its preparation does to pixel values.

    The rest of the preparation shows in the pictures.
    """
    content = f"{name}\n{digest.of_file(path)}\n{preparation.mean} {preparation.std}\n"
    return hashlib.sha256(content.encode()).hexdigest()


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


def names(path: Path) -> list[str]:
    """What the tensors of a safetensors file are called."""
    with safe_open(path, "pt") as file:
        return list(file.keys())


def tensors(path: Path, own: Mapping[str, Tensor], head: Iterable[str]) -> dict[str, Tensor]:
    """The weights of a safetensors file, with the network's own head in the place of theirs.

    Where all of their names begin with a part that the network's do not have (``module.``, ``network.``), it is
    taken off.

    Args:
        path: the file.
        own: what `state_dict` gives for the network.
        head: which of these are the head's.
    """
    found = load_file(path)
    beginnings = {key.partition(".")[0] for key in found}
    if len(beginnings) == 1 and not found.keys() & own.keys():
        found = {key.partition(".")[2]: value for key, value in found.items()}
    return found | {key: own[key] for key in head}


def left_out(weights: str, head: Iterable[str]) -> str | None:
    """What to tell of a head that a user's file of weights holds as well; None where it holds none."""
    ours = set(head)
    found = [key for key in names(given(weights)) if key in ours or key.partition(".")[2] in ours]
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
