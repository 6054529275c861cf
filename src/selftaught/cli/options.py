"""The flags that several commands share, each defined once."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from selftaught.errors import InputError

_METHOD, _TEACHING, _TRAINING, _DATA = "Method", "Teachers and peers", "Training", "Data"
_MACHINE, _OUTPUT = "Machine", "Output"


def _flag(help: str, panel: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar)


@dataclass(frozen=True)
class RunOptions:
    """Everything that changes what is trained; None stands for the protocol's default."""

    model: Annotated[
        str | None,
        _flag(
            "A model (see `selftaught ls models`), timm:NAME, torchvision:NAME, hf:FOLDER_OR_ID, or FILE.py:FUNCTION.",
            _TRAINING,
        ),
    ] = None
    weights: Annotated[
        str | None,
        _flag(
            "Safetensors file that a model of timm or torchvision starts from, instead of its own weights.",
            _TRAINING,
            metavar="FILE",
        ),
    ] = None
    saliency: Annotated[
        str | None, _flag("Which maps: grad-cam, grad, grad-input, guided-backprop.", _METHOD)
    ] = None
    similarity: Annotated[
        str | None, _flag("How maps are compared: cosine, multiscale-mse, wasserstein.", _METHOD)
    ] = None
    alpha: Annotated[float | None, _flag("Probability of the true class in soft labels.", _METHOD)] = None
    weight: Annotated[
        float | None, _flag("Weight λ of the one-hot cross-entropy (dml: of the peer's part).", _METHOD)
    ] = None
    refresh: Annotated[
        float | None,
        _flag("Share of the batches to explain anew, the others keep what they had (le: 1, all).", _METHOD),
    ] = None
    warmup: Annotated[int | None, _flag("Epochs of plain training first (a fifth).", _METHOD)] = None
    strength: Annotated[float | None, _flag("Strength of the confidence penalty.", _METHOD)] = None
    drop_rate: Annotated[float | None, _flag("Dropout rate.", _METHOD)] = None
    layer: Annotated[str | None, _flag("Grad-CAM's layer, by its dotted name.", _METHOD)] = None
    relu: Annotated[
        bool | None, _flag("Keep only the positive part of Grad-CAM maps.", _METHOD, "--relu/--no-relu")
    ] = None
    upsample: Annotated[
        bool | None,
        _flag(
            "Enlarge Grad-CAM maps to the input's size to compare them.", _METHOD, "--upsample/--no-upsample"
        ),
    ] = None
    centre: Annotated[
        bool | None,
        _flag("Take the mean map over the classes off each map.", _METHOD, "--centre/--no-centre"),
    ] = None
    teacher: Annotated[
        str | None,
        _flag(
            "Whom kd and others learn from: a model, trained first, or the directory of a finished run.",
            _TEACHING,
        ),
    ] = None
    assistant: Annotated[str | None, _flag("The model between teacher and student (takd).", _TEACHING)] = None
    teacher_per_trial: Annotated[
        bool | None,
        _flag("A teacher for each seed, or one for all.", _TEACHING, "--teacher-per-trial/--one-teacher"),
    ] = None
    temperature: Annotated[
        float | None, _flag("Temperature of the teacher's soft labels (4).", _TEACHING)
    ] = None
    beta: Annotated[float | None, _flag("Least confidence that cwtm-random draws (0.5).", _TEACHING)] = None
    stage: Annotated[int | None, _flag("The stage whose output is the hint (2).", _TEACHING)] = None
    attention_weight: Annotated[
        float | None, _flag("Weight of the attention maps (at: 1000).", _TEACHING)
    ] = None
    flow_weight: Annotated[float | None, _flag("Weight of the flows (fsp: 0.01).", _TEACHING)] = None
    epochs: Annotated[int | None, _flag("Passes over the training data.", _TRAINING)] = None
    batch_size: Annotated[int | None, _flag("Images per step.", _TRAINING)] = None
    optimizer: Annotated[str | None, _flag("sgd or adamw.", _TRAINING)] = None
    schedule: Annotated[
        str | None, _flag("steps (see --milestones) or cosine, of the learning rate.", _TRAINING)
    ] = None
    lr: Annotated[float | None, _flag("Initial learning rate.", _TRAINING)] = None
    momentum: Annotated[float | None, _flag("Momentum of SGD.", _TRAINING)] = None
    weight_decay: Annotated[float | None, _flag("Weight decay.", _TRAINING)] = None
    least_steps: Annotated[
        int | None,
        _flag(
            "Without --epochs: as many more epochs as make so many full batches (pretrained: 120).", _TRAINING
        ),
    ] = None
    head: Annotated[
        str | None,
        _flag(
            "How the classifier begins: new (random) or probe (the linear probe's solution; pretrained networks).",
            _TRAINING,
        ),
    ] = None
    backbone_factor: Annotated[
        float | None, _flag("What --lr is multiplied by below the classifier (pretrained: 0.4).", _TRAINING)
    ] = None
    batch_norm: Annotated[
        str | None,
        _flag(
            "train, or frozen: keep the statistics that the network came with (pretrained: frozen).",
            _TRAINING,
        ),
    ] = None
    ramp: Annotated[
        float | None,
        _flag("Share of the steps in which the learning rate rises from 0 (pretrained: 0.1).", _TRAINING),
    ] = None
    decay_norms: Annotated[
        bool | None,
        _flag(
            "Let biases and the weights of normalisations decay too (pretrained: no).",
            _TRAINING,
            "--decay-norms/--no-decay-norms",
        ),
    ] = None
    ema: Annotated[
        float | None,
        _flag("Evaluate the average of the weights, with this decay per step, such as 0.99.", _TRAINING),
    ] = None
    blend: Annotated[
        float | None,
        _flag(
            "Evaluate weights this share of the way from where fine-tuning began to its end (pretrained: 0.7).",
            _TRAINING,
        ),
    ] = None
    class_weights: Annotated[
        str | None,
        _flag("none, or balanced: each class counts the same in the loss, however rare.", _TRAINING),
    ] = None
    milestones: Annotated[
        str | None,
        _flag("Epochs after which the rate falls to a tenth, or none.", _TRAINING, metavar="E,E,..."),
    ] = None
    augment: Annotated[
        str | None,
        _flag(
            "none, crop (the paper's, for small images), photo (crops of any size and shape), or photo with more: "
            "trivial, rand (see --policy, --erasing). All but none mirror.",
            _TRAINING,
        ),
    ] = None
    policy: Annotated[
        str | None,
        _flag("Operations on top: trivial (TrivialAugment, wide), rand (RandAugment) or none.", _TRAINING),
    ] = None
    erasing: Annotated[
        float | None, _flag("Share of the images that lose a random rectangle.", _TRAINING)
    ] = None
    flip: Annotated[bool | None, _flag("Mirror half of the images.", _TRAINING, "--flip/--no-flip")] = None
    sampling: Annotated[
        str | None,
        _flag("shuffle (each image once per epoch) or balanced (each class equally often).", _TRAINING),
    ] = None
    seed: Annotated[int | None, _flag("Seed of the (first) trial.", _TRAINING)] = None
    image_size: Annotated[
        int | None, _flag("Resize images to a square of this many pixels a side.", _DATA)
    ] = None
    train_size: Annotated[int | None, _flag("Train on this many images, stratified.", _DATA)] = None
    val_fraction: Annotated[
        float | None,
        _flag(
            "Part of the training data to hold out, to watch and to calibrate on "
            "(own data: 0.1, or 0 if that is fewer images than classes).",
            _DATA,
        ),
    ] = None
    test_fraction: Annotated[
        float | None, _flag("Part to set aside for testing, where the data has no test part (0.2).", _DATA)
    ] = None
    test_size: Annotated[
        int | None, _flag("Test on this many images, stratified, for a first look.", _DATA)
    ] = None
    split_seed: Annotated[int | None, _flag("Seed of every division of the data (0).", _DATA)] = None
    split_per_trial: Annotated[
        bool | None,
        _flag("Divide the data anew for each trial.", _DATA, "--split-per-trial/--one-split"),
    ] = None
    split_by: Annotated[
        str | None,
        _flag(
            "Keep together what belongs together (one object, patient, shoot): a column, or a regular expression "
            "searched for in each file's path.",
            _DATA,
            metavar="COLUMN|REGEX",
        ),
    ] = None
    subset_per_trial: Annotated[
        bool | None,
        _flag(
            "With --train-size: other training images for each seed (the default), or the same for all.",
            _DATA,
            "--subset-per-trial/--one-subset",
        ),
    ] = None
    threads: Annotated[
        int | None,
        _flag("CPU threads of a trial (compare: 1, train: up to 4).", _MACHINE),
    ] = None
    precision: Annotated[str | None, _flag("32-true, bf16-mixed or 16-mixed.", _MACHINE)] = None
    device: Annotated[str | None, _flag("cpu, cuda or auto.", _MACHINE)] = None

    def given(self) -> dict[str, Any]:
        """What the user set, under the names that `selftaught.training.presets.resolve` takes."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.milestones is not None:
            values["milestones"] = parse_milestones(self.milestones)
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class OutputOptions:
    """Where the result goes and what is said on the way."""

    out: Annotated[Path | None, _flag("Directory of the run or comparison.", _OUTPUT)] = None
    as_json: Annotated[bool, _flag("Print the result as JSON.", _OUTPUT, "--json")] = False
    keep_checkpoints: Annotated[
        bool,
        _flag("Keep the checkpoints of finished runs, which take much room.", _OUTPUT, "--keep-checkpoints"),
    ] = False
    quiet: Annotated[bool, _flag("No progress, only the result.", _OUTPUT, "--quiet", "-q")] = False


def parse_milestones(text: str) -> list[int]:
    """Epoch numbers separated by commas or spaces; ``none`` for no milestones.

    >>> parse_milestones("80,120"), parse_milestones("none")
    ([80, 120], [])
    """
    if text.strip() == "none":
        return []
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise InputError(
            f"milestones {text!r} are not epoch numbers: write them as 80,120, or none"
        ) from None


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator: each parameter annotated with a dataclass of options becomes one flag per field."""
    parameters = inspect.signature(command).parameters.values()
    groups: dict[str, Any] = {p.name: p.annotation for p in parameters if is_dataclass(p.annotation)}

    def call(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    own = [p for p in parameters if p.name not in groups]
    shared = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hint)
        for group in groups.values()
        for field, hint in zip(
            fields(group), get_type_hints(group, include_extras=True).values(), strict=True
        )
    ]
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in [*own, *shared]}
    return call
