"""What the cells of a table are compared with, and what the differences allow to say."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from selftaught.recipes.schema import Recipe
from selftaught.report import evidence
from selftaught.report.statistics import Test, holm, paired_test
from selftaught.training.record import Record

if TYPE_CHECKING:
    from selftaught.report.paper import PaperCell

LEVEL = 0.05
"""Corrected p-values below it are called a difference."""

REFERENCES = {"to_ce": "ce", "to_uniform": "le-uniform", "to_ls": "ls", "to_reference": ""}
"""The methods that cells are compared with, by the field of `PaperCell` that holds the comparison.

The last stands for a variant that the recipe names: the one that a variant is an alternative to, or its method's.
"""


@dataclass(frozen=True)
class Comparison:
    """A cell against another one of its group, in points of the table's metric.

    `base` is the other one's label. `p_holm` is corrected over the table, None for one pair of trials; the interval is
    not corrected. `verdict` is "better", "worse", "no clear difference" or "one seed: no verdict".
    """

    base: str
    test: Test
    p_holm: float | None
    pairs: int
    verdict: str

    @property
    def p(self) -> float | None:
        """The p-value before correction."""
        return self.test.p


class Answers:
    """Which images of a part the trials of a cell got right; each file is read once.

    Args:
        records: the trials by group and variant.
        part: one of `selftaught.report.evidence.PARTS`.
    """

    def __init__(self, records: Mapping[tuple[str, str], Sequence[Record]], part: str) -> None:
        self._records, self._part = records, part
        self._read: dict[tuple[str, str], dict[int, np.ndarray]] = {}

    def __call__(self, cell: "PaperCell") -> dict[int, np.ndarray]:
        """By seed (N,), in points: 100 for an image that the trial got right."""
        place = cell.group, cell.variant
        if place not in self._read:
            kept = [record for record in self._records[place] if evidence.has_answers(record)]
            self._read[place] = {run.config.seed: 100.0 * evidence.correct(run, self._part) for run in kept}
        return self._read[place]


def compared(recipe: Recipe, cells: list["PaperCell"], answers: Answers) -> list["PaperCell"]:
    """The cells with their comparisons to the references of their groups, corrected over all of them together."""
    sign = -1 if recipe.metric == "error" else 1
    tests = {
        (i, field): (base.variant, *found)
        for field in REFERENCES
        for i, cell in enumerate(cells)
        if (base := _base(recipe, cells, cell, field)) and (found := _tested(base, cell, answers, sign))
    }
    corrected = dict(zip(tests, holm([test.p for _, test, _ in tests.values()]), strict=True))
    cells = list(cells)
    for (i, field), (label, test, pairs) in tests.items():
        p = None if math.isnan(corrected[i, field]) else corrected[i, field]
        changes: dict[str, Any] = {
            field: Comparison(label, test, p, pairs, _verdict(sign * test.estimate, p))
        }
        cells[i] = replace(cells[i], **changes)
    return cells


def _base(recipe: Recipe, cells: list["PaperCell"], cell: "PaperCell", field: str) -> "PaperCell | None":
    """What a cell is compared with in this field; None where it is not, or where that was not run in its group."""
    here = [other for other in cells if other.group == cell.group]
    alternatives = {variant.label: variant.instead_of for variant in recipe.variants if variant.instead_of}
    alternative_to = alternatives.get(cell.variant)
    if not REFERENCES[field]:
        label = alternative_to or recipe.reference
        base = next((other for other in here if other.variant == label), None)
        same = alternative_to or (base and base.method == cell.method)
        return base if same and base is not cell else None
    if alternative_to or not _is_compared(cell.method, field):
        return None
    plain = [other for other in here if other.variant not in alternatives]
    return next((other for other in plain if other.method == REFERENCES[field]), None)


def _tested(base: "PaperCell", cell: "PaperCell", answers: Answers, sign: int) -> tuple[Test, int] | None:
    """The difference of a cell to another one and the number of paired seeds, None without any."""
    ours, theirs = answers(cell), answers(base)
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    test = paired_test([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
    return (test if sign > 0 else _mirrored(test)), len(seeds)


def _is_compared(method: str, field: str) -> bool:
    """Whether a method is compared in this field: no reference with itself, and no pair in two families."""
    references = list(REFERENCES.values())[: list(REFERENCES).index(field) + 1]
    return method == "le" if field == "to_ls" else method not in references


def _mirrored(test: Test) -> Test:
    """Of errors rather than accuracies."""
    return Test(0.0 - test.estimate, 0.0 - test.high, 0.0 - test.low, test.p)


def _verdict(gain: float, p: float | None) -> str:
    if p is None:
        return "one seed: no verdict"
    if p >= LEVEL:
        return "no clear difference"
    return "better" if gain > 0 else "worse"
