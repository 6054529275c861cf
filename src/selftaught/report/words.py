"""What a comparison allows to say, in sentences that claim no more than the table."""

from collections.abc import Iterator, Sequence

from selftaught.report.numbers import points
from selftaught.report.tables import Row, Table
from selftaught.training.record import TEMPERATURES, Record

FEW_HELD_OUT = 100
"""Fewer held-out images than this make a rough temperature."""

_HEADLINES = {
    "better": "{methods} {verb} better than {baseline} in accuracy",
    "worse": "{methods} {verb} worse than {baseline} in accuracy",
    "no clear difference": "{methods} {show} no clear difference from {baseline} in accuracy",
    "one seed: no verdict": "no verdict on {methods} against {baseline}: that takes more than one seed",
}
"""The verdicts of `selftaught.report.tables.Row`, the clear ones first."""


def headline(table: Table) -> str:
    """The answer to "did it help?", for accuracy, in one sentence without its full stop."""
    compared = [row for row in table.rows if row.difference is not None]
    if not compared:
        if len(table.rows) > 1:
            return f"No verdict: no other method has trials with the seeds of {table.baseline} and stored predictions"
        [row] = table.rows
        return f"{row.method} is right on {100 * row.accuracy:.2f} % of the test images; one method, nothing to compare"
    parts = []
    for verdict, pattern in _HEADLINES.items():
        methods = [row.method for row in compared if row.verdict == verdict]
        if methods:
            verb, show = ("are", "show") if len(methods) > 1 else ("is", "shows")
            parts.append(
                pattern.format(methods=listed(methods), verb=verb, show=show, baseline=table.baseline)
            )
    text = "; ".join(parts)
    return text.replace("no ", "No ", 1) if text.startswith("no ") else text  # names keep their case


def findings(table: Table) -> Iterator[tuple[str, str, str]]:
    """For each compared method its name, the verdict on its accuracy, and what else is known of it."""
    base = next((row for row in table.rows if row.method == table.baseline), None)
    for row in table.rows:
        if row.difference is None or base is None:
            continue
        parts = [_of_accuracy(row, table.baseline), _of_calibration(row, base)]
        if row.cost is not None and base.cost:
            parts.append(
                f"A training step takes {row.cost / base.cost:.2f} times as long as with {base.method}."
            )
        yield row.method, row.verdict, " ".join(parts)


def cautions(table: Table, records: Sequence[Record]) -> Iterator[str]:
    """What to keep in mind before believing the table, and what would make it clearer."""
    compared = [row for row in table.rows if row.difference is not None]
    unclear = [row for row in compared if row.verdict not in ("better", "worse")]
    if unclear:
        seeds = max(row.trials for row in unclear)
        yield (
            f"More seeds narrow the intervals: a comparison's own command with --trials {max(5, 2 * seeds)} keeps the "
            "finished trials and adds to them, single runs take another --seed. The part that comes from the number of "
            "images stays."
        )
    if len(compared) > 1:
        yield (
            f"With {len(compared)} comparisons, each at 95 %, the chance that at least one interval misses zero though "
            f"nothing differs is up to {5 * len(compared)} %."
        )
    data = records[0].result.data
    introspective = [run.config.method for run in records if "saliency" in run.config.settings]
    introspective += [run.config.method for run in records if run.config.method == "le-teacher"]
    if len(data.classes) == 2 and introspective:
        yield (
            f"With two classes {', '.join(dict.fromkeys(introspective))} equals label smoothing: a single wrong class "
            "leaves nothing to share out."
        )
    yield from _about_chance(table, len(data.classes))
    yield from _about_temperatures(records)
    duplicates = max(run.result.data.duplicates for run in records)
    if duplicates:
        yield (
            f"{duplicates} of {data.test} test images are also among the training or held-out images: "
            "accuracies may be too high."
        )


def _about_chance(table: Table, classes: int) -> Iterator[str]:
    best = max(row.accuracy for row in table.rows)
    if best < 1.2 / classes:
        yield (
            f"No method is clearly better than guessing, {100 / classes:.2g} % with {classes} classes: train longer "
            "before comparing."
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


def _of_accuracy(row: Row, baseline: str) -> str:
    assert row.difference is not None
    text = f"{points(row.difference, 100)} points of accuracy against {baseline}, 95 % interval, "
    if row.pairs < 2:
        return f"{text}which covers the test images of one seed and says nothing of other seeds."
    text += f"{row.pairs} seeds."
    low, high = 100 * row.difference.low, 100 * row.difference.high
    if row.verdict == "no clear difference" and low < high:
        text += f" Anything from {abs(low):.2f} points worse to {high:.2f} points better fits these results."
    return text


def _of_calibration(row: Row, base: Row) -> str:
    text = f"Calibration: ECE {100 * row.ece:.2f} % against {100 * base.ece:.2f} %"
    if row.ece_scaled is not None and base.ece_scaled is not None:
        text += (
            f", after temperature scaling {100 * row.ece_scaled:.2f} % against {100 * base.ece_scaled:.2f} %"
        )
    return f"{text}; NLL {row.nll:.3f} against {base.nll:.3f}."
