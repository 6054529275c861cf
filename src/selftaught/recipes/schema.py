"""What a recipe is: which networks are trained how, and what the paper printed for them.

Nothing here imports torch. Every value is checked when it is read; an unknown key, a label that names nothing and a
value out of range are refused. `selftaught.recipes` reads the files and turns what is refused into one line.
"""

import re
from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator

from selftaught import errors
from selftaught.errors import InputError

Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f]+$")]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Percent = Annotated[float, Field(ge=0, le=100)]

_VALUE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)(?:\s*±\s*([0-9]+(?:\.[0-9]+)?))?\s*")


class Strict(BaseModel):
    """Base of all: frozen, finite, and an unknown key is answered with the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for key in values:
                if key not in cls.model_fields:
                    raise errors.unknown("key", str(key), cls.model_fields)
        return values


class Value(Strict):
    """A printed mean in %, with its standard deviation where one is printed; in a file also ``90.26 ± 0.33``.

    `anchor` is False where the number contradicts the paper's own text or is plainly a slip: it is shown with a
    mark, and nothing is concluded from it.

    >>> Value.model_validate("90.26 ± 0.33")
    Value(mean=90.26, std=0.33, anchor=True)
    """

    mean: Percent
    std: Percent | None = None
    anchor: bool = True

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"mean": value}
        if isinstance(value, str):
            found = _VALUE.fullmatch(value)
            if not found:
                raise InputError(f"{value!r} is no printed value: write it like 90.26 ± 0.33 or 90.26")
            return {"mean": float(found[1]), "std": float(found[2]) if found[2] else None}
        return value


class Selected(Strict):
    """Stands for the value that the search recipe of this name found best for the group."""

    selected: Text


def _setting(value: Any) -> Any:
    if isinstance(value, dict):
        return Selected.model_validate(value)
    if isinstance(value, bool | int | float | str | Selected):
        return value
    raise InputError(f"{value!r} is no setting: give one value, or {{selected: NAME-OF-A-SEARCH}}")


Setting = Annotated[bool | int | float | str | Selected, PlainValidator(_setting)]
"""A method's setting: its value, or which search finds it."""


class Changes(Strict):
    """What a group changes of its data's `Protocol`; None leaves it."""

    epochs: Count | None = None
    batch_size: Annotated[int, Field(ge=2)] | None = None
    lr: Annotated[float, Field(gt=0)] | None = None
    momentum: Share | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    milestones: tuple[float, ...] | None = None
    warmup: Share | None = None
    augment: Literal["none", "crop"] | None = None
    val_fraction: Share | None = None

    @model_validator(mode="after")
    def _increasing(self) -> "Changes":
        bounds = [0.0, *(self.milestones or ()), 1.0]
        if any(a >= b for a, b in pairwise(bounds)):
            raise InputError(
                f"milestones {list(self.milestones or ())} must be fractions of the epochs that increase "
                "between 0 and 1: correct them"
            )
        return self


class Protocol(Changes):
    """How the networks of one dataset are trained: SGD, the learning rate divided by 10 at each milestone.

    `milestones` and `warmup` (stage 1 of the methods that have two) are fractions of the epochs; `augment` is a name
    in `selftaught.training.presets.AUGMENT`; `val_fraction` is held out of the training part.
    """

    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    lr: Annotated[float, Field(gt=0)]
    momentum: Share
    weight_decay: Annotated[float, Field(ge=0)]
    milestones: tuple[float, ...]
    warmup: Share
    augment: Literal["none", "crop"]
    val_fraction: Share = 0.0


class Group(Strict):
    """The networks of one architecture on one dataset: a row of most of the paper's tables.

    `teacher` and `assistant` are model names for the methods that learn from one, None where the recipe has none.
    """

    label: Text
    data: Text
    model: Text
    protocol: Changes = Changes()
    teacher: Text | None = None
    assistant: Text | None = None


class Variant(Strict):
    """A method with settings: a column of most of the paper's tables.

    `groups` are the labels of those it is run in, None for all. `by_group` are settings of some groups only, in place
    of or beside `settings`; `protocol` is what it changes of how networks are trained.

    `instead_of` is the label of the variant, above it in the recipe, that it is an alternative to: it has that one's
    method, settings and protocol but for what it says itself, and is compared with that one and no other.
    """

    label: Text
    method: Text
    settings: dict[str, Setting] = {}
    groups: tuple[Text, ...] | None = None
    by_group: dict[str, dict[str, Setting]] = {}
    protocol: Changes = Changes()
    instead_of: Text | None = None

    def runs_in(self, group: str) -> bool:
        """Whether it is run in the group of this label."""
        return self.groups is None or group in self.groups

    def settings_in(self, group: str) -> dict[str, bool | int | float | str | Selected]:
        """Its settings in the group of this label."""
        return {**self.settings, **self.by_group.get(group, {})}


class Quoted(Strict):
    """Numbers that the paper quotes from another one: `source` is its reference there, like ``[21]``."""

    source: Text
    group: Text
    values: dict[str, Value] = Field(min_length=1)


class Search(Strict):
    """Which value of one setting is best on held-out training images.

    `settings` are the method's others. `paper_best` is what the paper says it found, by group label; groups that it
    says nothing of are left out.
    """

    method: Text
    setting: Text
    values: tuple[float, ...] = Field(min_length=2)
    settings: dict[str, Setting] = {}
    paper_best: dict[str, float] = {}

    def label(self, value: float) -> str:
        """The label of the variant with this value.

        >>> Search(method="ls", setting="alpha", values=(0.6, 0.9)).label(0.9)
        'alpha 0.9'
        """
        return f"{self.setting} {value:g}"


class Expected(Strict):
    """How long the recipe takes at each budget, in words: alone, with its teachers and searches.

    What another recipe has trained already is not trained again.
    """

    smoke: Text
    quick: Text
    paper: Text


class DataBudget(Strict):
    """What a budget changes of the runs on one dataset; None leaves the recipe's value, or all the images.

    `train_size` and `test_size` are numbers of images, drawn evenly from the classes; `val_fraction` of the former is
    held out.
    """

    train_size: Annotated[int, Field(ge=2)] | None = None
    val_fraction: Share | None = None
    test_size: Annotated[int, Field(ge=2)] | None = None
    epochs: Count | None = None
    batch_size: Annotated[int, Field(ge=2)] | None = None


class Recipe(Strict):
    """A table or figure of the paper, or an experiment beside it, as data.

    Attributes:
        name: what `selftaught reproduce` calls it.
        kind: "table"; "search", whose variants are made from `search`, one per value; or which figure.
        source: where in the paper it stands.
        metric: "accuracy" or "error" (100 − accuracy), both in %.
        trials: how many seeds the paper's budget has.
        protocol: by the name of the data.
        paper: the printed values by group label, then variant label.
        quoted: rows that the paper took from elsewhere.
        teachers: the printed values of the teachers by model name.
        search: for the kind "search" only.
        judged_on: which images the numbers are of: the test images, or held-out training images where something is to
            be chosen by them.
        reference: the label of a variant that the others of its method are compared with as well, where they are meant
            to do the same for less.
        quick: by the name of the data, what the budget "quick" changes here, where its own would show nothing.
        notes: what the paper leaves open and what was chosen, shown with the result.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    title: Text
    kind: Literal["table", "search", "figure1", "figure2", "figure3"]
    source: Text
    command: Text
    expected: Expected
    metric: Literal["accuracy", "error"] = "accuracy"
    trials: Count = 5
    protocol: dict[str, Protocol]
    groups: tuple[Group, ...] = Field(min_length=1)
    variants: tuple[Variant, ...] = Field(min_length=1)
    paper: dict[str, dict[str, Value]] = {}
    quoted: tuple[Quoted, ...] = ()
    teachers: dict[str, Value] = {}
    search: Search | None = None
    judged_on: Literal["test", "held-out"] = "test"
    reference: Text | None = None
    quick: dict[str, DataBudget] = {}
    notes: tuple[Text, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_variant_per_value(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("search") is None:
            return values
        if "variants" in values:
            raise InputError("variants are made from the search's values: leave out variants or search")
        search = Search.model_validate(values["search"])
        variants = [
            {
                "label": search.label(value),
                "method": search.method,
                "settings": {**search.settings, search.setting: value},
            }
            for value in search.values
        ]
        return {"judged_on": "held-out", **values, "variants": variants}

    @model_validator(mode="before")
    @classmethod
    def _alternatives_say_what_changes(cls, values: Any) -> Any:
        variants = values.get("variants") if isinstance(values, dict) else None
        if not isinstance(variants, list | tuple):
            return values
        whole: list[Any] = []
        for item in variants:
            above = {str(other.get("label")): other for other in whole if isinstance(other, dict)}
            base = above.get(str(item.get("instead_of"))) if isinstance(item, dict) else None
            whole.append(item if base is None else _inherited(base, item))
        return {**values, "variants": whole}

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if (self.search is None) != (self.kind != "search"):
            raise InputError("search and kind: search belong together: give both or neither")
        if self.search and self.judged_on == "test":
            raise InputError("a search is judged on held-out training images: leave out judged_on")
        groups = _labels("group", self.groups)
        variants = _labels("variant", self.variants)
        for group in self.groups:
            if group.data not in self.protocol:
                raise errors.unknown("protocol", group.data, self.protocol)
            quick = self.quick.get(group.data, DataBudget()).val_fraction
            if self.judged_on == "held-out" and (quick == 0 or not self.protocol_of(group).val_fraction):
                raise InputError(
                    f"recipe {self.name} judges by held-out training images: give group {group.label!r} a val_fraction"
                )
        for variant in self.variants:
            _known("group", groups, [*(variant.groups or ()), *variant.by_group])
        _known("group", groups, [*self.paper, *(quoted.group for quoted in self.quoted)])
        _known("group", groups, self.search.paper_best if self.search else ())
        references = [self.reference, *(variant.instead_of for variant in self.variants)]
        _known("variant", variants, (label for label in references if label is not None))
        if self.judged_on == "held-out" and self.paper:
            raise InputError("what the paper prints is of the test images: leave out paper or judged_on")
        for variant in self.variants:
            if variant.protocol.val_fraction is not None:
                raise InputError(
                    f"variant {variant.label!r} changes val_fraction, but variants must have the same images: "
                    "change it for the group"
                )
            base = self.variant(variant.instead_of or variant.label)
            missing = [label for label in groups if variant.runs_in(label) and not base.runs_in(label)]
            if variant.instead_of == variant.label or missing:
                where = f"in group {missing[0]!r}" if missing else "but by itself"
                raise InputError(
                    f"variant {variant.label!r} is instead of {variant.instead_of!r}, which is not run {where}: "
                    "name another"
                )
        for label, cells in [*self.paper.items(), *((quoted.group, quoted.values) for quoted in self.quoted)]:
            _known("variant", variants, cells)
            for cell in cells:
                if not self.variant(cell).runs_in(label):
                    raise InputError(
                        f"variant {cell!r} has a printed value in group {label!r} but is not run there: "
                        "add the group to its groups"
                    )
        return self

    def group(self, label: str) -> Group:
        """The group of this label; KeyError where there is none."""
        return {group.label: group for group in self.groups}[label]

    def variant(self, label: str) -> Variant:
        """The variant of this label; KeyError where there is none."""
        return {variant.label: variant for variant in self.variants}[label]

    def only(self, variants: Collection[str] = (), groups: Collection[str] = ()) -> "Recipe":
        """The recipe with the variants of these labels and those that they are instead of, in these of their groups.

        All of them where no label is given.
        """
        asked = [variant for variant in self.variants if not variants or variant.label in variants]
        wanted = {self.reference, *(v.label for v in asked), *(v.instead_of for v in asked)}
        found = {
            "variants": tuple(variant for variant in self.variants if variant.label in wanted),
            "groups": tuple(
                group
                for group in self.groups
                if (not groups or group.label in groups) and any(v.runs_in(group.label) for v in asked)
            ),
        }
        return self.model_copy(update=found)

    def protocol_of(self, group: Group, variant: Variant | None = None) -> Protocol:
        """The data's protocol with what the group and then the variant change of it."""
        changes = group.protocol.model_dump(exclude_none=True)
        if variant is not None:
            changes |= variant.protocol.model_dump(exclude_none=True)
        return Protocol.model_validate(self.protocol[group.data].model_dump() | changes)


def _inherited(base: dict[str, Any], alternative: dict[str, Any]) -> dict[str, Any]:
    """A variant with the method, settings and protocol of the one that it is instead of, but for its own."""
    parts = ("settings", "by_group", "protocol")
    own, theirs = ({name: values.get(name) or {} for name in parts} for values in (alternative, base))
    if not all(isinstance(values, dict) for values in (*own.values(), *own["by_group"].values())):
        return alternative  # refused where the variant is checked
    merged = {name: {**theirs[name], **own[name]} for name in ("settings", "protocol")}
    # What it says itself goes before what the other one has for a group.
    merged["by_group"] = own["by_group"] | {
        group: {**settings, **own["settings"], **own["by_group"].get(group, {})}
        for group, settings in theirs["by_group"].items()
    }
    return {"method": base.get("method"), **alternative, **merged}


def _labels(kind: str, items: Iterable[Group | Variant]) -> list[str]:
    labels = [item.label for item in items]
    for index, label in enumerate(labels):
        if label in labels[:index]:
            raise InputError(f"{kind} {label!r} is there twice: rename one")
    return labels


def _known(kind: str, labels: list[str], used: Iterable[str]) -> None:
    for label in used:
        if label not in labels:
            raise errors.unknown(kind, label, labels)
