"""A run's configuration: everything that changes its result, and the name that follows from it."""

import hashlib
import json
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from selftaught.errors import InputError
from selftaught.files.settings import (
    DATA,
    MACHINE,
    METHOD_SETTINGS,
    SHORTHANDS,
    TRAINING,
    Shorthands,
    declared,
    setting,
)

PROTOCOL = 2
"""Raised whenever the trainer changes what a given configuration leads to, by more than rounding."""

_FINGERPRINTS = {
    "data_fingerprint": "the images, their labels or their division have changed",
    "model_fingerprint": "the model's files have changed",
}
"""What a difference between two hashes means."""

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Device = Literal["cpu", "cuda"]
Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["steps", "cosine"]
Policy = Literal["none", "trivial", "rand"]
Sampling = Literal["shuffle", "balanced"]
Head = Literal["new", "probe"]
BatchNorm = Literal["train", "frozen"]
ClassWeights = Literal["none", "balanced"]


_Model = TypeVar("_Model", bound=BaseModel)

of_data, of_training, of_machine = (partial(setting, kind) for kind in (DATA, TRAINING, MACHINE))


class RunConfig(BaseModel):
    """Everything that changes the result of a run; two runs are the same run if these are equal.

    Made by `selftaught.training.presets.resolve`, which fills in the protocol's defaults. Values out of range
    raise pydantic's ``ValidationError``; `parse` turns that into a one-line `InputError`. `settings` are the
    method's own, complete but for `NEUTRAL` ones; the method knows their ranges. `data`, `model` and the file of
    `weights` that it starts from are what the user called them; what they were is in the two fingerprints (that of a
    built-in model is empty: its name says it all).
    `crop_originals` says whether parts of pictures (`min_scale`) are cut from the originals, rather than from pictures
    that have the input's size already. `teacher` is the run that the method learns from, finished before on the same
    images; None where it learns from nobody.

    Of fine-tuning: `head` says whether training begins with a random classifier or with the linear probe's solution,
    fitted by cross-entropy whatever the method. `backbone_factor` multiplies the learning rate of everything below the
    classifier. With `batch_norm` frozen, batch normalisation keeps the statistics that the network came with. `ramp` is
    the share of all steps in which the rate rises. Without `decay_norms` neither biases nor the weights of
    normalisations decay. With `ema` above 0 the result is the average of the weights over the last 1 / (1 − ema) steps
    or so; with `blend` below 1 it lies that share of the way from the weights that fine-tuning began with to those.
    With `class_weights` balanced an image counts N / (C · images of its class).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    protocol: int = PROTOCOL
    data: str
    data_fingerprint: str
    image_size: int | None = of_data(
        "Resize images to a square of this many pixels a side.", None, ge=1, le=2048
    )
    train_size: int | None = of_data("Train on this many images, stratified.", None, ge=2)
    val_fraction: float = of_data(
        "Part of the training data to hold out, to watch and to calibrate on "
        "(own data: 0.1, or 0 if that is fewer images than classes).",
        0.0,
        ge=0,
        lt=1,
    )
    test_fraction: float = of_data(
        "Part to set aside for testing, where the data has no test part (0.2).", 0.2, gt=0, lt=1
    )
    test_size: int | None = of_data("Test on this many images, stratified, for a first look.", None, ge=2)
    split_seed: int = of_data("Seed of every division of the data (0).", 0, ge=0, lt=2**63)
    split_per_trial: bool = of_data(
        "Divide the data anew for each trial.", False, flag="--split-per-trial/--one-split"
    )
    split_by: str | None = of_data(
        "Keep together what belongs together (one object, patient, shoot): a column, or a regular expression "
        "searched for in each file's path.",
        None,
        min_length=1,
        metavar="COLUMN|REGEX",
        later=True,
    )
    subset_seed: int | None = of_data("", None, ge=0, lt=2**63, later=True)
    model: str = of_training(
        "A model (see `selftaught ls models`), timm:NAME, torchvision:NAME, hf:FOLDER_OR_ID, or FILE.py:FUNCTION."
    )
    model_fingerprint: str = ""
    weights: str | None = of_training(
        "Safetensors file that a model of timm or torchvision starts from, instead of its own weights.",
        None,
        metavar="FILE",
        later=True,
    )
    method: str
    settings: dict[str, bool | int | float | str | None] = {}
    epochs: int = of_training("Passes over the training data.", ge=1)
    batch_size: int = of_training("Images per step.", ge=2)
    optimizer: Optimizer = of_training("sgd or adamw.", "sgd")
    schedule: Schedule = of_training("steps (see --milestones) or cosine, of the learning rate.", "steps")
    lr: float = of_training("Initial learning rate.", gt=0, le=1e30)
    momentum: float = of_training("Momentum of SGD.", ge=0, lt=1)
    weight_decay: float = of_training("Weight decay.", ge=0, le=1e30)
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = of_training(
        "Epochs after which the rate falls to a tenth, or none.", (), metavar="E,E,..."
    )
    head: Head = of_training(
        "How the classifier begins: new (random) or probe (the linear probe's solution; pretrained networks).",
        "new",
        later=True,
    )
    backbone_factor: float = of_training(
        "What --lr is multiplied by below the classifier (pretrained: 0.4).", 1.0, gt=0, le=1, later=True
    )
    batch_norm: BatchNorm = of_training(
        "train, or frozen: keep the statistics that the network came with (pretrained: frozen).",
        "train",
        later=True,
    )
    ramp: float = of_training(
        "Share of the steps in which the learning rate rises from 0 (pretrained: 0.1).",
        0.0,
        ge=0,
        lt=1,
        later=True,
    )
    decay_norms: bool = of_training(
        "Let biases and the weights of normalisations decay too (pretrained: no).",
        True,
        flag="--decay-norms/--no-decay-norms",
        later=True,
    )
    ema: float = of_training(
        "Evaluate the average of the weights, with this decay per step, such as 0.99.",
        0.0,
        ge=0,
        lt=1,
        later=True,
    )
    blend: float = of_training(
        "Evaluate weights this share of the way from where fine-tuning began to its end (pretrained: 0.7).",
        1.0,
        gt=0,
        le=1,
        later=True,
    )
    class_weights: ClassWeights = of_training(
        "none, or balanced: each class counts the same in the loss, however rare.", "none", later=True
    )
    padding: int = of_training("", 0, ge=0, le=1024)
    flip: bool = of_training("Mirror half of the images.", False, flag="--flip/--no-flip")
    min_scale: float | None = of_training("", None, gt=0, le=1)
    crop_originals: bool = setting("", "", False, later=True)
    policy: Policy = of_training(
        "Operations on top: trivial (TrivialAugment, wide), rand (RandAugment) or none.", "none", later=True
    )
    erasing: float = of_training(
        "Share of the images that lose a random rectangle.", 0.0, ge=0, lt=1, later=True
    )
    sampling: Sampling = of_training(
        "shuffle (each image once per epoch) or balanced (each class equally often).", "shuffle", later=True
    )
    seed: int = of_training("Seed of the (first) trial.", 0, ge=0, lt=2**63)
    threads: int = of_machine("CPU threads of a trial (train: up to 4, else 1).", 1, ge=1, le=1024)
    precision: Precision = of_machine("32-true, bf16-mixed or 16-mixed.", "32-true")
    device: Device = of_machine("cpu, cuda or auto.", "cpu")
    teacher: "RunConfig | None" = None

    @field_validator("settings")
    @classmethod
    def _without_neutral(cls, settings: dict[str, Any]) -> dict[str, Any]:
        return {n: value for n, value in settings.items() if n not in NEUTRAL or value != NEUTRAL[n]}

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        increasing = all(a < b for a, b in zip(self.milestones, self.milestones[1:], strict=False))
        if not increasing or any(m >= self.epochs for m in self.milestones):
            raise InputError(
                f"milestones {_listed(self.milestones)} must increase and lie before the last of {self.epochs} epochs"
            )
        if self.milestones and self.schedule != "steps":
            raise InputError(
                f"milestones belong to --schedule steps, not to {self.schedule}: leave out one of the two"
            )
        if self.momentum and self.optimizer != "sgd":
            raise InputError(f"momentum belongs to --optimizer sgd, not to {self.optimizer}: leave it out")
        if self.sampling == "balanced" and self.class_weights == "balanced":
            raise InputError(
                "sampling balanced and class_weights balanced make up for uneven classes twice: leave out one"
            )
        warmup = self.settings.get("warmup", 0)
        if isinstance(warmup, int) and warmup >= self.epochs:
            raise InputError(
                f"warmup {warmup} leaves no epoch for {self.method} out of {self.epochs}: lower it"
            )
        if self.precision == "16-mixed" and self.device == "cpu":
            raise InputError("precision '16-mixed' needs a GPU: use bf16-mixed or 32-true on the cpu")
        return self

    def canonical(self) -> str:
        """The configuration as JSON with sorted keys, without what the fingerprints say already."""
        return self._json(exclude={"data", *DATA_OPTIONS} | self._named())

    @property
    def trial_id(self) -> str:
        """The first 12 hex digits of the SHA-256 of `canonical`: a folder may be moved, a default spelled out."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:12]

    @property
    def protocol_id(self) -> str:
        """What the trials of one comparison have in common, as 6 hex digits."""
        shared = self.shared()._json(exclude={"data"} | self._named())
        return hashlib.sha256(shared.encode()).hexdigest()[:6]

    def _named(self) -> set[str]:
        return {"model", "weights"} if self.model_fingerprint else set()

    def _json(self, exclude: set[str]) -> str:
        values = self.model_dump(mode="json", exclude={"teacher", *exclude})
        values = {n: value for n, value in values.items() if n not in LATER or value != LATER[n]}
        if self.teacher is not None:
            values["teacher"] = self.teacher.trial_id
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    def shared(self) -> "RunConfig":
        """The configuration without what differs between the trials of a comparison, and without paths.

        Data and a model of files are known by their fingerprints, wherever they lie.
        """
        own: dict[str, Any] = {"method": "", "settings": {}, "seed": 0, "data": "", "teacher": None}
        own |= {"model": "", "weights": None} if self.model_fingerprint else {}
        if self.split_per_trial:
            # The divisions differ; what is divided does not.
            own |= {"split_seed": 0, "data_fingerprint": f"divisions of {self.data}"}
        elif self.subset_seed is not None:
            # `canonical` leaves to the fingerprint what the data is and how it is prepared and divided.
            options = {name: getattr(self, name) for name in DATA_OPTIONS if name != "subset_seed"}
            own |= {"subset_seed": 0, "data_fingerprint": f"images of {self.data} by {json.dumps(options)}"}
        return self.model_copy(update=own)

    @property
    def divided_per_trial(self) -> bool:
        """Whether each seed has training images of its own, and with `split_per_trial` test images as well."""
        return self.split_per_trial or self.subset_seed is not None

    @property
    def warmup(self) -> int:
        """The epochs (from 0) before the method proper starts; 0 for methods without a warm-up."""
        return int(self.settings.get("warmup") or 0)

    @property
    def refresh(self) -> float:
        """The share of the batches past the warm-up that are explained; 1 for methods that explain none."""
        return float(self.settings.get("refresh") or 1.0)

    def differences(self, other: "RunConfig") -> list[str]:
        """What `other` has different, one ``name: ours -> theirs`` each."""
        ours, theirs = _flat(self), _flat(other)
        return [
            _FINGERPRINTS.get(name) or f"{name}: {ours.get(name, 'unset')} -> {theirs.get(name, 'unset')}"
            for name in dict.fromkeys([*ours, *theirs])
            if ours.get(name) != theirs.get(name)
        ]


SETTINGS = declared(RunConfig)
"""The settings of data, training and machine by name."""

DATA_OPTIONS = tuple(name for name, declared in SETTINGS.items() if declared.kind == DATA)
"""What leads from a source to the data fingerprint, and is superfluous beside it."""

TRAINING_OPTIONS = tuple(name for name, declared in SETTINGS.items() if declared.kind in (TRAINING, MACHINE))
"""What else a user may set of a run, whatever its method."""

LATER = {name: declared.default for name, declared in SETTINGS.items() if declared.later}
"""Fields that were added later, each with the value that trains as before there was the field."""

NEUTRAL = {name: declared.default for name, declared in METHOD_SETTINGS.items() if declared.later}
"""Settings that methods were given later, likewise.

A configuration leaves them out where they have it: a run keeps the name that it had before there was the setting.
"""


def parse(values: dict[str, Any]) -> RunConfig:
    """The configuration with these values; a value out of range is a one-line `InputError`.

    >>> parse({"data": "d", "data_fingerprint": "", "model": "m", "method": "ce", "epochs": 0,
    ...        "batch_size": 2, "lr": 0.1, "momentum": 0, "weight_decay": 0})
    Traceback (most recent call last):
    selftaught.errors.InputError: epochs is 0 but should be greater than or equal to 1
    """
    for name in ("data", "model", "weights"):
        if not str(values.get(name)).isprintable():
            raise InputError(
                f"{name} {str(values[name])!r} has characters that no record can hold: rename it"
            )
    return _validated(RunConfig, values)


def checked_shorthands(values: dict[str, Any]) -> dict[str, Any]:
    """Those of the values that are `Shorthands`; one out of range is a one-line `InputError`."""
    given = {name: values[name] for name in SHORTHANDS if name in values}
    _validated(Shorthands, {name: value for name, value in given.items() if not isinstance(value, RunConfig)})
    return given


def _validated(kind: type[_Model], values: dict[str, Any]) -> _Model:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(_one_line(error)) from None


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] == "value_error":  # raised by a validator above, already one line
        return str(first["ctx"]["error"])
    culprit = ".".join(str(part) for part in first["loc"])
    return f"{culprit} is {first['input']!r} but {first['msg'].replace('Input ', '')}"


def _flat(config: RunConfig) -> dict[str, Any]:
    values = config.model_dump(mode="json", exclude={"teacher"})
    teacher = config.teacher
    if teacher is not None:
        values["teacher"] = (
            f"{teacher.model} ({teacher.method}, seed {teacher.seed}, trial {teacher.trial_id})"
        )
    return values | values.pop("settings")


def _listed(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))
