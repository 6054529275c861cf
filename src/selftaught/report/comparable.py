"""Whether trials can stand side by side in a table: on the same data, differing in nothing but what it compares."""

from collections.abc import Sequence
from dataclasses import dataclass

from selftaught.errors import InputError
from selftaught.files import answers, integrity
from selftaught.files.catalogue import PROBE
from selftaught.files.config import DATA_OPTIONS, RunConfig
from selftaught.files.results import Record
from selftaught.recipes.schema import Recipe

_FREE = {"data_fingerprint": "", "threads": 1, "device": "cpu"}
"""What else may differ between the runs of a comparison; whether they share their data is looked at apart."""

_OF_A_PROBE = ("model", "model_fingerprint", "precision", "class_weights", "sampling", *DATA_OPTIONS)
"""What the result of a linear probe depends on, beside its data."""


@dataclass(frozen=True)
class CellRuns:
    """What a study hands over for one cell of its recipe.

    `cost` is the time of a training step relative to CE, `extra` the number of further networks that are trained for
    one student, `missing` a line per trial that is not finished.
    """

    group: str
    variant: str
    records: tuple[Record, ...]
    cost: float | None = None
    extra: int = 0
    missing: tuple[str, ...] = ()


def check(recipe: Recipe, cells: Sequence[CellRuns], comparison: bool) -> None:
    """Refuse cells that are not the recipe's, or whose trials cannot stand side by side.

    Raises:
        InputError: naming what does not fit.
    """
    records = [record for cell in cells for record in cell.records]
    if comparison and not records:
        raise InputError("there is no finished trial to make a table of")
    _check_places(recipe, cells)
    for fault in integrity.same_labels(records):
        raise fault
    if comparison:
        _check_protocol(records)
        return
    for group in recipe.groups:
        runs = [run for cell in cells if cell.group == group.label for run in cell.records]
        if len({(run.config.data_fingerprint, run.result.data.test) for run in runs}) > 1:
            raise InputError(
                f"the trials of {group.label!r} in {recipe.name} were trained on different data: "
                "give it the trials of one budget"
            )


def first(records: Sequence[Record]) -> Record:
    """The record that speaks for all: not the linear probe's, which has no epochs, unless there is no other."""
    return next((run for run in records if run.config.method != PROBE), records[0])


def has_a_subset(run: Record) -> bool:
    """Whether its training images are those of its seed, and its test images those of all seeds."""
    return run.config.subset_seed is not None and not run.config.split_per_trial


def _check_places(recipe: Recipe, cells: Sequence[CellRuns]) -> None:
    groups, variants = ([item.label for item in items] for items in (recipe.groups, recipe.variants))
    places = [(cell.group, cell.variant) for cell in cells]
    for group, variant in places:
        if group not in groups or variant not in variants:
            raise InputError(f"{recipe.name} has no cell {group!r}, {variant!r}: expand the recipe again")
        if places.count((group, variant)) > 1:
            raise InputError(f"{recipe.name} was given the cell {group!r}, {variant!r} twice: give it once")


def _check_protocol(records: Sequence[Record]) -> None:
    """Refuse other data, other settings, or one seed of a method twice."""
    of_all, firsts = first(records).config, dict[str, Record]()
    parts = {(run.config.seed if run.config.divided_per_trial else None, _data(run)) for run in records}
    if len(parts) != len({seed for seed, _ in parts}):
        raise InputError("these runs were trained on different data and cannot share a table")
    if len({answers.labels_digest(run, "test") for run in records if has_a_subset(run)} - {None}) > 1:
        raise InputError("these runs were tested on different images and cannot share a table")
    for run in records:
        changes = _differences(of_all, run.config)
        if changes:
            raise InputError(
                f"these runs differ in more than method and seed ({'; '.join(changes)}): report on them one by one"
            )
        same = firsts.setdefault(run.config.method, run).config
        changes = same.differences(same.model_copy(update={"settings": run.config.settings}))
        if changes:
            raise InputError(
                f"the runs of {same.method} have different settings ({'; '.join(changes)}): report on them one by one"
            )
    _check_that_none_is_there_twice(records)


def _differences(first: RunConfig, other: RunConfig) -> list[str]:
    """What two trials differ in, beyond what may differ; the linear probe knows nothing of how networks are trained."""
    free = dict(_FREE)
    if first.subset_seed is None and other.subset_seed is None:
        free["split_seed"] = 0  # what it led to is in the fingerprint
    ours, theirs = (config.shared().model_copy(update=free) for config in (first, other))
    if other.method == PROBE:
        common = {name: getattr(theirs, name) for name in _OF_A_PROBE}
        theirs = ours.model_copy(update=common)
    return ours.differences(theirs)


def _check_that_none_is_there_twice(records: Sequence[Record]) -> None:
    seen: dict[tuple[str, int], Record] = {}
    for run in records:
        other = seen.setdefault((run.config.method, run.config.seed), run)
        if other is not run:
            raise InputError(
                f"{other.directory} and {run.directory} are both {run.config.method} with seed {run.config.seed}: "
                "report on one of them"
            )


def _data(run: Record) -> tuple[object, ...]:
    return run.config.data_fingerprint, run.result.data.classes, run.result.data.test
