"""The configuration that a protocol's defaults and a user's options make, and the data that it leads to."""

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch

from selftaught import data as datasets
from selftaught import errors, models
from selftaught.activities import OnActivity, activity, nobody
from selftaught.data import ImageData, levels, sources
from selftaught.data.preparation import Preparation
from selftaught.errors import InputError
from selftaught.files.config import (
    DATA_OPTIONS,
    SETTINGS,
    TRAINING_OPTIONS,
    RunConfig,
    checked_shorthands,
    parse,
)
from selftaught.files.protocols import (
    AUGMENT,
    BY_DATA,
    BY_MODEL,
    CIFAR,
    FINE_TUNE,
    OTHER_OPTIMIZER,
    OWN_DATA,
    Protocol,
)
from selftaught.files.settings import METHOD_SETTINGS, SHORTHANDS
from selftaught.methods import registry
from selftaught.training import teaching


def resolve(
    data: str, method: str, model: str | None = None, on_activity: OnActivity = nobody, **options: Any
) -> RunConfig:
    """The complete configuration of one run: the protocol's defaults with `options` in their place.

    Args:
        data: a dataset's name, a folder, ...; it is loaded here, because its fingerprint is part of the configuration.
        method: a method's key (`selftaught.methods.registry.names`).
        model: a model's name, ``hf:DIR_OR_ID``, ``timm:NAME``, ``torchvision:NAME`` or ``path.py:function``; by default
            the dataset's preset.
        on_activity: hears of the reading of the data.
        **options: any field of `RunConfig`, any method's setting by name (``epochs=5, alpha=0.8``), and ``augment``,
            a name in `AUGMENT`. None means the default. Settings that `method` does not have are left out, so that
            one set of options serves several methods and ``alpha`` does not change the name of a cross-entropy run.
            For a method that learns from another network: ``teacher`` and, for TAKD, ``assistant``, each a model's
            name, or as ``teacher`` the configuration of a finished run; ``teacher_per_trial=True`` for a teacher of
            each seed's own instead of one for all.

    Raises:
        InputError: an unknown name, or a value out of range.
    """
    given = {name: value for name, value in options.items() if value is not None}
    _check_options(given)
    given = {**AUGMENT.get(given.pop("augment", ""), {}), **given}
    path = sources.local_path(data)
    model, protocol = preset_for(data, model)
    asked = given.get("least_steps", protocol.get("least_steps"))
    least_steps = 0 if asked is None or "epochs" in given else asked
    found = models.located(model)
    named = {
        "data": str(path or data),
        "data_fingerprint": "",
        "model": found,
        "weights": models.located_weights(found, given.get("weights")),
    }
    # Refuses what it can before the data is read and resized; one batch an epoch makes the most epochs.
    config = _configured(named, method, protocol, given, max(least_steps, protocol["epochs"]))
    known: dict[str, Any] = {"model_fingerprint": models.fingerprint(config.model, config.weights)}
    if "val_fraction" not in given:
        source = (config.data, models.preparation(config.model, config.weights))
        options = _load_options(config) | {"for_crops": config.crop_originals}
        heard = _Heard(on_activity)
        known["val_fraction"] = _held_out(protocol.get("val_fraction", 0.0), *source, heard, **options)
    images = data_of_options(config.model_copy(update=known), on_activity=on_activity)
    known["data_fingerprint"] = images.fingerprint
    if "epochs" not in given:
        # Counted in images: a last batch that is not full is no whole step.
        steps = math.ceil(least_steps * config.batch_size / len(images.train_labels))
        config = _configured(named, method, protocol, given, max(protocol["epochs"], steps))
    config = config.model_copy(update=known)
    return config.model_copy(update={"teacher": _teacher(data, config, given)})


def _configured(
    named: dict[str, Any], method: str, protocol: Protocol, given: dict[str, Any], epochs: int
) -> RunConfig:
    """The configuration with so many epochs unless others are `given`, before anything is read of data and model."""
    training = _training_defaults(protocol, {"epochs": epochs, **given})
    training |= {name: given[name] for name in TRAINING_OPTIONS if name in given}
    if training["device"] == "auto":
        training["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    warmup = protocol.get("warmup", CIFAR["warmup"])
    settings = _settings(method, named["model"], warmup, training, given)
    registry.check(method, settings)  # refuses a setting out of range
    of_data = {name: given[name] for name in DATA_OPTIONS if name in given}
    if of_data.get("split_per_trial"):
        of_data["split_seed"] = of_data.get("split_seed", 0) + training["seed"]
    elif given.get("subset_per_trial", True) and "train_size" in given:
        of_data.setdefault("subset_seed", of_data.get("split_seed", 0) + training["seed"])
    values = {**of_data, **training, **named, "method": method, "settings": settings}
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


def preset_for(data: str, model: str | None) -> tuple[str, Protocol]:
    """The model, by default the one of this data, and how it is trained unless the user says otherwise."""
    usual, protocol = BY_DATA.get(data, (BY_DATA["cifar10"][0], OWN_DATA))
    if model is not None and models.is_pretrained(model):
        augment = "photo" if protocol["augment"] == "crop" else protocol["augment"]
        protocol = {**protocol, **FINE_TUNE, "augment": augment}
    elif usual == BY_DATA["cifar10"][0] and model in BY_MODEL:
        protocol = {**BY_MODEL[model], "val_fraction": protocol.get("val_fraction", 0.0)}
    return model or usual, protocol


@dataclass(frozen=True)
class _Heard:
    """An `OnActivity` that equals any other: who listens makes no difference to what is read."""

    on_activity: OnActivity = field(default=nobody, compare=False)


@lru_cache(maxsize=1)
def load_data(name: str, preparation: Preparation, heard: _Heard = _Heard(), **options: Any) -> ImageData:
    """`selftaught.data.load`, kept for the next run on the same data in this process."""
    with activity(heard.on_activity, "reading images") as doing:
        return datasets.load(name, preparation=preparation, on_progress=doing.advance, **options)


def data_of_options(
    config: RunConfig, preparation: Preparation | None = None, on_activity: OnActivity = nobody
) -> ImageData:
    """The data that a run's options lead to today, prepared as its model asks unless that is known already."""
    if preparation is None:
        preparation = models.preparation(config.model, config.weights)
    else:
        # A finished run's pictures are scaled as they were, also where that was before a collection's range was used.
        preparation = replace(preparation, levels=preparation.levels or levels.WHOLE)
        return load_data(config.data, preparation, _Heard(on_activity), **_load_options(config))
    options = _load_options(config) | {"for_crops": config.crop_originals}
    return load_data(config.data, preparation, _Heard(on_activity), **options)


def _load_options(config: RunConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in DATA_OPTIONS if name != "split_per_trial"}


def data_of(
    config: RunConfig, preparation: Preparation | None = None, on_activity: OnActivity = nobody
) -> ImageData:
    """The data of a run, checked against the fingerprint in its configuration.

    With the `preparation` of a finished run its model's own files are not needed, nor run if they are code.

    Raises:
        InputError: the data is gone, or not what it was.
    """
    images = data_of_options(config, preparation, on_activity)
    if images.fingerprint != config.data_fingerprint:
        raise InputError(
            f"data {config.data!r} is not what this run was configured with "
            f"(fingerprint {images.fingerprint[:12]}, expected {config.data_fingerprint[:12]}): start a new run"
        )
    return images


def method_settings() -> set[str]:
    """The settings that any method has."""
    return {*METHOD_SETTINGS, *(name for method in registry.names() for name in registry.settings(method))}


def _check_options(given: dict[str, Any]) -> None:
    known = [*DATA_OPTIONS, *TRAINING_OPTIONS, *SHORTHANDS, *sorted(method_settings())]
    for name in given:
        if name not in known:
            raise errors.unknown("option", name, known)
    checked_shorthands(given)


def _training_defaults(protocol: Protocol, given: dict[str, Any]) -> dict[str, Any]:
    """The protocol's training as a configuration has it, in epochs, where so many epochs are `given`."""
    defaults = {n: SETTINGS[n].default for n in TRAINING_OPTIONS if SETTINGS[n].default is not ...}
    defaults |= {n: protocol[n] for n in TRAINING_OPTIONS if n in protocol}
    defaults |= AUGMENT[protocol["augment"]]
    optimizer, schedule = defaults["optimizer"], given.get("schedule", defaults["schedule"])
    if given.get("optimizer", optimizer) != optimizer:
        defaults |= OTHER_OPTIMIZER.get(given["optimizer"], {})
    if given.get("head") == "new":
        # A random head is nothing to keep, and need not be a linear layer that could have a rate of its own.
        factor = protocol.get("backbone_factor", 1.0)
        defaults |= {"blend": 1.0, "lr": defaults["lr"] * factor, "backbone_factor": 1.0}
    epochs = given["epochs"]
    steps = {round(fraction * epochs) for fraction in protocol["milestones"]} if schedule == "steps" else ()
    milestones = sorted(m for m in steps if 0 < m < epochs)
    return defaults | {"epochs": epochs, "milestones": milestones, "device": "auto"}


@lru_cache(maxsize=8)
def _held_out(share: float, name: str, preparation: Preparation, heard: _Heard, **options: Any) -> float:
    """The share to hold out by default: none where that would be fewer images than there are classes."""
    if not share:
        return 0.0
    images = load_data(name, preparation, heard, **options)
    if round(share * len(images.train_labels)) < images.num_classes:
        return 0.0
    if options.get("split_by") is not None:
        try:
            load_data(name, preparation, **{**options, "val_fraction": share})
        except InputError:  # so few groups that none is to spare
            return 0.0
    return share


def _settings(
    method: str, model: str, warmup: float, training: dict[str, Any], given: dict[str, Any]
) -> dict[str, Any]:
    """The method's own settings: its defaults, then the protocol's (`warmup` a share of the epochs), then the user's.

    A head that is fitted first is the warm-up of methods that would otherwise begin with plain training.
    """
    warmed_up = training["head"] == "probe" and registry.find(method).warms_up_plainly
    protocol = {
        "warmup": 0 if warmed_up else round(warmup * training["epochs"]),
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
