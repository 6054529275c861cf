"""The protocol's defaults, as data, and the configuration that they and a user's options make."""

import math
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from selftaught import data as datasets
from selftaught import errors, models
from selftaught.activities import activity
from selftaught.data import ImageData, levels, sources
from selftaught.data.preparation import Preparation
from selftaught.errors import InputError
from selftaught.files.config import DATA_OPTIONS, RunConfig, parse
from selftaught.methods import registry
from selftaught.training import teaching


@dataclass(frozen=True)
class Preset:
    """How a dataset is trained unless the user says otherwise; milestones are fractions of the epochs.

    `augment` is one of `AUGMENT`. `val_fraction` is what is held out of the training part where it is large enough.
    There are as many more epochs as make `least_steps` full batches. The rest are fields of `RunConfig`.
    """

    model: str
    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    milestones: tuple[float, ...]
    augment: str
    optimizer: str = "sgd"
    schedule: str = "steps"
    val_fraction: float = 0.0
    least_steps: int = 0
    head: str = "new"
    backbone_factor: float = 1.0
    batch_norm: str = "train"
    ramp: float = 0.0
    decay_norms: bool = True
    ema: float = 0.0
    blend: float = 1.0


_PHOTO = {"padding": 0, "flip": True, "min_scale": 0.25, "policy": "none", "erasing": 0.0}

AUGMENT: dict[str, dict[str, Any]] = {
    "none": {"padding": 0, "flip": False, "min_scale": None, "policy": "none", "erasing": 0.0},
    "crop": {"padding": 4, "flip": True, "min_scale": None, "policy": "none", "erasing": 0.0},
    "photo": _PHOTO,
    "trivial": {**_PHOTO, "policy": "trivial", "erasing": 0.1},
    "rand": {**_PHOTO, "policy": "rand", "erasing": 0.1},
}
"""Augmentations by name: the paper's crops of the padded image, and crops of any size and shape for photographs.

With a policy's operations on top, see `selftaught.data.policies`, and a tenth of the images with a rectangle erased.
"""

CIFAR = Preset(
    model="resnet14",
    epochs=160,
    batch_size=128,
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    milestones=(0.5, 0.75),
    augment="crop",
)
"""Section 5 of the paper."""

OWN_DATA = replace(CIFAR, val_fraction=0.1)
"""The user's own data: the paper's recipe, with a part held out to watch and to calibrate on."""

PLAIN_CNN = replace(CIFAR, lr=0.01, milestones=())
"""Section 3 of the paper, Table 1: at the ResNets' rate the plain CNNs do not learn."""

DIGITS = replace(CIFAR, model="resnet8", epochs=15, batch_size=64, augment="none", val_fraction=0.1)

MNIST = Preset(
    model="mlp",
    epochs=50,
    batch_size=16,
    lr=0.01,
    momentum=0.9,
    weight_decay=0.0,
    milestones=(),
    augment="none",
)
"""Section 5.1 of the paper, Table 3."""

BY_MODEL = {"cnn6": PLAIN_CNN, "cnn8": PLAIN_CNN, "cnn10": PLAIN_CNN}
"""Models that the CIFAR preset does not fit."""

PRESETS = {"digits": DIGITS, "mnist": MNIST, "fashion-mnist": CIFAR, "cifar10": CIFAR, "cifar100": CIFAR}
"""By dataset."""

FINE_TUNE: dict[str, Any] = {
    "epochs": 5,
    "least_steps": 120,
    "batch_size": 32,
    "optimizer": "adamw",
    "lr": 1e-3,
    "momentum": 0.0,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "milestones": (),
    "head": "probe",
    "backbone_factor": 0.4,
    "batch_norm": "frozen",
    "ramp": 0.1,
    "decay_norms": False,
    "blend": 0.7,
}
"""What a pretrained network is trained with, whatever the data; how it was chosen: docs/benchmarks/fine_tuning.md."""

OTHER_OPTIMIZER = {
    "sgd": {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4},
    "adamw": {"lr": 1e-3, "momentum": 0.0, "weight_decay": 0.01},
}
"""Defaults of an optimiser that is not the preset's."""

WARMUP_FRACTION = 0.2
"""Stage 1 of Algorithm 1 as a fraction of the epochs: 10 of 50 on MNIST in the paper, the same elsewhere."""

TRAINING_OPTIONS = (
    "epochs",
    "batch_size",
    "optimizer",
    "schedule",
    "lr",
    "momentum",
    "weight_decay",
    "milestones",
    "head",
    "backbone_factor",
    "batch_norm",
    "ramp",
    "decay_norms",
    "ema",
    "blend",
    "class_weights",
    "padding",
    "flip",
    "min_scale",
    "policy",
    "erasing",
    "sampling",
    "seed",
    "threads",
    "precision",
    "device",
)


def resolve(data: str, method: str, model: str | None = None, **options: Any) -> RunConfig:
    """The complete configuration of one run: the protocol's defaults with `options` in their place.

    Args:
        data: a dataset's name, a folder, ...; it is loaded here, because its fingerprint is part of the configuration.
        method: a method's key (`selftaught.methods.names`).
        model: a model's name, ``hf:DIR_OR_ID``, ``timm:NAME``, ``torchvision:NAME`` or ``path.py:function``; by default
            the dataset's preset.
        **options: any field of `RunConfig`, any method's setting by name (``epochs=5, alpha=0.8``), and ``augment``,
            a name in `AUGMENT`. None means the default. Settings that `method` does not have are left out, so that
            one set of options serves several methods and ``alpha`` does not change the name of a cross-entropy run.
            For a method that learns from another network: ``teacher`` and, for TAKD, ``assistant``, each a model's
            name, or as ``teacher`` the configuration of a finished run; ``teacher_per_trial=True`` for a teacher of
            each seed's own instead of one for all.

    Raises:
        InputError: an unknown name, or a value out of range.
    """
    given = _augmented({name: value for name, value in options.items() if value is not None})
    _check_options(given)
    path = sources.local_path(data)
    preset = preset_for(data, model)
    least_steps = 0 if "epochs" in given else given.get("least_steps", preset.least_steps)
    found = models.located(model or preset.model)
    named = {
        "data": str(path or data),
        "data_fingerprint": "",
        "model": found,
        "weights": models.located_weights(found, given.get("weights")),
    }
    # Refuses what it can before the data is read and resized; one batch an epoch makes the most epochs.
    config = _configured(named, method, preset, given, max(least_steps, preset.epochs))
    known: dict[str, Any] = {"model_fingerprint": models.fingerprint(config.model, config.weights)}
    if "val_fraction" not in given:
        source = (config.data, models.preparation(config.model, config.weights))
        options = _load_options(config) | {"for_crops": config.crop_originals}
        known["val_fraction"] = _held_out(preset.val_fraction, *source, **options)
    images = data_of_options(config.model_copy(update=known))
    known["data_fingerprint"] = images.fingerprint
    if "epochs" not in given:
        # Counted in images: a last batch that is not full is no whole step.
        epochs = max(preset.epochs, math.ceil(least_steps * config.batch_size / len(images.train_labels)))
        config = _configured(named, method, preset, given, epochs)
    config = config.model_copy(update=known)
    return config.model_copy(update={"teacher": _teacher(data, config, given)})


def _configured(
    named: dict[str, Any], method: str, preset: Preset, given: dict[str, Any], epochs: int
) -> RunConfig:
    """The configuration with so many epochs unless others are `given`, before anything is read of data and model."""
    training = _training_defaults(preset, {"epochs": epochs, **given})
    training |= {n: given[n] for n in TRAINING_OPTIONS if n in given}
    if training["device"] == "auto":
        training["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    settings = _settings(method, named["model"], training, given)
    registry.create(method, **settings)  # refuses a setting out of range
    of_data = {name: given[name] for name in DATA_OPTIONS if name in given}
    if of_data.get("split_per_trial"):
        of_data["split_seed"] = of_data.get("split_seed", 0) + training.get("seed", 0)
    elif given.get("subset_per_trial", True) and "train_size" in given:
        of_data.setdefault("subset_seed", of_data.get("split_seed", 0) + training.get("seed", 0))
    values = {**of_data, **named, "method": method, "settings": settings, **training}
    values["crop_originals"] = training["min_scale"] is not None
    config = parse(values)
    _check_together(config)
    return config


def _teacher(data: str, config: RunConfig, given: dict[str, Any]) -> RunConfig | None:
    """The run that a run learns from: under the same options, on the same division of the data."""
    chosen = given.get("teacher")
    ready = chosen if isinstance(chosen, RunConfig) else None
    name = ready.model if ready else chosen
    lesson = teaching.lesson(config.method, config.model, name, given.get("assistant"))
    if lesson is None:
        return None
    if ready is None or (lesson.method, lesson.model) != ("ce", ready.model):
        options = {name: value for name, value in given.items() if name != "split_per_trial"}
        options |= {name: getattr(config, name) for name in ("split_seed", "subset_seed", "val_fraction")}
        options["subset_per_trial"] = False  # that of the student
        options["seed"] = teaching.teacher_seed(config.seed, bool(given.get("teacher_per_trial")))
        if models.located(lesson.model) != config.model:
            options.pop("weights", None)  # they are this model's
        if options["seed"] == config.seed and lesson.model == config.model:
            options["seed"] += teaching.TEACHER_SEED  # a twin must not begin with its student's weights
        ready = resolve(data, lesson.method, lesson.model, **options)
    if ready.data_fingerprint != config.data_fingerprint:
        remedy = "choose another --teacher"
        if config.subset_seed is not None:
            remedy += ", or train both with --one-subset: else each seed has training images of its own"
        raise InputError(
            f"the teacher {ready.model} is not trained on the same images in the same size and division as "
            f"{config.model}: {remedy}"
        )
    return ready


def preset_for(data: str, model: str | None) -> Preset:
    """What this model is trained with on this data unless the user says otherwise."""
    preset = PRESETS.get(data, OWN_DATA)
    if model is not None and models.is_pretrained(model):
        augment = "photo" if preset.augment == "crop" else preset.augment
        return replace(preset, model=model, augment=augment, **FINE_TUNE)
    if preset.model == CIFAR.model and model in BY_MODEL:
        return replace(BY_MODEL[model], val_fraction=preset.val_fraction)
    return preset


@lru_cache(maxsize=1)
def load_data(name: str, preparation: Preparation, **options: Any) -> ImageData:
    """`selftaught.data.load`, kept for the next run on the same data in this process."""
    with activity("reading images") as advance:
        return datasets.load(name, preparation=preparation, on_progress=advance, **options)


def data_of_options(config: RunConfig, preparation: Preparation | None = None) -> ImageData:
    """The data that a run's options lead to today, prepared as its model asks unless that is known already."""
    if preparation is None:
        preparation = models.preparation(config.model, config.weights)
    else:
        # A finished run's pictures are scaled as they were, also where that was before a collection's range was used.
        preparation = replace(preparation, levels=preparation.levels or levels.WHOLE)
        return load_data(config.data, preparation, **_load_options(config))
    return load_data(config.data, preparation, **_load_options(config), for_crops=config.crop_originals)


def _load_options(config: RunConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in DATA_OPTIONS if name != "split_per_trial"}


def data_of(config: RunConfig, preparation: Preparation | None = None) -> ImageData:
    """The data of a run, checked against the fingerprint in its configuration.

    With the `preparation` of a finished run its model's own files are not needed, nor run if they are code.

    Raises:
        InputError: the data is gone, or not what it was.
    """
    images = data_of_options(config, preparation)
    if images.fingerprint != config.data_fingerprint:
        raise InputError(
            f"data {config.data!r} is not what this run was configured with "
            f"(fingerprint {images.fingerprint[:12]}, expected {config.data_fingerprint[:12]}): start a new run"
        )
    return images


def method_settings() -> set[str]:
    """The settings that any method has."""
    return {name for method in registry.names() for name in registry.settings(method)}


def _augmented(given: dict[str, Any]) -> dict[str, Any]:
    """The options with what the name of an augmentation stands for in its place."""
    rest = dict(given)
    name = rest.pop("augment", None)
    if name is None:
        return rest
    if name not in AUGMENT:
        raise errors.unknown("augmentation", name, AUGMENT)
    return {**AUGMENT[name], **rest}


def _check_options(given: dict[str, Any]) -> None:
    known = [
        "weights",
        *DATA_OPTIONS,
        "subset_per_trial",
        "least_steps",
        *TRAINING_OPTIONS,
        *teaching.OPTIONS,
        *sorted(method_settings()),
    ]
    for name in given:
        if name not in known:
            raise errors.unknown("option", name, known)


def _training_defaults(preset: Preset, given: dict[str, Any]) -> dict[str, Any]:
    defaults = asdict(preset)
    for name in ("model", "val_fraction", "least_steps"):
        del defaults[name]
    defaults |= AUGMENT[defaults.pop("augment")]
    if given.get("optimizer", preset.optimizer) != preset.optimizer:
        defaults |= OTHER_OPTIMIZER.get(given["optimizer"], {})
    if given.get("head") == "new":
        # A random head is nothing to keep, and need not be a linear layer that could have a rate of its own.
        defaults |= {"blend": 1.0, "lr": defaults["lr"] * preset.backbone_factor, "backbone_factor": 1.0}
    epochs = given.get("epochs", preset.epochs)
    steps = {round(fraction * epochs) for fraction in preset.milestones}
    if given.get("schedule", preset.schedule) != "steps":
        steps = set()
    return defaults | {
        "epochs": epochs,
        "milestones": sorted(m for m in steps if 0 < m < epochs),
        "device": "auto",
    }


@lru_cache(maxsize=8)
def _held_out(share: float, name: str, preparation: Preparation, **options: Any) -> float:
    """The share to hold out by default: none where that would be fewer images than there are classes."""
    if not share:
        return 0.0
    images = load_data(name, preparation, **options)
    if round(share * len(images.train_labels)) < images.num_classes:
        return 0.0
    if options.get("split_by") is not None:
        try:
            load_data(name, preparation, **{**options, "val_fraction": share})
        except InputError:  # so few groups that none is to spare
            return 0.0
    return share


def _settings(method: str, model: str, training: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The method's own settings: its defaults, then the protocol's, then the user's.

    A head that is fitted first is the warm-up of methods that would otherwise begin with plain training.
    """
    warmed_up = training["head"] == "probe" and registry.find(method).warms_up_plainly
    protocol = {
        "warmup": 0 if warmed_up else round(WARMUP_FRACTION * training["epochs"]),
        "saliency": models.default_saliency(model),
    }
    settings = {}
    for name, default in registry.settings(method).items():
        value = given.get(name, protocol.get(name, default))
        # So that weight=1 and weight=1.0 name the same trial.
        settings[name] = float(value) if isinstance(default, float) and isinstance(value, int) else value
    return settings


def _check_together(config: RunConfig) -> None:
    if registry.find(config.method).head_only and config.head != "probe":
        raise InputError(
            f"{config.method} is the linear probe of a pretrained network, and {config.model} begins with random "
            "weights or a new head: choose a pretrained --model, without --head new"
        )
    if config.blend < 1 and config.head == "new":
        raise InputError(
            f"--blend {config.blend:g} keeps a part of the weights that training began with, and a random head is "
            "nothing to keep: use --head probe with a pretrained network, or leave it out"
        )
    if config.head == "probe" and not models.is_pretrained(config.model):
        raise InputError(
            f"--head probe needs a pretrained network, which {config.model} is not: leave it out"
        )
    saliency = config.settings.get("saliency")
    if saliency == "grad-cam" and not models.is_spatial(config.model):
        raise InputError(f"model {config.model!r} has no feature maps for grad-cam: use --saliency grad")
