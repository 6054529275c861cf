"""A trained model as something to use."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy

from selftaught import models
from selftaught.data import pictures
from selftaught.data.preparation import Preparation
from selftaught.errors import InputError, SelftaughtError
from selftaught.files import contents, record, tensors
from selftaught.files.config import RunConfig
from selftaught.files.contents import remedy
from selftaught.files.reading import DamagedError, exists
from selftaught.files.sealing import sha256
from selftaught.methods import registry
from selftaught.models.packages import versioned

_SPARE = 4
"""How many times as many numbers as its weights file has a network may register while it is built."""

_NEEDS_MEMORY = (RuntimeError, NotImplementedError, ValueError, TypeError)
"""What networks raise that cannot be built without memory."""


class TrainedModel(nn.Module):
    """A model with its preprocessing: images (B, K, H, W), uint8 or float in [0, 1], to logits (B, C).

    Attributes:
        model: the network itself, which takes normalised images; `selftaught.explain` takes this whole module
            as well.
        classes: the C class names.
        config: the `RunConfig` that it was trained with.
        preparation: how pictures become its images.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: nn.Module, config: RunConfig, data: record.DataSummary) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.classes = data.classes
        self.preparation = Preparation(
            data.image_size,
            data.channels,
            data.crop,
            data.resample,
            data.mean,
            data.std,
            data.stretch,
            data.levels,
        )
        self.input_shape = (data.channels, *data.image_size)
        self.register_buffer("mean", torch.tensor(data.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(data.std).view(-1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, C); an `InputError` for images of another shape than the model was trained on."""
        if images.dim() != 4 or tuple(images.shape[1:]) != self.input_shape:
            expected = ", ".join(map(str, self.input_shape))
            raise InputError(f"expected images of shape (B, {expected}), got {tuple(images.shape)}")
        x = images.to(self.mean.dtype)
        if images.dtype == torch.uint8:
            x = x / 255
        return self.model((x - self.mean) / self.std)

    def prepare(self, picture: bytes) -> torch.Tensor:
        """An encoded picture (PNG, JPEG, ...) as uint8 (K, H, W), prepared like the images of the training.

        Raises:
            ValueError: with the reason, where the bytes are no usable picture.
        """
        return pictures.stack([pictures.decode(picture, self.preparation)])[0]


def load(run_directory: str | os.PathLike, model: str | None = None) -> TrainedModel:
    """The trained model of a finished run, on the CPU in eval mode, with its classes and preprocessing.

    It is made from the run directory alone: a model of transformers does without the folder or the network that it
    came from. One that a Python file makes needs that file.

    Args:
        run_directory: where the run was trained.
        model: `path.py:function`, for a model that was made by this file: says where it is, and that it may be run.

    Raises:
        InputError: the directory is not a run, the run is not finished or damaged, or its model comes from a Python
            file and `model` does not name the same one.
    """
    run = record.read(run_directory)
    data = run.result.data
    name = _permitted(run, model)
    (header, weights), description = _weights(run), _description(run)
    if description is None and not models.runs_code(name) and models.is_pretrained(name):
        # Without it the network would be looked for where the record says, on the Hub perhaps.
        raise InputError(
            f"{run.directory} has no {record.MODEL}, which says how to build {name!r}: train the run again"
        )
    network = _built(run, name, header, description)
    try:
        network.load_state_dict(versioned(weights, network.state_dict()))
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip().rstrip(".")
        raise InputError(
            f"{run.directory / record.WEIGHTS} does not fit the model {name!r} ({first}): use the versions of the "
            "packages that it was trained with, or train the run again"
        ) from None
    return TrainedModel(network, run.config, data).eval()


def _built(
    run: record.Record, name: str, header: tensors.Header, description: dict[str, Any] | None
) -> nn.Module:
    """The run's network with random weights, which are about to be replaced.

    It is built twice, first without memory: what is random in a network that a stranger described is not drawn before
    it is known to be no larger than its weights.
    """
    data, options = (
        run.result.data,
        registry.model_options(run.config.method, run.config.settings),
    )

    def build() -> nn.Module:
        return models.create(
            name,
            len(data.classes),
            data.channels,
            data.image_size,
            description=description,
            pretrained=False,
            **options,
        )

    if _largest(description) > max(header.elements, 2**16):  # a width or a depth, whatever it is called
        raise _too_large(run, header)
    # The caller's random numbers need not know.
    with torch.random.fork_rng(devices=[]):
        if models.runs_code(name):  # by somebody who trusts it
            return build()
        with _no_larger(run, header):
            try:
                with torch.device("meta"):
                    build()
            except _NEEDS_MEMORY as error:
                if isinstance(error, SelftaughtError):
                    raise
        with _no_larger(run, header):
            return build()


def _permitted(run: record.Record, model: str | None) -> str:
    """The name to make the run's model by; code is run only where the caller named it, and only the run's own."""
    name = run.config.model
    if model is None:
        if models.runs_code(name):
            function = name.rpartition(":")[2]
            kept = f"{run.directory / record.SOURCE}:{function}"
            raise InputError(
                f"the model of {run.directory} is made by the Python file of {name!r}: if you trust it, permit it with "
                f"model={name!r} (on the command line: --model {name}), or the copy that the run kept: {kept}"
            )
        return name
    if models.runs_code(name) or models.runs_code(model):
        if not _made(run, model):
            raise InputError(_what_else(run, model))
        return model
    if models.located(model) != name:
        raise InputError(
            f"{run.directory} holds the model {name!r}, not {model!r}: leave model= (--model) out"
        )
    return name


def _made(run: record.Record, model: str) -> bool:
    """Whether a model file, with all that it reads, made the run's model.

    What it started from may be gone, if its code is still the same and does without.
    """
    try:
        if models.fingerprint(model) == run.config.model_fingerprint:
            return True
    except InputError:  # one of its FILES is gone
        if not (_is_kept(run, model) and models.rebuilds(model)):
            raise
        return True
    return _is_kept(run, model) and models.rebuilds(model)


def _is_kept(run: record.Record, model: str) -> bool:
    """Whether a model's file and function are those of which the run kept a copy, whatever is beside it."""
    same, code = model.rpartition(":")[2] == run.config.model.rpartition(":")[2], models.source(model)
    return same and code is not None and sha256(code, record.SOURCE) == run.result.sha256.get(record.SOURCE)


def _what_else(run: record.Record, model: str) -> str:
    """What is wrong with a model file that is not, with all that it reads, what made the run's model."""
    function, kept = run.config.model.rpartition(":")[2], run.directory / record.SOURCE
    if _is_kept(run, model):
        return (
            f"{model!r} made the model of {run.directory}, but one of its FILES has changed since: put those that the "
            "run was trained with beside it"
        )
    return (
        f"{model!r} is not what made the model of {run.directory}, or has changed since: give the copy that the run "
        f"kept, {kept}:{function}"
    )


def _description(run: record.Record) -> dict[str, Any] | None:
    """What `models.description` gave for the run's model."""
    if record.MODEL not in run.result.sha256:
        return None
    _check_there(run, record.MODEL)
    content = contents.content(run, record.MODEL)
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise DamagedError(run.directory / record.MODEL, "it is no JSON", remedy(run.directory)) from None


def _weights(run: record.Record) -> tuple[tensors.Header, dict[str, torch.Tensor]]:
    _check_there(run, record.WEIGHTS)
    path, content = run.directory / record.WEIGHTS, contents.content(run, record.WEIGHTS)
    header = tensors.header(path, content, remedy(run.directory))
    try:
        return header, from_bytes(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DamagedError(path, str(error), remedy(run.directory)) from None


def _check_there(run: record.Record, name: str) -> None:
    """Say of an archive that it has no networks, which is no damage."""
    if not exists(run.directory / name) and exists(run.directory / record.ANSWERS):
        raise InputError(
            f"{run.directory} is archived without its network: use the study that it was copied from"
        )


@contextmanager
def _no_larger(run: record.Record, weights: tensors.Header) -> Iterator[None]:
    """While inside, a network is refused that registers far more than what there is to fill it with.

    What a record says of its network may come from a stranger. A parameter or buffer is refused before anything is
    written to its memory; `_SPARE` is for those that are replaced or shared while a network is built.
    """
    numbers, names = _SPARE * weights.elements + 2**16, _SPARE * len(weights.tensors) + 2**10

    def count(_module: nn.Module, _name: str, tensor: torch.Tensor | None) -> None:
        nonlocal numbers, names
        if tensor is not None and not is_lazy(tensor):
            numbers, names = numbers - tensor.numel(), names - 1
        if min(numbers, names) < 0:
            raise _TooLarge

    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    except _TooLarge:
        raise _too_large(run, weights) from None
    finally:
        for hook in hooks:
            hook.remove()


class _TooLarge(BaseException):
    """Passes through whatever a network's own code catches while it is built."""


def _too_large(run: record.Record, weights: tensors.Header) -> DamagedError:
    reason = f"its {weights.elements:,} numbers are far fewer than those of the model of this record"
    return DamagedError(run.directory / record.WEIGHTS, reason, remedy(run.directory))


def _largest(description: Any) -> int:
    """The largest whole number anywhere in a description, 0 where there is none."""
    if isinstance(description, dict | list):
        inside = description.values() if isinstance(description, dict) else description
        return max(map(_largest, inside), default=0)
    return description if type(description) is int else 0
