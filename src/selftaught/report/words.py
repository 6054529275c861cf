"""What a comparison allows to say, in sentences that claim no more than the table."""

from collections.abc import Iterator, Sequence

import numpy as np

from selftaught.files.results import TEMPERATURES, Record
from selftaught.report import carried, chance
from selftaught.report.differences import CLEAR, Difference
from selftaught.report.numbers import p_value, points
from selftaught.report.tables import Row, Table

FEW_HELD_OUT = 100
"""Fewer held-out images than this make a rough temperature."""

FEW_TEST = 100
"""With fewer test images one of them is more than a point of accuracy."""

_HEADLINES = {
    "better": "{ours} {be} better than {theirs}{in_what}",
    "worse": "{ours} {be} worse than {theirs}{in_what}",
    "no clear difference": "{ours} {show} no clear difference from {theirs}{in_what}",
    "one seed: no verdict": "no verdict on {ours} against {theirs}: that takes more than one seed",
}
"""The verdicts of `selftaught.report.differences`, the clear ones first."""

IN_WHAT = " in accuracy"


def headline(table: Table) -> str:
    """The answer to "did it help?", for accuracy, in one sentence without its full stop."""
    compared = _compared(table)
    if not compared and not table.further:
        if len(table.contestants) > 1:
            return f"No verdict: no other method has trials with the seeds of {table.baseline} and stored predictions"
        [row] = table.contestants
        return f"{row.method} is right on {100 * row.accuracy:.2f} % of the test images; one method, nothing to compare"
    parts = []
    for verdict in _HEADLINES:
        methods = [one.method for one in compared if one.verdict == verdict]
        if methods:
            parts.append(_clause(verdict, methods, [table.baseline], IN_WHAT))
    # Once is enough to be told that one seed is too few.
    further = [one for one in table.further if one.p is not None or not compared]
    for verdict in _HEADLINES:
        bases = [one.base for one in further if one.verdict == verdict]
        if bases:
            parts.append(_clause(verdict, [further[0].method], bases, "" if compared else IN_WHAT))
    text = "; ".join(parts)
    return text.replace("no ", "No ", 1) if text.startswith("no ") else text  # names keep their case


def _compared(table: Table) -> list[Difference]:
    """The differences to the baseline of what was asked for."""
    return [row.difference for row in table.contestants if row.difference is not None]


def _clause(verdict: str, methods: Sequence[str], bases: Sequence[str], in_what: str) -> str:
    be, show = ("are", "show") if len(methods) > 1 else ("is", "shows")
    return _HEADLINES[verdict].format(
        ours=listed(methods), theirs=listed(bases), be=be, show=show, in_what=in_what
    )


def findings(table: Table) -> Iterator[tuple[str, str, str]]:
    """For each compared method its name, the verdict on its accuracy, and what else is known of it."""
    base = next((row for row in table.rows if row.method == table.baseline), None)
    for row in table.rows:
        parts = [_of_accuracy(row.difference, len(table.planned))] if row.difference else []
        parts += [_of_another(one) for one in table.further if one.method == row.method]
        if not parts:
            continue
        if base is not None:
            parts.append(_of_calibration(row, base))
            if row.cost is not None and base.cost:
                parts.append(
                    f"A training step takes {row.cost / base.cost:.2f} times as long as with {base.method}."
                )
        said = row.difference.verdict if row.difference else f"not compared with {table.baseline}"
        yield row.method, said, " ".join(parts)


def cautions(table: Table, records: Sequence[Record], sizes: np.ndarray | None = None) -> Iterator[str]:
    """What to keep in mind before believing the table, and what would make it clearer.

    Args:
        table: of the records.
        records: its finished runs.
        sizes: test images of each class, int64 (C,); None where the runs kept no predictions to count them from.
    """
    made = [*_compared(table), *table.further]
    unclear = {one.method for one in made if one.verdict not in CLEAR}
    if unclear:
        seeds = max(row.trials for row in table.rows if row.method in unclear)
        yield (
            f"More seeds narrow the intervals: a comparison's own command with --trials {max(5, 2 * seeds)} keeps the "
            "finished trials and adds to them, single runs take another --seed. The part that comes from the number of "
            "images stays. Decide beforehand how many: who adds seeds until p is small finds differences that are none."
        )
    data = records[0].result.data
    introspective = [run.config.method for run in records if "saliency" in run.config.settings]
    introspective += [run.config.method for run in records if run.config.method == "le-teacher"]
    if len(data.classes) == 2 and introspective:
        yield (
            f"With two classes {', '.join(dict.fromkeys(introspective))} equals label smoothing: a single wrong class "
            "leaves nothing to share out."
        )
    yield from carried.cautions(records)
    if data.test < FEW_TEST:
        images = "image" if data.test == 1 else "images"
        yield f"With {data.test} test {images} each of them is {100 / data.test:.3g} points of accuracy."
    of_chance = chance.caution(max(row.accuracy for row in table.contestants), data.classes, sizes)
    if of_chance:
        yield of_chance
    yield from _about_temperatures(records)
    duplicates = max(run.result.data.duplicates for run in records)
    if duplicates:
        yield (
            f"{duplicates} of {data.test} test images are also among the training or held-out images: "
            "accuracies may be too high."
        )


def _about_temperatures(records: Sequence[Record]) -> Iterator[str]:
    fitted = [run for run in records if run.result.temperature is not None]
    if not fitted:
        return
    held_out = min(run.result.data.val for run in fitted)
    if held_out < FEW_HELD_OUT:
        yield f"Temperatures were fitted on {held_out} held-out images: calibration after scaling is rough."
    low, high = TEMPERATURES
    limits = (1.01 * low, 0.99 * high)
    at_limit = {
        run.config.method for run in fitted if not limits[0] < (run.result.temperature or 0) < limits[1]
    }
    if at_limit:
        yield (
            f"A temperature of {', '.join(sorted(at_limit))} lies at the end of the range that is searched, {low:g} to "
            f"{high:g}: calibration after scaling says little there."
        )


def listed(names: Sequence[str]) -> str:
    """Several names as in a sentence: one, two and three."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _of_accuracy(one: Difference, comparisons: int) -> str:
    text = f"{points(one.interval, 100)} points of accuracy against {one.base}, 95 % interval, "
    if one.p is None:
        return f"{text}which covers the test images of one seed and says nothing of other seeds."
    text += f"{one.pairs} seeds, {p_value(one.p)}."
    low, high = 100 * one.interval.low, 100 * one.interval.high
    if one.verdict != "no clear difference" or low == high:
        return text
    if low <= 0 <= high:
        return f"{text} Anything from {abs(low):.2f} points worse to {high:.2f} points better fits these results."
    return f"{text} The interval alone leaves out zero: among {comparisons} comparisons luck can do that."


def _of_another(one: Difference) -> str:
    p = p_value(one.p)
    return f"Against {one.base} {points(one.interval, 100)} points{', ' if p else ''}{p}: {one.verdict}."


def _of_calibration(row: Row, base: Row) -> str:
    text = f"Calibration: ECE {100 * row.ece:.2f} % against {100 * base.ece:.2f} %"
    if row.ece_scaled is not None and base.ece_scaled is not None:
        text += (
            f", after temperature scaling {100 * row.ece_scaled:.2f} % against {100 * base.ece_scaled:.2f} %"
        )
    return f"{text}; NLL {row.nll:.3f} against {base.nll:.3f}."
