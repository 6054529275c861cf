"""What a recipe is: which networks are trained how, and what the paper printed for them.

Nothing here imports torch. Every value is checked when it is read; an unknown key, a label that names nothing and a
value out of range are refused. `selftaught.recipes` reads the files and turns what is refused into one line.
"""

import warnings
from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from selftaught import errors
from selftaught.errors import InputError
from selftaught.recipes.changes import Changes, DataBudget, Protocol
from selftaught.recipes.values import Count, Selected, Setting, Strict, Text, Value


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

    `based_on` is the label of the variant, above it in the recipe, whose method, settings and protocol it has but for
    what it says itself; it is compared with that one and no other.
    """

    label: Text
    method: Text
    settings: dict[str, Setting] = Field(default_factory=dict)
    groups: tuple[Text, ...] | None = None
    by_group: dict[str, dict[str, Setting]] = Field(default_factory=dict)
    protocol: Changes = Changes()
    based_on: Text | None = None

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
    settings: dict[str, Setting] = Field(default_factory=dict)
    paper_best: dict[str, float] = Field(default_factory=dict)

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
    paper: dict[str, dict[str, Value]] = Field(default_factory=dict)
    quoted: tuple[Quoted, ...] = ()
    teachers: dict[str, Value] = Field(default_factory=dict)
    search: Search | None = None
    judged_on: Literal["test", "held-out"] = "test"
    reference: Text | None = None
    quick: dict[str, DataBudget] = Field(default_factory=dict)
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
            item = _renamed(item)
            base = above.get(str(item.get("based_on"))) if isinstance(item, dict) else None
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
        references = [self.reference, *(variant.based_on for variant in self.variants)]
        _known("variant", variants, (label for label in references if label is not None))
        if self.judged_on == "held-out" and self.paper:
            raise InputError("what the paper prints is of the test images: leave out paper or judged_on")
        for variant in self.variants:
            if variant.protocol.val_fraction is not None:
                raise InputError(
                    f"variant {variant.label!r} changes val_fraction, but variants must have the same images: "
                    "change it for the group"
                )
            base = self.variant(variant.based_on or variant.label)
            missing = [label for label in groups if variant.runs_in(label) and not base.runs_in(label)]
            if variant.based_on == variant.label or missing:
                where = f"in group {missing[0]!r}" if missing else "but by itself"
                raise InputError(
                    f"variant {variant.label!r} is based on {variant.based_on!r}, which is not run {where}: "
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
        """The recipe with the variants of these labels and those that they are based on, in these of their groups.

        All of them where no label is given.
        """
        asked = [variant for variant in self.variants if not variants or variant.label in variants]
        wanted = {self.reference, *(v.label for v in asked), *(v.based_on for v in asked)}
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


def _renamed(variant: Any) -> Any:
    """A variant with the key `based_on`, which used to be ``instead_of``."""
    if not isinstance(variant, dict) or "instead_of" not in variant:
        return variant
    warnings.warn(
        "the key instead_of of a variant is now based_on: rename it", DeprecationWarning, stacklevel=2
    )
    return {"based_on" if key == "instead_of" else key: value for key, value in variant.items()}


def _inherited(base: dict[str, Any], alternative: dict[str, Any]) -> dict[str, Any]:
    """A variant with the method, settings and protocol of the one that it is based on, but for its own."""
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
