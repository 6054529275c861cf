"""What the cells of a table are compared with, and what the differences allow to say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from selftaught.files import evidence
from selftaught.files.results import Record
from selftaught.recipes.schema import Recipe
from selftaught.report.differences import verdict
from selftaught.statistics.paired import Test, holm, paired_test

if TYPE_CHECKING:
    from selftaught.report.paper import PaperCell

REFERENCE = "reference"
"""What the comparison with the variant that the recipe names is called: the one that a variant is an alternative to, or
its method's. The others are called by the method that they are with."""

CONTROLS = ("ce", "le-uniform")
"""The methods that all others are compared with; LE is compared with all."""

_UNPERMUTED = {"dkpp": "kd"}
"""What else is compared: a method with what it is a control of."""


@dataclass(frozen=True)
class Comparison:
    """A cell against another one of its group, in points of the table's metric.

    `base` is the other one's label. `p_holm` is corrected over the `among` comparisons of the table, made or not, None
    for one pair of trials; the interval is not corrected. `verdict` is "better", "worse", "no clear difference" or
    "one seed: no verdict".
    """

    base: str
    test: Test
    p_holm: float | None
    pairs: int
    verdict: str
    among: int

    @property
    def p(self) -> float | None:
        """The p-value before correction."""
        return self.test.p


class Answers:
    """Which images of a part the trials of a cell got right; each file is read once.

    Args:
        records: the trials by group and variant.
        part: one of `selftaught.files.evidence.PARTS`.
    """

    def __init__(self, records: Mapping[tuple[str, str], Sequence[Record]], part: str) -> None:
        self._records, self._part = records, part
        self._read: dict[tuple[str, str], dict[int, np.ndarray]] = {}

    def __call__(self, cell: "PaperCell") -> dict[int, np.ndarray]:
        """By seed bool (N,): whether the trial got the image right."""
        place = cell.group, cell.variant
        if place not in self._read:
            kept = [record for record in self._records[place] if evidence.has_answers(record)]
            self._read[place] = {run.config.seed: evidence.correct(run, self._part) for run in kept}
        return self._read[place]


def compared(recipe: Recipe, cells: Sequence["PaperCell"], answers: Answers) -> list["PaperCell"]:
    """The cells with their comparisons to others of their groups.

    P-values are corrected after Holm over all comparisons that the cells are there for: those that cannot be made yet
    count as well, with p = 1, so that what is run later can make a verdict clear and never takes one back.
    """
    sign = -1 if recipe.metric == "error" else 1
    bases = {(i, name): base for i, cell in enumerate(cells) for name, base in _bases(recipe, cells, cell)}
    tests = {(i, name): _tested(base, cells[i], answers, sign) for (i, name), base in bases.items()}
    p_values = [1.0 if found is None or found[0].p is None else found[0].p for found in tests.values()]
    made: list[dict[str, Comparison]] = [{} for _ in cells]
    for ((i, name), found), corrected in zip(tests.items(), holm(p_values), strict=True):
        if found is not None:
            test, pairs = found
            p = None if test.p is None else corrected
            said = verdict(sign * test.estimate, p)
            made[i][name] = Comparison(bases[i, name].variant, test, p, pairs, said, len(tests))
    return [replace(cell, compared=of_cell) for cell, of_cell in zip(cells, made, strict=True)]


def _bases(
    recipe: Recipe, cells: Sequence["PaperCell"], cell: "PaperCell"
) -> Iterator[tuple[str, "PaperCell"]]:
    """What a cell is compared with, by what the comparison is called."""
    alternatives = {variant.label: variant.based_on for variant in recipe.variants if variant.based_on}
    here = [other for other in cells if other.group == cell.group and other is not cell]
    alternative_to = alternatives.get(cell.variant)
    if alternative_to is None:
        first: dict[str, PaperCell] = {}
        for other in (other for other in here if other.variant not in alternatives):
            first.setdefault(other.method, other)
        for method, other in first.items():
            if _is_compared(cell.method, method):
                yield method, other
    for other in here:
        same = alternative_to or other.method == cell.method
        if same and other.variant == (alternative_to or recipe.reference):
            yield REFERENCE, other


def _is_compared(method: str, base: str) -> bool:
    if method == base:
        return False
    if {method, base} <= set(CONTROLS):
        return base == CONTROLS[0]  # once is enough
    return method == "le" or base in CONTROLS or _UNPERMUTED.get(method) == base


def _tested(base: "PaperCell", cell: "PaperCell", answers: Answers, sign: int) -> tuple[Test, int] | None:
    """The difference of a cell to another one and the number of paired seeds, None without any."""
    ours, theirs = answers(cell), answers(base)
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    test = paired_test([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
    return _in_points(test, sign), len(seeds)


def _in_points(test: Test, sign: int) -> Test:
    """Of accuracies in points, or of errors where the sign is -1."""
    low, high = sorted((100 * sign * test.low, 100 * sign * test.high))
    return Test(100 * sign * test.estimate + 0.0, low + 0.0, high + 0.0, test.p)
