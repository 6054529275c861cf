"""How a setting is declared, once, and the settings that are no part of a run's configuration as such.

A setting is a field of one of three classes: `selftaught.files.config.RunConfig` (data, training, machine),
`MethodSettings`, and `Shorthands` (what a user may say in place of a field of the first). Flags, recipe keys, checks
and lists of names are derived from these declarations.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from operator import ge, gt, le, lt
from typing import Annotated, Any, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from selftaught import errors
from selftaught.errors import InputError
from selftaught.files.protocols import AUGMENT

METHOD, TEACHING, TRAINING, DATA, MACHINE = (
    "Method",
    "Teachers and peers",
    "Training",
    "Data",
    "Machine",
)
"""The kinds of settings, under which the flags are listed."""


def setting(
    kind: str,
    help: str,
    default: Any = ...,
    *,
    flag: str = "",
    metavar: str = "",
    before: str = "",
    later: bool = False,
    unit: str = "",
    **bounds: Any,
) -> Any:
    """A field that is a setting, as the right side of its declaration in a class.

    Args:
        kind: one of the kinds above, "" for what no user sets.
        help: what it is, for a flag; "" for a field without a flag.
        default: the default; without one a value must be given.
        flag: how the flag is spelled, where not like the field.
        metavar: what stands for the flag's value, where that is not its type.
        before: the field whose flag is listed next, where that is not the next field.
        later: whether the field was added later, with a default that trains as before there was the field: a
            configuration leaves it out of its name where it has the default, so that old runs keep their names.
        unit: what a number counts, for messages.
        **bounds: the range, as pydantic's ``Field`` takes it: gt, ge, lt, le, min_length.
    """
    extra: Any = {
        "kind": kind, "flag": flag, "metavar": metavar, "before": before, "later": later, "unit": unit
    }  # fmt: skip
    return Field(default, description=help, json_schema_extra=extra, **bounds)


@dataclass(frozen=True)
class Declared:
    """A setting with all that its declaration says, see `setting`.

    `type` is without None; `annotated` is what pydantic checks, None and range included; `default` is ``...`` where a
    value must be given.
    """

    name: str
    type: Any
    annotated: Any
    default: Any
    bounds: dict[str, float]
    help: str
    kind: str
    flag: str = ""
    metavar: str = ""
    before: str = ""
    later: bool = False
    unit: str = ""

    @property
    def range(self) -> str:
        """The bounds in words, "" where there are none.

        >>> METHOD_SETTINGS["alpha"].range, METHOD_SETTINGS["temperature"].range
        ('in (0, 1]', 'greater than 0')
        """
        low = self._end("ge", "[{:g}") or self._end("gt", "({:g}")
        high = self._end("le", "{:g}]") or self._end("lt", "{:g})")
        if low and high:
            return f"in {low}, {high}"
        unit = self.unit and f" {self.unit}"
        return (self._end("ge", "at least {:g}") or self._end("gt", "greater than {:g}")) + unit

    def _end(self, bound: str, text: str) -> str:
        return text.format(self.bounds[bound]) if bound in self.bounds else ""

    def check(self, value: Any) -> None:
        """Refuse a value of another type, or a number that is not finite or out of range.

        Raises:
            InputError: naming the setting, its range and the value.

        >>> METHOD_SETTINGS["alpha"].check(1.5)
        Traceback (most recent call last):
        selftaught.errors.InputError: alpha must be in (0, 1], not 1.5
        """
        expected = {float: Real, int: Integral}.get(self.type, self.type)
        fits = (value is None and self.default is None) or isinstance(value, expected)
        if not fits or (isinstance(value, bool) and self.type is not bool):
            raise InputError(f"{self.name} must be like {self.default!r}, not {value!r}: correct it")
        if self.bounds and not (
            math.isfinite(value) and all(COMPARE[name](value, bound) for name, bound in self.bounds.items())
        ):
            raise InputError(f"{self.name} must be {self.range}, not {value!r}")


COMPARE: dict[str, Callable[[float, float], bool]] = {"gt": gt, "ge": ge, "lt": lt, "le": le}
"""What the bounds of a range ask of a value."""


def declared(fields: type[BaseModel]) -> dict[str, Declared]:
    """The settings that are declared in a class, by name, in order; other fields are left out."""
    found = {}
    for name, field in fields.model_fields.items():
        if isinstance(field.json_schema_extra, dict):
            kinds = get_args(field.annotation)
            kind = kinds[0] if type(None) in kinds else field.annotation
            annotated: Any = field.annotation
            for item in field.metadata:
                annotated = Annotated[annotated, item]
            found[name] = Declared(
                name=name,
                type=get_args(kind)[0] if get_origin(kind) is Annotated else kind,
                annotated=annotated,
                default=... if field.is_required() else field.default,
                bounds={b: getattr(item, b) for item in field.metadata for b in COMPARE if hasattr(item, b)},
                help=field.description or "",
                **field.json_schema_extra,  # type: ignore[arg-type]
            )
    return found


def _augmentation(name: str) -> str:
    """A name in `AUGMENT`, which is answered with the nearest one otherwise."""
    if name not in AUGMENT:
        raise errors.unknown("augmentation", name, AUGMENT)
    return name


class Shorthands(BaseModel):
    """What a user may say in place of a run's own settings; `selftaught.training.presets.resolve` works those out."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    least_steps: int | None = setting(
        TRAINING,
        "Without --epochs: as many more epochs as make so many full batches (pretrained: 120).",
        None,
        ge=0,
        before="head",
    )
    augment: Annotated[str, AfterValidator(_augmentation)] | None = setting(
        TRAINING,
        "none, crop (the paper's, for small images), photo (crops of any size and shape), or photo with more: "
        "trivial, rand (see --policy, --erasing). All but none mirror.",
        None,
        before="flip",
    )
    subset_per_trial: bool | None = setting(
        DATA,
        "With --train-size: other training images for each seed (the default), or the same for all.",
        None,
        flag="--subset-per-trial/--one-subset",
    )
    teacher: str | None = setting(
        TEACHING,
        "Whom kd and others learn from: a model, trained first, or the directory of a finished run.",
        None,
        before="temperature",
    )
    assistant: str | None = setting(
        TEACHING, "The model between teacher and student (takd).", None, before="temperature"
    )
    teacher_per_trial: bool | None = setting(
        TEACHING,
        "A teacher for each seed, or one for all.",
        None,
        flag="--teacher-per-trial/--one-teacher",
        before="temperature",
    )


class MethodSettings(BaseModel):
    """The settings of methods: wherever one is, it means the same and has one range.

    Which of them a method has, and where its default is another one, says `selftaught.files.catalogue`.
    """

    saliency: str = setting(METHOD, "Which maps: grad-cam, grad, grad-input, guided-backprop.", "grad-cam")
    similarity: str = setting(METHOD, "How maps are compared: cosine, multiscale-mse, wasserstein.", "cosine")
    alpha: float = setting(METHOD, "Probability of the true class in soft labels.", 0.9, gt=0, le=1)
    weight: float = setting(
        METHOD, "Weight λ of the one-hot cross-entropy (dml: of the peer's part).", 0.1, ge=0
    )
    refresh: float = setting(
        METHOD,
        "Share of the batches to explain anew, the others keep what they had (le: 1, all).",
        1.0,
        ge=0.01,  # with less, soft labels would be a hundred epochs old
        le=1,
        later=True,
    )
    warmup: int = setting(METHOD, "Epochs of plain training first (a fifth).", 0, ge=0, unit="epochs")
    strength: float = setting(METHOD, "Strength of the confidence penalty.", 0.5, ge=0)
    drop_rate: float = setting(METHOD, "Dropout rate.", 0.1, ge=0, lt=1)
    layer: str | None = setting(METHOD, "Grad-CAM's layer, by its dotted name.", None)
    relu: bool = setting(
        METHOD, "Keep only the positive part of Grad-CAM maps.", False, flag="--relu/--no-relu"
    )
    upsample: bool = setting(
        METHOD,
        "Enlarge Grad-CAM maps to the input's size to compare them.",
        False,
        flag="--upsample/--no-upsample",
        later=True,
    )
    centre: bool = setting(
        METHOD,
        "Take the mean map over the classes off each map.",
        False,
        flag="--centre/--no-centre",
        later=True,
    )
    temperature: float = setting(TEACHING, "Temperature of the teacher's soft labels (4).", 4.0, gt=0)
    beta: float = setting(TEACHING, "Least confidence that cwtm-random draws (0.5).", 0.5, ge=0, lt=1)
    stage: int = setting(TEACHING, "Which of the blocks is the hint (2).", 2, ge=1)
    blocks: str | None = setting(
        TEACHING,
        "Blocks of the student that hint, at and fsp compare, by their dotted names: a,b,c (built-in: known).",
        None,
        later=True,
    )
    teacher_blocks: str | None = setting(TEACHING, "Blocks of the teacher (as --blocks).", None, later=True)
    attention_weight: float = setting(TEACHING, "Weight of the attention maps (at: 1000).", 1000.0, ge=0)
    flow_weight: float = setting(TEACHING, "Weight of the flows (fsp: 0.01).", 0.01, gt=0)


SHORTHANDS, METHOD_SETTINGS = declared(Shorthands), declared(MethodSettings)
"""The settings of the two classes by name."""
