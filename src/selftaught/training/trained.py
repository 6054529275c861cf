"""A trained model as something to use."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from torch import nn

from selftaught import models, objectives
from selftaught.data import pictures
from selftaught.data.preparation import Preparation
from selftaught.errors import InputError
from selftaught.training import record
from selftaught.training.config import RunConfig


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
    weights, description = _weights(run), _description(run)
    if description is None and not models.runs_code(name) and models.is_pretrained(name):
        # Without it the network would be looked for where the record says, on the Hub perhaps.
        raise InputError(
            f"{run.directory} has no {record.MODEL}, which says how to build {name!r}: train the run again"
        )
    options = objectives.create(run.config.method, **run.config.settings).model_options()
    # Its random weights are about to be replaced: the caller's random numbers need not know.
    with torch.random.fork_rng(devices=[]):
        network = models.create(
            name,
            len(data.classes),
            data.channels,
            data.image_size,
            description=description,
            **options,
        )
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip().rstrip(".")
        raise InputError(
            f"{run.directory / record.WEIGHTS} does not fit the model {name!r} ({first}): use the versions of the "
            "packages that it was trained with, or train the run again"
        ) from None
    return TrainedModel(network, run.config, data).eval()


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
        if models.fingerprint(model) != run.config.model_fingerprint:
            raise InputError(_what_else(run, model))
        return model
    if models.located(model) != name:
        raise InputError(
            f"{run.directory} holds the model {name!r}, not {model!r}: leave model= (--model) out"
        )
    return name


def _what_else(run: record.Record, model: str) -> str:
    """What is wrong with a model file that is not, with all that it reads, what made the run's model."""
    function, kept = run.config.model.rpartition(":")[2], run.directory / record.SOURCE
    if kept.is_file() and models.source(model) == kept.read_bytes() and model.rpartition(":")[2] == function:
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
    content = _content(run, record.MODEL)
    try:
        return json.loads(content)
    except ValueError:
        raise _damaged(run.directory / record.MODEL) from None


def _weights(run: record.Record) -> dict[str, torch.Tensor]:
    try:
        return from_bytes(_content(run, record.WEIGHTS))
    except SafetensorError:
        raise _damaged(run.directory / record.WEIGHTS) from None


def _content(run: record.Record, name: str) -> bytes:
    """A file of the run; refused where it is missing or not what the run's result says."""
    path = run.directory / name
    if not path.exists() and (run.directory / record.ANSWERS).exists():
        raise InputError(
            f"{run.directory} is archived without its network: use the study that it was copied from"
        )
    if not path.exists():
        raise InputError(
            f"{path} is missing: remove {path.with_name(record.RESULT)}, and the run's command writes it again"
        )
    content = record.read_bytes(path)
    expected = run.result.sha256.get(name)
    if expected and hashlib.sha256(content).hexdigest() != expected:
        raise _damaged(path)
    return content


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path} is damaged (it is not what the run wrote): remove {path.with_name(record.RESULT)}, and the run's "
        "command writes it again"
    )
