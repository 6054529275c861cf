"""A table of the paper with our numbers beside the printed ones, made from the records of finished runs alone."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from selftaught.errors import InputError
from selftaught.files import evidence, integrity
from selftaught.files.results import Record
from selftaught.recipes.schema import Recipe, Value
from selftaught.report import paper_words
from selftaught.report.paper_comparisons import Answers, Comparison, compared
from selftaught.report.selection import select
from selftaught.statistics.paired import mean_std

FULL = "paper"
"""The budget that follows the paper's protocol."""

_SIDE_BY_SIDE = 12
"""Variants that a reader can follow along a line; Table 1 has 7."""

PAPER_TRIALS = 5
"""The trials behind each printed mean ± std (Section 3)."""


@dataclass(frozen=True)
class Cell:
    """What was run for one cell of a recipe.

    `cost` is the time of a training step relative to CE, `extra` the number of further networks that are trained for
    one student, `missing` a line per trial that is not finished.
    """

    group: str
    variant: str
    records: tuple[Record, ...]
    cost: float | None
    extra: int
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaperCell:
    """One cell: ours, the paper's, and what can be said of them.

    `mean` and `std` (n − 1, None for one trial) are in % of the table's metric after the last epoch, on the images that
    the recipe is judged on. `verdict` on the paper's value is "agrees", "better", "worse", "not comparable" (`why` says
    why) or "", where nothing is printed. `ece` is a fraction, `nll` in nats per image. `runs` names the finished
    trials: a cell of another table with the same ones is the same result. `compared` has the comparisons with other
    cells of the group by their methods, or "reference". `selected` marks the best value of a search.
    """

    group: str
    variant: str
    method: str
    settings: Mapping[str, Any]
    trials: int
    mean: float | None
    std: float | None
    paper: Value | None
    verdict: str
    why: str
    nll: float | None
    ece: float | None
    cost: float | None
    extra: int
    missing: tuple[str, ...]
    runs: frozenset[str]
    compared: Mapping[str, Comparison] = field(default_factory=dict)
    selected: bool = False


@dataclass(frozen=True)
class PaperTable:
    """The cells by (group, variant) in the order they were given, with the runs behind them.

    `caption` is what the reader must know, the budget first; `notes` say what the paper leaves open and what was
    chosen.
    """

    recipe: Recipe
    budget: str
    cells: dict[tuple[str, str], PaperCell]
    caption: tuple[str, ...]
    notes: tuple[str, ...]
    records: tuple[Record, ...]

    @property
    def reduced(self) -> bool:
        """Whether fewer images or epochs were used than the paper's protocol asks for."""
        held_out = self.recipe.judged_on == "held-out" and not self.recipe.search
        return self.budget != FULL or held_out

    @property
    def follows_the_paper(self) -> bool:
        """Whether the protocol is the paper's, and every cell has as many trials."""
        return not self.reduced and all(cell.trials >= self.recipe.trials for cell in self.cells.values())

    @property
    def place(self) -> str:
        """Its number in the paper; empty where it has none."""
        numbered = re.fullmatch("(table|figure)([0-9]+)", self.recipe.name)
        if numbered is None:
            return ""
        # A figure's drawing has the number alone.
        return f"Table {numbered[2]}" if numbered[1] == "table" else f"Figure {numbered[2]} in numbers"

    @property
    def title(self) -> str:
        """The recipe's title after its number in the paper; of a reduced budget it says so."""
        title = f"{self.recipe.title}{f' ({self.budget} budget)' if self.reduced else ''}"
        return f"{self.place}: {title}" if self.place else title

    @property
    def fits_a_line(self) -> bool:
        """Whether the variants can stand side by side, as the paper has them."""
        return bool(self.cells) and not self.recipe.search and len(self.variants) <= _SIDE_BY_SIDE

    @property
    def groups(self) -> list[str]:
        """The labels of the groups."""
        return list(dict.fromkeys(group for group, _ in self.cells))

    @property
    def variants(self) -> list[str]:
        """The labels of the variants, over all groups."""
        return list(dict.fromkeys(variant for _, variant in self.cells))

    def of(self, group: str) -> list[PaperCell]:
        """The cells of one group."""
        return [cell for cell in self.cells.values() if cell.group == group]

    def label(self, method: str) -> str:
        """What the table calls a method: its first variant that is no alternative, its key where there is none."""
        plain = (c.variant for c in self.cells.values() if not self.recipe.variant(c.variant).based_on)
        return next((label for label in plain if self.recipe.variant(label).method == method), method)


@np.errstate(all="ignore")  # records may hold numbers of any size
def tabulate(recipe: Recipe, cells: Sequence[Cell], budget: str, notes: Sequence[str] = ()) -> PaperTable:
    """The table of a recipe over the runs of its cells.

    Differences pair trials by seed and images by position, within a group: of all methods to CE and to LE-Uniform, and
    of LE to all others; where the recipe names a reference, of its method's other variants to that; of a variant that
    is instead of another, to that one alone. Their p-values are corrected after Holm, all of them together over the
    whole table. A search has no differences, and no test accuracy at all: its values are judged by held-out images.

    Args:
        recipe: what the paper printed, and how the table is laid out.
        cells: one per group and variant, in the order they are shown; those without a finished trial say why.
        budget: the name of the budget that the runs had; only "paper" is compared with the printed values.
        notes: what the reader should know of these runs, shown in the caption after the budget.

    Raises:
        InputError: cells that the recipe does not have, or that are there twice, trials of a group on different data,
            a damaged file, or a search whose trials held nothing out.
    """
    _check(recipe, cells)
    for fault in integrity.same_labels(record for cell in cells for record in cell.records):
        raise fault
    made = [_cell(recipe, cell, budget) for cell in cells]
    runs = {(cell.group, cell.variant): cell.records for cell in cells}
    answers = Answers(runs, recipe.judged_on)
    made = _selected(recipe, made, runs) if recipe.search else compared(recipe, made, answers)
    records = tuple({record.config.trial_id: record for cell in cells for record in cell.records}.values())
    by_place = {(cell.group, cell.variant): cell for cell in made}
    table = PaperTable(recipe, budget, by_place, (), recipe.notes, records)
    first, *rest = paper_words.caption(table)
    return replace(table, caption=(first, *notes, *rest))


def _check(recipe: Recipe, cells: Sequence[Cell]) -> None:
    groups, variants = ([item.label for item in items] for items in (recipe.groups, recipe.variants))
    places = [(cell.group, cell.variant) for cell in cells]
    for group, variant in places:
        if group not in groups or variant not in variants:
            raise InputError(f"{recipe.name} has no cell {group!r}, {variant!r}: expand the recipe again")
        if places.count((group, variant)) > 1:
            raise InputError(f"{recipe.name} was given the cell {group!r}, {variant!r} twice: give it once")
    for group in groups:
        runs = [run for cell in cells if cell.group == group for run in cell.records]
        if len({(run.config.data_fingerprint, run.result.data.test) for run in runs}) > 1:
            raise InputError(
                f"the trials of {group!r} in {recipe.name} were trained on different data: "
                "give it the trials of one budget"
            )


def _cell(recipe: Recipe, cell: Cell, budget: str) -> PaperCell:
    results = [evidence.scores(record, recipe.judged_on) for record in cell.records]
    sign, offset = (-100, 100) if recipe.metric == "error" else (100, 0)
    mean, std = _in_percent([offset + sign * accuracy for accuracy, _, _ in results])
    value = recipe.paper.get(cell.group, {}).get(cell.variant)
    verdict, why = _against_paper(recipe, budget, mean, std, len(results), value)
    return replace(
        _blank(recipe, cell),
        mean=mean,
        std=std,
        paper=value,
        verdict=verdict,
        why=why,
        nll=_mean(nll for _, nll, _ in results),
        ece=_mean(ece for _, _, ece in results),
    )


def _blank(recipe: Recipe, cell: Cell) -> PaperCell:
    """What is known of a cell before its numbers."""
    variant = recipe.variant(cell.variant)
    return PaperCell(
        group=cell.group,
        variant=cell.variant,
        method=variant.method,
        settings=cell.records[0].config.settings if cell.records else variant.settings_in(cell.group),
        trials=len(cell.records),
        mean=None,
        std=None,
        paper=None,
        verdict="",
        why="",
        nll=None,
        ece=None,
        cost=cell.cost if cell.cost is not None and math.isfinite(cell.cost) else None,
        extra=cell.extra,
        missing=cell.missing,
        runs=frozenset(record.config.trial_id for record in cell.records),
    )


def _in_percent(values: Sequence[float]) -> tuple[float | None, float | None]:
    if not values:
        return None, None
    mean, std = mean_std(values)
    return mean, std if len(values) > 1 else None


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    mean = float(np.mean(numbers)) if numbers else math.nan
    return mean if math.isfinite(mean) else None


def _against_paper(
    recipe: Recipe, budget: str, mean: float | None, std: float | None, trials: int, value: Value | None
) -> tuple[str, str]:
    """The verdict on a printed value, and why there is none."""
    if value is None or mean is None:
        return "", ""
    if budget != FULL:
        return "not comparable", "reduced budget"
    if not value.anchor:
        return "not comparable", "the printed number is doubtful"
    if trials < recipe.trials:
        return "not comparable", f"fewer than {recipe.trials} trials"
    if value.std is None:
        return "not comparable", "the paper prints no deviation"
    if std is None:
        return "not comparable", "one trial has no deviation"
    error = math.sqrt(std**2 / trials + value.std**2 / PAPER_TRIALS)
    if not error:
        return "not comparable", "all trials are equal, ours and the paper's"
    if abs(mean - value.mean) <= 2 * error:
        return "agrees", ""
    return ("better" if (mean > value.mean) == (recipe.metric == "accuracy") else "worse"), ""


def _selected(
    recipe: Recipe, cells: list[PaperCell], runs: Mapping[tuple[str, str], Sequence[Record]]
) -> list[PaperCell]:
    """Marks each group's best value."""
    assert recipe.search is not None
    label = recipe.search.label
    best = {(group, label(value)) for (_, group), value in select(recipe, runs).items()}
    return [replace(cell, selected=(cell.group, cell.variant) in best) for cell in cells]
