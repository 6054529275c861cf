"""The table of a comparison, made from the records of finished runs alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from selftaught.errors import InputError, shown
from selftaught.files import answers, evidence, integrity
from selftaught.files.catalogue import PROBE
from selftaught.files.config import DATA_OPTIONS, RunConfig
from selftaught.files.names import called
from selftaught.files.results import OWN_TEST_PART, Record
from selftaught.report import balance, carried, chance, probe
from selftaught.report.differences import LEVEL, Correct, Difference, differences, planned
from selftaught.report.learning import Learning, learning
from selftaught.report.numbers import p_value, points
from selftaught.statistics.paired import mean_std


@dataclass(frozen=True)
class Row:
    """One method over its trials. Accuracies, differences and ECE are fractions, NLL is in nats per image.

    `accuracy_std` is that of a sample (n−1), None for a single trial. `difference` is to the baseline; None for the
    baseline itself, and where the runs kept no predictions or have no seeds in common.
    `nll_scaled` and `ece_scaled` are those after temperature scaling, None unless every trial has a temperature.
    `cost` is the time of a step relative to plain training, `seconds` a trial's time of training. `balanced_accuracy`,
    `macro_f1` and `top5_accuracy` are None unless every trial has them.
    """

    method: str
    trials: int
    accuracy: float
    accuracy_std: float | None
    difference: Difference | None
    nll: float
    ece: float
    nll_scaled: float | None
    ece_scaled: float | None
    cost: float | None
    balanced_accuracy: float | None = None
    balanced_accuracy_std: float | None = None
    macro_f1: float | None = None
    top5_accuracy: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Table:
    """The rows in the order asked for, the method that their differences are taken to, and what the reader must know.

    `further` are differences to other methods than the baseline. P-values are corrected for all that are `planned`, a
    method and what it is compared with, whether there are trials for them or not. `remarks` are what is to be known
    before the numbers are looked at: that accuracy alone misleads (`uneven`), that fine-tuning was in vain. `learning`
    is what the linear probe makes of fewer images.
    """

    rows: tuple[Row, ...]
    baseline: str
    caption: tuple[str, ...]
    further: tuple[Difference, ...] = ()
    planned: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    uneven: bool = False
    learning: Learning | None = None
    records: tuple[Record, ...] = ()
    costs: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def contestants(self) -> tuple[Row, ...]:
        """The rows without the linear probe's, which only shows what they have to beat; it too where it is alone."""
        return tuple(row for row in self.rows if row.method != PROBE) or self.rows

    @property
    def has_probe(self) -> bool:
        """Whether the linear probe stands beside other methods."""
        return len(self.contestants) < len(self.rows)


MACRO_F1 = "Macro F1: mean over the classes of F1, the harmonic mean of precision and recall, in %."
BALANCED = f"Balanced: mean over the classes of their accuracies, in %. {MACRO_F1}"
TOP5 = "Top-5: test images whose class is among the five most probable ones, in %."
"""What columns mean that not every table has."""

_FREE = {"data_fingerprint": "", "threads": 1, "device": "cpu"}
"""What else may differ between the runs of a table; whether they share their data is looked at apart."""

_OF_A_PROBE = ("model", "model_fingerprint", "precision", "class_weights", "sampling", *DATA_OPTIONS)
"""What the result of a linear probe depends on, beside its data."""


@np.errstate(all="ignore")  # records may hold numbers of any size
def tabulate(
    records: Sequence[Record],
    methods: Sequence[str],
    costs: Mapping[str, float],
    notes: Sequence[str] = (),
) -> Table:
    """The table of `methods` over all their `records`.

    Differences are to ``ce``, or to the first method where ``ce`` is not among them; those of ``le`` to all others. The
    linear probe is compared with that one method alone, and nothing with it.
    Trials are paired by seed and test images by position; a seed that only one of the two methods has finished is left
    out of their difference. Methods without a finished trial have no row.

    Args:
        records: finished runs on the same data.
        methods: the order of the rows.
        costs: the time of a step relative to plain training, by method.
        notes: what the caption begins with, such as trials that are missing.

    Raises:
        InputError: no records, records on different data, or that differ in more than method and seed.
    """
    records = [record for record in records if record.config.method in methods]
    if not records:
        raise InputError("there is no finished trial to make a table of")
    check_comparable(records)
    baseline = baseline_of(methods)
    by_method = {method: _by_seed(records, method) for method in methods}
    correct = {
        method: {seed: evidence.correct(run) for seed, run in runs.items() if evidence.has_answers(run)}
        for method, runs in by_method.items()
    }
    per_trial = _have_their_own_test_images(records)
    data, pairs = records[0].result.data, tuple(planned(methods, baseline))
    made = differences(correct, pairs, data.test / max(data.train, 1) if per_trial else None)
    if PROBE in methods and baseline != PROBE:
        made += differences(
            correct, [(PROBE, baseline)], data.test / max(data.train, 1) if per_trial else None
        )
    to_baseline = {one.method: one for one in made if one.base == baseline}
    further = tuple(one for one in made if one.base != baseline)
    classes = {method: [evidence.classes(run) for run in runs.values()] for method, runs in by_method.items()}
    rows = [
        _row(list(runs.values()), classes[method], to_baseline.get(method), costs.get(method))
        for method, runs in by_method.items()
        if runs
    ]
    table = Table(tuple(rows), baseline, (), further, pairs, learning=learning(records))
    uneven = balance.remark(classes, data.classes)
    remarks = tuple(filter(None, (uneven, _about_probe(table))))
    table = replace(table, remarks=remarks, uneven=uneven is not None)
    return replace(table, caption=(*notes, *_caption(records, table, correct, per_trial)))


def baseline_of(methods: Sequence[str]) -> str:
    """What the others are compared with: ``ce``, else the first one that is not the linear probe.

    >>> baseline_of(["le", "ce"]), baseline_of(["probe", "ls", "le"]), baseline_of(["probe"])
    ('ce', 'ls', 'probe')
    """
    return "ce" if "ce" in methods else next((one for one in methods if one != PROBE), methods[0])


def check_comparable(records: Sequence[Record]) -> None:
    """Refuse records that cannot stand side by side: other data, other settings, or one seed of a method twice."""
    for fault in integrity.same_labels(records):
        raise fault
    first, firsts = _first(records), dict[str, Record]()
    parts = {(run.config.seed if run.config.divided_per_trial else None, _data(run)) for run in records}
    if len(parts) != len({seed for seed, _ in parts}):
        raise InputError("these runs were trained on different data and cannot share a table")
    if len({answers.labels_digest(run, "test") for run in records if _has_a_subset(run)} - {None}) > 1:
        raise InputError("these runs were tested on different images and cannot share a table")
    for run in records:
        changes = _differences(first.config, run.config)
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


def _first(records: Sequence[Record]) -> Record:
    """The record that speaks for all: not the linear probe's, which has no epochs, unless there is no other."""
    return next((run for run in records if run.config.method != PROBE), records[0])


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


def _by_seed(records: Sequence[Record], method: str) -> dict[int, Record]:
    of_method = [record for record in records if record.config.method == method]
    return {record.config.seed: record for record in sorted(of_method, key=lambda record: record.config.seed)}


def _row(
    runs: list[Record],
    classes: Sequence[evidence.Classes],
    difference: Difference | None,
    cost: float | None,
) -> Row:
    results = [run.result for run in runs]
    accuracy, std = mean_std([result.accuracy for result in results])
    balanced = [one.balanced_accuracy for one in classes if one.balanced_accuracy is not None]
    return Row(
        method=runs[0].config.method,
        trials=len(results),
        accuracy=accuracy,
        accuracy_std=std if len(results) > 1 else None,
        difference=difference,
        nll=float(np.mean([result.nll for result in results])),
        ece=float(np.mean([result.ece for result in results])),
        nll_scaled=_mean([result.nll_scaled for result in results]),
        ece_scaled=_mean([result.ece_scaled for result in results]),
        cost=cost,
        balanced_accuracy=_mean([one.balanced_accuracy for one in classes]),
        balanced_accuracy_std=mean_std(balanced)[1] if len(balanced) == len(runs) > 1 else None,
        macro_f1=_mean([one.macro_f1 for one in classes]),
        top5_accuracy=_mean([one.top5_accuracy for one in classes]),
        seconds=float(np.mean([result.seconds for result in results])),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if len(numbers) == len(values) else None


def _have_their_own_test_images(records: Sequence[Record]) -> bool:
    """Whether each seed has test images of its own, rather than all seeds the whole test part of the data."""
    splits = {record.config.data_fingerprint for record in records if record.config.split_per_trial}
    return len(splits) > 1 and records[0].result.data.test_part != OWN_TEST_PART


def _has_a_subset(run: Record) -> bool:
    """Whether its training images are those of its seed, and its test images those of all seeds."""
    return run.config.subset_seed is not None and not run.config.split_per_trial


def _data(run: Record) -> tuple[object, ...]:
    return run.config.data_fingerprint, run.result.data.classes, run.result.data.test


def _about_probe(table: Table) -> str | None:
    """Whether plain fine-tuning was worth it; None without a probe, or without a trial of what is plain."""
    rows = {row.method: row for row in table.rows}
    ours, its = rows.get(table.baseline), rows.get(PROBE)
    if ours is None or its is None or not table.has_probe:
        return None
    above = {row.method: row.accuracy for row in table.contestants if row.accuracy > its.accuracy}
    return probe.remark(table.baseline, ours.accuracy, its.accuracy, its.difference, above)


def _about_differences(table: Table, correct: Correct, per_trial: bool) -> Iterator[str]:
    rows, baseline = table.rows, table.baseline
    without = [row.method for row in rows if len(correct[row.method]) < row.trials]
    if without:
        yield (
            f"Trials without stored predictions ({', '.join(without)}) are left out of the differences: an interval "
            "needs to know which test images were right."
        )
    made = [*(row.difference for row in rows if row.difference is not None), *table.further]
    if not made:
        return
    how = (
        "Student's t over the seeds, each of which has its own split into training and test images, widened for the "
        "images that the splits share (Nadeau and Bengio, 2003)"
        if per_trial and any(one.pairs > 1 for one in made)
        else "over seeds (Student's t) and test images (bootstrap)"
    )
    corrected = ", not corrected for several comparisons" if len(table.planned) > 1 else ""
    text = f"Difference to {baseline} in points with its 95 % interval: {how}{corrected}."
    trials = {row.method: row.trials for row in rows}
    partly = [
        f"{one.method}{'' if one.base == baseline else f' against {one.base}'} ({one.pairs})"
        for one in made
        if one.pairs < trials[one.method]
    ]
    if partly:
        text += f" Only seeds that both methods finished count: {', '.join(partly)}."
    if any(one.pairs == 1 for one in made):
        text += " With one seed the interval covers the test images only and allows no verdict."
    yield text
    if any(one.p is not None for one in made):
        yield _about_p(table)
    if table.further:
        yield f"And further: {'; '.join(map(_said, table.further))}."


def _about_p(table: Table) -> str:
    """What the p-values are, and what follows from them."""
    count, rule = len(table.planned), f"better and worse mean p < {LEVEL}."
    if count < 2:
        return f"p: of the test against no difference; {rule}"
    le = ", le with all" if any(base != table.baseline for _, base in table.planned) else ""
    apart = f"; {PROBE} is a question of its own" if table.has_probe else ""
    return f"p: corrected after Holm over {count} comparisons (all methods with {table.baseline}{le}){apart}; {rule}"


def _said(one: Difference) -> str:
    p = p_value(one.p)
    return f"{one.method} against {one.base} {points(one.interval, 100)}{', ' if p else ''}{p}, {one.verdict}"


def _about_others(records: Sequence[Record], methods: Sequence[str]) -> Iterator[str]:
    """Which networks were trained for whose sake beside those in the table."""
    for method in methods:
        runs = [run for run in records if run.config.method == method]
        teachers = {run.config.teacher.trial_id: run.config.teacher for run in runs if run.config.teacher}
        if teachers:
            first = next(iter(teachers.values()))
            above = f", who learnt from {called(first.teacher.model)}" if first.teacher else ""
            one = "one for all trials, so the interval says nothing about what another one would have done"
            yield (
                f"{method} learns from {called(first.model)} ({first.method}, "
                f"{f'{len(teachers)} of them' if len(teachers) > 1 else f'seed {first.seed}'}){above}: "
                f"{'each trial has its own' if len(teachers) > 1 else one}. Training the teacher is not in the step's "
                "time."
            )
        if any(run.result.peer_accuracy for run in runs):
            yield f"{method} trains a second network at the same time; the first one counts."


def _what_counts(config: RunConfig) -> str:
    """Which weights the numbers are of."""
    if config.blend < 1:
        return f"the weights {100 * config.blend:g} % of the way from the probe to the last epoch count"
    return "the last epoch counts"


def _caption(records: Sequence[Record], table: Table, correct: Correct, per_trial: bool) -> tuple[str, ...]:
    first, rows = _first(records), table.rows
    config, data = first.config, first.result.data
    counts = "-".join(map(str, sorted({row.trials for row in rows})))
    best = max(row.accuracy for row in table.contestants)
    held_out = f", {data.val} held out" if data.val else ""
    length = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
    subsets = any(map(_has_a_subset, records)) and len({run.config.data_fingerprint for run in records}) > 1
    of_chance = chance.caution(best, data.classes, evidence.class_sizes(records))
    of_probe = probe.caption(records)
    lines = [
        *([of_chance] if of_chance else []),
        *carried.cautions(records),
        f"{called(config.data)}: {data.train} training images{held_out}, {data.test} test images; "
        f"{called(config.model)}, {length}, {counts} trial{'s' if counts != '1' else ''} per method; "
        f"{_what_counts(config)}.",
        *(["Each seed has training images of its own; the test images are the same."] if subsets else []),
        *(
            [f"Split by {shown(config.split_by)}: what is set aside or held out are whole groups."]
            if config.split_by is not None
            else []
        ),
        "Accuracy and ECE (15 bins) in %, mean over trials, ± standard deviation (n−1).",
        *([BALANCED] if table.uneven else []),
        *([TOP5] if any(row.top5_accuracy is not None for row in rows) else []),
        *_about_differences(table, correct, per_trial),
        *([of_probe] if of_probe else []),
        *_about_others(records, [row.method for row in rows]),
    ]
    if any(row.ece_scaled is not None for row in rows):
        lines.append(
            "Scaled: after temperature scaling, each trial's temperature fitted on its held-out images."
        )
    if any(row.cost is not None for row in rows):
        lines.append(
            "Step: time of an optimiser step relative to plain cross-entropy, median over alternating steps."
        )
    if table.has_probe:
        lines.append(
            "Time: of training a trial, mean over trials; the probe's is that of its features and its fit."
        )
    if table.baseline != "ce":
        lines.append(f"ce is not among the methods, so {table.baseline}, the first one, is the baseline.")
    return tuple(lines)
