"""The protocol's defaults, as data, and the configuration that they and a user's options make."""

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from selftaught import data as datasets
from selftaught import errors, models, objectives
from selftaught.data import ImageData
from selftaught.errors import InputError
from selftaught.training.config import RunConfig, parse


@dataclass(frozen=True)
class Preset:
    """How a dataset is trained unless the user says otherwise; milestones are fractions of the epochs."""

    model: str
    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    milestones: tuple[float, ...]
    padding: int
    flip: bool


CIFAR = Preset(
    model="resnet14",
    epochs=160,
    batch_size=128,
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    milestones=(0.5, 0.75),
    padding=4,
    flip=True,
)
"""Section 5 of the paper; also the default for data without a preset of its own."""

PLAIN_CNN = replace(CIFAR, lr=0.01, milestones=())
"""Section 3 of the paper, Table 1: at the ResNets' rate the plain CNNs do not learn."""

BY_MODEL = {"cnn6": PLAIN_CNN, "cnn8": PLAIN_CNN, "cnn10": PLAIN_CNN}
"""Models that the CIFAR preset does not fit."""

PRESETS = {
    "digits": Preset(
        model="resnet8",
        epochs=15,
        batch_size=64,
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        milestones=(0.5, 0.75),
        padding=0,
        flip=False,
    ),
    "mnist": Preset(
        model="mlp",
        epochs=50,
        batch_size=16,
        lr=0.01,
        momentum=0.9,
        weight_decay=0.0,
        milestones=(),
        padding=0,
        flip=False,
    ),
    "cifar10": CIFAR,
}

WARMUP_FRACTION = 0.2
"""Stage 1 of Algorithm 1 as a fraction of the epochs: 10 of 50 on MNIST in the paper, the same elsewhere."""

DATA_OPTIONS = ("image_size", "train_size", "val_fraction", "split_seed")
TRAINING_OPTIONS = (
    "epochs",
    "batch_size",
    "lr",
    "momentum",
    "weight_decay",
    "milestones",
    "padding",
    "flip",
    "seed",
    "threads",
    "precision",
    "device",
)


def resolve(data: str, method: str, model: str | None = None, **options: Any) -> RunConfig:
    """The complete configuration of one run: the protocol's defaults with `options` in their place.

    Args:
        data: a dataset's name; it is loaded here, because its fingerprint is part of the configuration.
        method: a method's key (`selftaught.objectives.names`).
        model: a model's name, by default the dataset's preset.
        **options: any field of `RunConfig` and any method's setting by name (``epochs=5, alpha=0.8``). None
            means the default. Settings that `method` does not have are left out, so that one set of options
            serves several methods and ``alpha`` does not change the name of a cross-entropy run.

    Raises:
        InputError: an unknown name, or a value out of range.
    """
    given = {name: value for name, value in options.items() if value is not None}
    _check_options(given)
    preset = PRESETS.get(data, CIFAR)
    if preset is CIFAR and model in BY_MODEL:
        preset = BY_MODEL[model]
    of_data = {name: given[name] for name in DATA_OPTIONS if name in given}
    training = _training_defaults(preset, given) | {n: given[n] for n in TRAINING_OPTIONS if n in given}
    if training["device"] == "auto":
        training["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    model = model or preset.model
    settings = _settings(method, model, training["epochs"], given)
    objectives.create(method, **settings)  # refuses a setting out of range
    values = {"data": data, **of_data, "model": model, "method": method, "settings": settings, **training}
    config = parse({**values, "data_fingerprint": ""})  # refuses the rest before the data is read and resized
    _check_together(config)
    return config.model_copy(update={"data_fingerprint": data_of_options(config).fingerprint})


@lru_cache(maxsize=1)
def load_data(name: str, **options: Any) -> ImageData:
    """`selftaught.data.load`, kept for the next run on the same data in this process."""
    return datasets.load(name, **options)


def data_of_options(config: RunConfig) -> ImageData:
    """The data that a run's options lead to today."""
    return load_data(config.data, **{name: getattr(config, name) for name in DATA_OPTIONS})


def data_of(config: RunConfig) -> ImageData:
    """The data of a run, checked against the fingerprint in its configuration."""
    images = data_of_options(config)
    if images.fingerprint != config.data_fingerprint:
        raise InputError(
            f"data {config.data!r} is not what this run was configured with "
            f"(fingerprint {images.fingerprint[:12]}, expected {config.data_fingerprint[:12]}): start a new run"
        )
    return images


def method_settings() -> set[str]:
    """The settings that any method has."""
    return {name for method in objectives.names() for name in objectives.settings(method)}


def _check_options(given: dict[str, Any]) -> None:
    known = [*DATA_OPTIONS, *TRAINING_OPTIONS, *sorted(method_settings())]
    for name in given:
        if name not in known:
            raise errors.unknown("option", name, known)


def _training_defaults(preset: Preset, given: dict[str, Any]) -> dict[str, Any]:
    defaults = asdict(preset)
    del defaults["model"]
    epochs = given.get("epochs", preset.epochs)
    steps = sorted({round(fraction * epochs) for fraction in preset.milestones})
    return defaults | {"epochs": epochs, "milestones": [m for m in steps if 0 < m < epochs], "device": "auto"}


def _settings(method: str, model: str, epochs: int, given: dict[str, Any]) -> dict[str, Any]:
    """The method's own settings: its defaults, then the protocol's, then the user's."""
    protocol = {
        "warmup": round(WARMUP_FRACTION * epochs),
        "saliency": "grad-cam" if models.is_spatial(model) else "grad",
    }
    settings = {}
    for name, default in objectives.settings(method).items():
        value = given.get(name, protocol.get(name, default))
        # So that weight=1 and weight=1.0 name the same trial.
        settings[name] = float(value) if isinstance(default, float) and isinstance(value, int) else value
    return settings


def _check_together(config: RunConfig) -> None:
    saliency = config.settings.get("saliency")
    if saliency == "grad-cam" and not models.is_spatial(config.model):
        raise InputError(f"model {config.model!r} has no feature maps for grad-cam: use --saliency grad")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' was asked for but torch finds no GPU: use --device cpu")
