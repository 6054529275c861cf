"""A table as data: groups by variants, each cell with its numbers, made from the records of finished trials alone.

A comparison is the case of one group whose variants are the methods. It has no budget, and nothing is printed for it.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from selftaught.errors import InputError
from selftaught.files import evidence
from selftaught.files.catalogue import PROBE
from selftaught.files.evidence import Classes
from selftaught.files.results import OWN_TEST_PART, Record
from selftaught.recipes.comparison import recipe_of
from selftaught.recipes.schema import Recipe, Value
from selftaught.report import balance, comparable
from selftaught.report.agreement import FULL, against_paper
from selftaught.report.comparable import CellRuns
from selftaught.report.questions import (
    CONTROLS,
    REFERENCE,
    Place,
    Question,
    baseline_of,
    of_methods,
    of_recipe,
)
from selftaught.report.selection import select
from selftaught.statistics.paired import mean_std
from selftaught.statistics.verdicts import Difference, differences

_SIDE_BY_SIDE = 12
"""Variants that a reader can follow along a line; Table 1 has 7."""


@dataclass(frozen=True)
class Cell:
    """One cell: what its finished trials came to, and what can be said of them.

    `mean` and `std` (n − 1, None for one trial) are of the table's metric in % after the last epoch, on the images that
    the recipe is judged on; ECE is a fraction, NLL in nats per image. What else a cell's trials measured is a
    matter of the columns. `classes` says of each trial how the classes fare on the test images. `verdict` on the
    `paper`'s value (in %) is "agrees", "better", "worse", "not comparable" (`why` says why) or "", where nothing is
    printed. `compared` has the differences to other cells of the group by their methods, or "reference", fractions
    of the metric; `bases` what those cells are labelled. `selected` marks the best value of a search.
    """

    group: str
    variant: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    records: tuple[Record, ...] = ()
    missing: tuple[str, ...] = ()
    mean: float | None = None
    std: float | None = None
    nll: float | None = None
    ece: float | None = None
    classes: tuple[Classes, ...] = ()
    cost: float | None = None
    extra: int = 0
    paper: Value | None = None
    verdict: str = ""
    why: str = ""
    compared: Mapping[str, Difference] = field(default_factory=dict)
    bases: Mapping[str, str] = field(default_factory=dict)
    selected: bool = False

    @property
    def trials(self) -> int:
        """How many are finished."""
        return len(self.records)

    @property
    def accuracy(self) -> float:
        """`mean` as a fraction, 0 without a finished trial; of a comparison it is the accuracy."""
        return (self.mean or 0.0) / 100

    @property
    def balanced(self) -> tuple[float, float | None] | None:
        """Mean and deviation of the balanced accuracy, fractions; None where not every trial has it."""
        mean, std = mean_std_of([one.balanced_accuracy for one in self.classes])
        return None if mean is None else (mean, std)

    @property
    def runs(self) -> frozenset[str]:
        """The names of the finished trials: a cell of another table with the same ones is the same result."""
        return frozenset(record.config.trial_id for record in self.records)


@dataclass(frozen=True)
class Table:
    """The cells by (group, variant) in the order they were given, and how they were compared.

    `notes` are what whoever ran the trials says of them. `baseline` is the method that those of a comparison are
    compared with, "ce" in every other table. `per_trial`: each seed has test images of its own.
    """

    recipe: Recipe
    budget: str
    cells: Mapping[Place, Cell]
    notes: tuple[str, ...] = ()
    baseline: str = "ce"
    questions: tuple[Question, ...] = ()
    per_trial: bool = False

    @property
    def is_comparison(self) -> bool:
        """Whether it is of methods on the user's data rather than of a recipe at a budget."""
        return not self.budget

    @property
    def rows(self) -> list[Cell]:
        """The cells, a row each."""
        return list(self.cells.values())

    @property
    def records(self) -> list[Record]:
        """The finished trials, each once."""
        every = (record for cell in self.cells.values() for record in cell.records)
        return list({record.config.trial_id: record for record in every}.values())

    @property
    def reduced(self) -> bool:
        """Whether fewer images or epochs were used than the paper's protocol asks for."""
        held_out = self.recipe.judged_on == "held-out" and not self.recipe.search
        return not self.is_comparison and (self.budget != FULL or held_out)

    @property
    def follows_the_paper(self) -> bool:
        """Whether the protocol is the paper's, and every cell has as many trials."""
        whole = all(cell.trials >= self.recipe.trials for cell in self.cells.values())
        return self.budget == FULL and not self.reduced and whole

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
        recipe = not self.is_comparison and not self.recipe.search
        return bool(self.cells) and recipe and len(self.variants) <= _SIDE_BY_SIDE

    @property
    def groups(self) -> list[str]:
        """The labels of the groups."""
        return list(dict.fromkeys(group for group, _ in self.cells))

    @property
    def variants(self) -> list[str]:
        """The labels of the variants, over all groups."""
        return list(dict.fromkeys(variant for _, variant in self.cells))

    def of(self, group: str) -> list[Cell]:
        """The cells of one group."""
        return [cell for cell in self.cells.values() if cell.group == group]

    def label(self, method: str) -> str:
        """What the table calls a method: its first variant that is no alternative, its key where there is none."""
        plain = (c.variant for c in self.cells.values() if not self.recipe.variant(c.variant).based_on)
        return next((label for label in plain if self.recipe.variant(label).method == method), method)

    @property
    def bases(self) -> list[str]:
        """What the differences of a column are to: the names of comparisons that have one."""
        if self.is_comparison:
            return [self.baseline]
        made = {name for cell in self.cells.values() for name in cell.compared}
        return [name for name in (*CONTROLS, REFERENCE) if name in made]

    def beside_the_columns(self) -> list[tuple[Cell, list[tuple[str, Difference]]]]:
        """The cells with comparisons that have no column, each with the base's label."""
        found = []
        for cell in self.cells.values():
            rest = [(cell.bases[n], one) for n, one in cell.compared.items() if n not in self.bases]
            if rest:
                found.append((cell, rest))
        return found

    @property
    def contestants(self) -> list[Cell]:
        """The cells without the linear probe's, which only shows what they have to beat; it too where it is alone."""
        cells = list(self.cells.values())
        return [cell for cell in cells if cell.method != PROBE] or cells

    @property
    def has_probe(self) -> bool:
        """Whether the linear probe stands beside other methods."""
        return len(self.contestants) < len(self.cells)

    @property
    def uneven(self) -> bool:
        """Whether accuracy alone would mislead about the classes."""
        trials = [one for cell in self.cells.values() for one in cell.classes]
        return self.is_comparison and balance.misleads(trials)

    def has(self, name: str) -> bool:
        """Whether some cell has this number."""
        return any(getattr(cell, name) not in (None, 0, "", {}, False) for cell in self.cells.values())


@np.errstate(all="ignore")  # records may hold numbers of any size
def tabulate(recipe: Recipe, cells: Sequence[CellRuns], budget: str = "", notes: Sequence[str] = ()) -> Table:
    """The table of a recipe over the finished trials of its cells.

    Trials are paired by seed and images by position, within a group; what is compared with what is asked beforehand
    (`selftaught.report.questions`). A search has no differences, and no test accuracy at all: its values are judged by
    held-out images. In a comparison a method without a finished trial has no row.

    Args:
        recipe: how the table is laid out and what the paper printed; of a comparison one group of methods, see
            `selftaught.recipes.comparison`.
        cells: one per group and variant, in the order they are shown; those without a finished trial say why.
        budget: the name of the budget that the trials had, of which only "paper" is compared with the printed values;
            empty for a comparison.
        notes: what the reader must know first, such as trials that are missing.

    Raises:
        InputError: cells that the recipe does not have, that are there twice or cannot stand side by side, a damaged
            file, a search whose trials held nothing out, or a comparison without any finished trial.
    """
    comparable.check(recipe, cells, comparison=not budget)
    made = {(runs.group, runs.variant): _cell(recipe, runs, budget) for runs in cells}
    methods = [cell.method for cell in made.values()]
    baseline = "ce" if budget else baseline_of(methods)
    questions = (
        ()
        if recipe.search
        else tuple(of_recipe(recipe, list(made)) if budget else of_methods(list(made), baseline))
    )
    records = [record for runs in cells for record in runs.records]
    table = Table(
        recipe, budget, made, tuple(notes), baseline, questions, _have_their_own_test_images(records)
    )
    table = _selected(table) if recipe.search else _compared(table)
    there = {place: cell for place, cell in table.cells.items() if budget or cell.records}
    return replace(table, cells=there)


def comparison(
    records: Sequence[Record],
    methods: Sequence[str],
    costs: Mapping[str, float] = {},
    notes: Sequence[str] = (),
    missing: Mapping[str, Sequence[str]] = {},
) -> Table:
    """The table of `methods` over all their records, in this order; see `tabulate`.

    Args:
        records: finished trials on the same data that differ in method and seed.
        methods: the order of the rows.
        costs: the time of a step relative to plain training, by method.
        notes: as of `tabulate`.
        missing: by method a line per trial that is not finished.
    """
    asked = sorted((run for run in records if run.config.method in methods), key=lambda run: run.config.seed)
    if not asked:
        raise InputError("there is no finished trial to make a table of")
    first = comparable.first(asked)
    recipe = recipe_of(methods, first.config.data, first.config.model, len(asked))
    of = {method: tuple(run for run in asked if run.config.method == method) for method in methods}
    label = recipe.groups[0].label
    cells = [CellRuns(label, m, of[m], costs.get(m), missing=tuple(missing.get(m, ()))) for m in of]
    return tabulate(recipe, cells, notes=notes)


def _cell(recipe: Recipe, runs: CellRuns, budget: str) -> Cell:
    scores = [evidence.scores(record, recipe.judged_on) for record in runs.records]
    sign, offset = (-100, 100) if recipe.metric == "error" else (100, 0)
    mean, std = mean_std_of([offset + sign * accuracy for accuracy, _, _ in scores])
    value = recipe.paper.get(runs.group, {}).get(runs.variant)
    verdict, why = against_paper(recipe, budget, mean, std, len(scores), value)
    variant = recipe.variant(runs.variant)
    return Cell(
        group=runs.group,
        variant=runs.variant,
        method=variant.method,
        settings=runs.records[0].config.settings if runs.records else variant.settings_in(runs.group),
        records=tuple(runs.records),
        missing=tuple(runs.missing),
        mean=mean,
        std=std,
        nll=mean_of(nll for _, nll, _ in scores),
        ece=mean_of(ece for _, _, ece in scores),
        classes=tuple(map(evidence.classes, runs.records)) if recipe.judged_on == "test" else (),
        cost=runs.cost if runs.cost is not None and math.isfinite(runs.cost) else None,
        extra=runs.extra,
        paper=value,
        verdict=verdict,
        why=why,
    )


def mean_std_of(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and deviation (None for one value); None twice unless every trial has a value."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None, None
    mean, std = mean_std(known)
    return mean, std if len(known) > 1 else None


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean, None unless every trial has a value and it is finite."""
    mean, _ = mean_std_of(list(values))
    return mean if mean is not None and math.isfinite(mean) else None


def _compared(table: Table) -> Table:
    """The table with the answers to its questions; those that stand apart are corrected for themselves."""
    part = table.recipe.judged_on
    right = {
        place: {
            run.config.seed: evidence.correct(run, part) for run in cell.records if evidence.has_answers(run)
        }
        for place, cell in table.cells.items()
    }
    data = next((record.result.data for record in table.records), None)
    ratio = data.test / max(data.train, 1) if data is not None and table.per_trial else None
    cells = dict(table.cells)
    for apart in (False, True):
        asked = [question for question in table.questions if question.apart == apart]
        found = differences(right, [(question.cell, question.base) for question in asked], ratio)
        for question, one in zip(asked, found, strict=True):
            if one is None:
                continue
            cell = cells[question.cell]
            told = one.of_errors() if table.recipe.metric == "error" else one
            cells[question.cell] = replace(
                cell,
                compared={**cell.compared, question.name: told},
                bases={**cell.bases, question.name: question.base[1]},
            )
    return replace(table, cells=cells)


def _selected(table: Table) -> Table:
    """The table with each group's best value marked."""
    recipe = table.recipe
    assert recipe.search is not None
    chosen = select(recipe, {place: cell.records for place, cell in table.cells.items()})
    best = {(group, recipe.search.label(value)) for (_, group), value in chosen.items()}
    marked = {place: replace(cell, selected=place in best) for place, cell in table.cells.items()}
    return replace(table, cells=marked)


def _have_their_own_test_images(records: Sequence[Record]) -> bool:
    """Whether each seed has test images of its own, rather than all seeds the whole test part of the data."""
    splits = {record.config.data_fingerprint for record in records if record.config.split_per_trial}
    return len(splits) > 1 and records[0].result.data.test_part != OWN_TEST_PART
