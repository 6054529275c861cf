"""Trained models that nobody trained: random weights, in memory or as the directory of a finished run."""

import hashlib
import json
from pathlib import Path

from safetensors.torch import save
from torch import nn

from selftaught import models
from selftaught.files import record
from selftaught.files.config import RunConfig, parse
from selftaught.training.trained import TrainedModel


def config(model: str = "resnet8", method: str = "ce", **settings) -> RunConfig:
    """A configuration of data that does not exist."""
    training = {"epochs": 1, "batch_size": 2, "lr": 0.1, "momentum": 0, "weight_decay": 0}
    values = {"data": "nowhere", "data_fingerprint": "", "model": model, "method": method, **training}
    return parse({**values, "settings": settings})


def summary(classes: tuple[str, ...], shape: tuple[int, int, int]) -> record.DataSummary:
    """Images (K, H, W) with a mean and a standard deviation that are neither 0 nor 1."""
    channels, *size = shape
    statistics = {"mean": (0.4,) * channels, "std": (0.3,) * channels}
    return record.DataSummary(
        classes=classes, channels=channels, image_size=tuple(size), **statistics, train=9, val=0, test=9
    )


def trained(
    network: nn.Module, classes: int = 10, shape: tuple[int, int, int] = (3, 8, 8), **of_config
) -> TrainedModel:
    """`network` as a trained model."""
    names = tuple(f"class {k}" for k in range(classes))
    return TrainedModel(network, config(**of_config), summary(names, shape)).eval()


def store(
    directory: Path,
    classes: tuple[str, ...] = ("cat", "dog", "owl"),
    shape: tuple[int, int, int] = (3, 16, 16),
    temperature: float | None = None,
    network: nn.Module | None = None,
    levels: tuple[float, float] | None = None,
    **of_config,
) -> Path:
    """A finished run of a built-in model, or of the given `network`; returns its directory."""
    settings, data = config(**of_config), summary(classes, shape).model_copy(update={"levels": levels})
    network = network or models.create(settings.model, len(classes), shape[0], shape[1:])
    files = {record.WEIGHTS: save(network.state_dict())}
    if description := models.description(network):
        files[record.MODEL] = json.dumps(description).encode()
    result = record.Result(
        trial_id=settings.trial_id,
        accuracy=0.5,
        nll=1.0,
        ece=0.1,
        temperature=temperature,
        epochs=1,
        seconds=1.0,
        images_per_second=1.0,
        data=data,
        environment={},
        sha256={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )
    directory.mkdir(parents=True)
    files |= {
        record.CONFIG: settings.model_dump_json().encode(),
        record.RESULT: result.model_dump_json().encode(),
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory
