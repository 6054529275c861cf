"""The table of a comparison, made from the records of finished runs alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selftaught.errors import InputError
from selftaught.report.statistics import Interval, mean_std, paired_interval
from selftaught.training.record import Record


@dataclass(frozen=True)
class Row:
    """One method over its trials. Accuracies, differences and ECE are fractions, NLL is in nats per image.

    `accuracy_std` is that of a sample (n−1), None for a single trial. `difference` is to the baseline, with its
    95 % interval over `pairs` seeds; None for the baseline itself. `cost` is the time of a step relative to plain
    training.
    """

    method: str
    trials: int
    accuracy: float
    accuracy_std: float | None
    pairs: int
    difference: Interval | None
    nll: float
    ece: float
    cost: float | None

    @property
    def verdict(self) -> str:
        """What the interval allows to say of the difference."""
        if self.difference is None:
            return ""
        if self.pairs < 2:
            return "one seed: no verdict"  # its interval knows nothing of other seeds
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "no clear difference"


@dataclass(frozen=True)
class Table:
    """The rows in the order asked for, the method that differences are taken to, and what the reader must know."""

    rows: tuple[Row, ...]
    baseline: str
    caption: tuple[str, ...]


_Correct = Mapping[str, Mapping[int, np.ndarray]]
"""Which test images the trial of a method and a seed got right."""


def tabulate(records: Sequence[Record], methods: Sequence[str], costs: Mapping[str, float]) -> Table:
    """The table of `methods` over all their `records`.

    Differences are to ``ce``, or to the first method where ``ce`` is not among them. Trials are paired by seed
    and test images by position; a seed that only one of the two methods has finished is left out of their
    difference. Methods without a finished trial have no row.

    Args:
        records: finished runs on the same data.
        methods: the order of the rows.
        costs: the time of a step relative to plain training, by method.

    Raises:
        InputError: no records, or records on different test images.
    """
    if not records:
        raise InputError("there is no finished trial to make a table of")
    if len({record.config.data_fingerprint for record in records}) > 1:
        raise InputError("these runs were trained on different data and cannot share a table")
    baseline = "ce" if "ce" in methods else methods[0]
    by_method = {method: _by_seed(records, method) for method in methods}
    correct = {
        method: {seed: record.correct() for seed, record in runs.items()}
        for method, runs in by_method.items()
    }
    rows = tuple(
        _row(
            method,
            list(runs.values()),
            _common(correct, method, baseline) if method != baseline else [],
            correct,
            baseline,
            costs,
        )
        for method, runs in by_method.items()
        if runs
    )
    return Table(rows, baseline, _caption(records, rows, baseline))


def _by_seed(records: Sequence[Record], method: str) -> dict[int, Record]:
    of_method = [record for record in records if record.config.method == method]
    return {record.config.seed: record for record in sorted(of_method, key=lambda record: record.config.seed)}


def _row(
    method: str,
    records: list[Record],
    seeds: list[int],
    correct: _Correct,
    baseline: str,
    costs: Mapping[str, float],
) -> Row:
    results = [record.result for record in records]
    accuracy, std = mean_std([result.accuracy for result in results])
    return Row(
        method=method,
        trials=len(results),
        accuracy=accuracy,
        accuracy_std=std if len(results) > 1 else None,
        pairs=len(seeds),
        difference=_difference(correct, method, baseline, seeds) if seeds else None,
        nll=float(np.mean([result.nll for result in results])),
        ece=float(np.mean([result.ece for result in results])),
        cost=costs.get(method),
    )


def _common(correct: _Correct, method: str, baseline: str) -> list[int]:
    return [seed for seed in correct[method] if seed in correct[baseline]]


def _difference(correct: _Correct, method: str, baseline: str, seeds: Sequence[int]) -> Interval:
    ours = np.stack([correct[method][seed] for seed in seeds]).astype(float)
    theirs = np.stack([correct[baseline][seed] for seed in seeds]).astype(float)
    return paired_interval(ours, theirs)


def _about_differences(rows: Sequence[Row], baseline: str) -> list[str]:
    compared = [row for row in rows if row.difference is not None]
    if not compared:
        return []
    text = (
        f"Difference to {baseline} in points with its 95 % interval: paired bootstrap over seeds and test images, not "
        "corrected for several comparisons."
    )
    partly = [f"{row.method} ({row.pairs})" for row in compared if row.pairs < row.trials]
    if partly:
        text += f" Only seeds that both methods finished count: {', '.join(partly)}."
    if any(row.pairs == 1 for row in compared):
        text += " With one seed the interval covers the test images only and allows no verdict."
    return [text]


def _caption(records: Sequence[Record], rows: Sequence[Row], baseline: str) -> tuple[str, ...]:
    config, data = records[0].config, records[0].result.data
    trials = sorted({row.trials for row in rows})
    held_out = f", {data.val} held out" if data.val else ""
    lines = [
        f"{config.data}: {data.train} training images{held_out}, {data.test} test images; {config.model}, "
        f"{config.epochs} epochs, {'-'.join(map(str, trials))} trial{'s' if trials != [1] else ''} per method; "
        "the last epoch counts.",
        "Accuracy and ECE (15 bins) in %, mean over trials, ± standard deviation (n−1).",
        *_about_differences(rows, baseline),
        "Step: time of an optimiser step relative to plain cross-entropy, median over alternating steps.",
    ]
    if baseline != "ce":
        lines.append(f"ce is not among the methods, so {baseline}, the first one, is the baseline.")
    return tuple(lines)
