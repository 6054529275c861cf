"""A comparison: its trials in one directory, and the table that they make."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

from selftaught.activities import activity
from selftaught.errors import InputError
from selftaught.files import manifest, record
from selftaught.files.config import RunConfig
from selftaught.methods import registry
from selftaught.report import page, render
from selftaught.report.study import Found, read
from selftaught.report.tables import Table, called, tabulate
from selftaught.study import folder
from selftaught.study.executor import Event, Executor, in_this_process
from selftaught.study.executors import executor_for
from selftaught.study.graph import GraphFile, with_teachers
from selftaught.study.plan import Trial, plan, with_probe
from selftaught.training import cost


@dataclass(frozen=True)
class Study:
    """The trials of a comparison, each in a directory named by the hash of its configuration.

    `teachers` are what some of them learn from, to be trained before.
    """

    directory: Path
    trials: tuple[Trial, ...]
    teachers: tuple[Trial, ...] = ()

    @property
    def methods(self) -> list[str]:
        """The methods compared, in order."""
        return list(dict.fromkeys(trial.config.method for trial in self.trials))

    def pending(self) -> list[Trial]:
        """The trials and the teachers that are not finished."""
        everything = (*self.teachers, *self.trials)
        return [trial for trial in everything if not record.is_finished(trial.directory)]

    def records(self) -> list[record.Record]:
        """The finished trials."""
        return [record.read(trial.directory) for trial in self.trials if record.is_finished(trial.directory)]


@dataclass(frozen=True)
class Comparison:
    """What came of a study: the table (None if no trial finished) and what did not go well."""

    study: Study
    table: Table | None
    stopped: bool = False
    failures: list[tuple[Trial, str]] = field(default_factory=list)


def make_study(
    configs: Sequence[RunConfig],
    out: str | os.PathLike,
    teachers: Mapping[str, Path] = MappingProxyType({}),
    keep_checkpoints: bool = False,
) -> Study:
    """A study in directory `out`, which is looked at but not touched; trials that are there are reused.

    Args:
        configs: its trials; the teachers that they learn from become part of the study.
        out: the directory.
        teachers: the run directories of teachers that are trained already, by trial.
        keep_checkpoints: whether those of finished trials stay.

    Raises:
        InputError: `out` is a file, holds something else or a comparison under another protocol, or a trial that is
            finished is damaged.
    """
    directory = folder.checked(out)
    trials = directory / folder.TRIALS
    before, students = with_teachers(configs, trials, teachers)
    ours = {trial.directory for trial in before}
    existing = [path for path in folder.compared(directory) if path not in ours] if trials.is_dir() else []
    for path in [path for path in existing if (path / record.CONFIG).exists()][:1]:
        found = record.read_config(path)
        if found is not None and found.shared().canonical() != configs[0].shared().canonical():
            changes = "; ".join(found.shared().differences(configs[0].shared()))
            raise InputError(f"{directory} holds another comparison ({changes}): choose another --out")
    parts = (
        tuple(replace(trial, keep_checkpoint=keep_checkpoints) for trial in some)
        for some in (students, before)
    )
    study = Study(directory, *parts)
    study.records()  # hours of training later it would be late to hear that one of them is damaged
    return study


def run(
    study: Study,
    executor: Executor = in_this_process,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    command: Sequence[str] = (),
    jobs: int = 1,
) -> Comparison:
    """Train what is not finished, then write the tables and the report beside the trials.

    A failed trial does not stop the others; the table is made of what is finished. If stopped, no more is made: no
    table, or one without the time of a step.

    Args:
        study: from `make_study`; its directory is created.
        executor: who runs the trials.
        on_event: hears how they get on.
        should_stop: asked again and again; once it says yes the running trials are saved.
        command: what the user typed, for the report.
        jobs: how many trials the executor runs at once, for `selftaught status`.

    Raises:
        InputError: the directory cannot be written to.
    """
    record.make_directory(study.directory / folder.TRIALS)
    described = _described(study, command)
    folder.write_study(study.directory, described)
    pending = study.pending()
    graph = GraphFile(study.directory, (*study.teachers, *study.trials), _title(study), command, jobs)
    outcomes = executor(pending, graph.noting(pending, on_event), should_stop)
    failures = [(trial, o.error) for trial, o in zip(pending, outcomes, strict=True) if o.error is not None]
    missing = _missing(study, failures)
    folder.write_study(study.directory, described.model_copy(update={"missing": missing}))
    stopped = Comparison(study, None, True, failures)
    if any(outcome.stopped for outcome in outcomes) or should_stop():
        return stopped
    if len(missing) == len(study.trials):
        return Comparison(study, None, False, failures)
    untimed = _untimed(study)
    if untimed:  # all of them in memory together: who runs out of it has the table
        _show(study, failures, [])
    if should_stop():
        return stopped
    return _show(study, failures, _time_steps(study, untimed))


def _show(study: Study, failures: list[tuple[Trial, str]], notes: Sequence[str]) -> Comparison:
    """Write the tables and the report of what is finished."""
    # Read as `selftaught report` reads it: what is made here now can be made again from the files.
    with activity("writing the table and the report"):
        found = read([study.directory])
        found.notes += notes
        table = tabulate(found.records, found.methods, found.costs, found.notes)
        comparison = Comparison(study, table, False, failures)
        write(comparison, found)
    return comparison


def compare(
    data: str,
    methods: Sequence[str],
    trials: int = 5,
    seed: int = 0,
    out: str | os.PathLike = "runs/compare",
    jobs: int | None = 1,
    keep_checkpoints: bool = False,
    **options: Any,
) -> Comparison:
    """Train each method over seeds and compare them: `plan`, `make_study` and `run` in one call.

    With ``jobs=None`` or more than 1 the trials run in processes that import the calling script again: guard it
    with ``if __name__ == "__main__":``.
    """
    methods = with_probe(data, methods, **options)
    study = make_study(plan(data, methods, trials, seed, **options), out, keep_checkpoints=keep_checkpoints)
    jobs, executor = executor_for(study.pending(), jobs)
    return run(study, executor, jobs=jobs)


def _described(study: Study, command: Sequence[str]) -> folder.StudyFile:
    """The study as it begins; the commands that began it before are kept."""
    try:
        before = folder.read_study(study.directory)
    except InputError:  # damaged: all but the earlier commands is known again
        before = None
    starts = before.starts if before else ()
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    if command and (not starts or starts[-1].command != tuple(command)):
        starts = (*starts, folder.Start(command=tuple(command), started=now))
    return folder.StudyFile(
        command=tuple(command),
        started=now,
        commands=starts,
        methods=tuple(study.methods),
        trials=tuple(trial.config.trial_id for trial in study.trials),
        teachers=tuple(trial.config.trial_id for trial in study.teachers),
        missing=_missing(study),
    )


def _title(study: Study) -> str:
    config = study.trials[0].config
    return f"{', '.join(study.methods)} on {called(config.data)} with {called(config.model)}"


def _missing(study: Study, failures: Sequence[tuple[Trial, str]] = ()) -> tuple[folder.Missing, ...]:
    errors = {trial.config.trial_id: error for trial, error in failures}
    return tuple(
        folder.Missing(
            trial_id=trial.config.trial_id,
            method=trial.config.method,
            seed=trial.config.seed,
            error=errors.get(trial.config.trial_id),
        )
        for trial in study.trials
        if not record.is_finished(trial.directory)
    )


def _untimed(study: Study) -> list[RunConfig]:
    """The first finished trial of each method that has steps, where costs.json does not know their time."""
    known = folder.usable_costs(study.directory)
    finished = [t.config for t in study.trials if record.is_finished(t.directory)]
    finished = [config for config in finished if not registry.find(config.method).head_only]
    timed = {config.method for config in finished if config.trial_id in known}
    first = {config.method: config for config in reversed(finished) if config.method not in timed}
    return [first[method] for method in study.methods if method in first]


def _time_steps(study: Study, untimed: Sequence[RunConfig]) -> list[str]:
    """Measure the steps of these trials, for costs.json.

    Returns:
        For each that could not be timed a sentence that says why: a column is not worth the table.
    """
    if not untimed:
        return []
    found = cost.relative(untimed)
    folder.write_costs(study.directory, folder.usable_costs(study.directory) | found.times)
    return [
        f"The steps of {config.method} are not timed ({found.errors[config.trial_id]})."
        for config in untimed
        if config.trial_id in found.errors
    ]


_SUMMARY = {
    *("accuracy", "balanced_accuracy", "macro_f1", "top5_accuracy", "nll", "ece", "ece_scaled", "seconds"),
    *("soft_labels", "learning", "strength"),
}
"""What of each result stands in comparison.json."""


def summary(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values: the table, and where each number comes from."""
    study = comparison.study
    return {
        **(render.values(comparison.table) if comparison.table else {}),
        "trials": [
            {
                "trial_id": run.config.trial_id,
                "method": run.config.method,
                "seed": run.config.seed,
                "settings": run.config.settings,
                "directory": str(run.directory.relative_to(study.directory)),
                **run.result.model_dump(include=_SUMMARY),
            }
            for run in study.records()
        ],
        "failures": [
            {
                "trial_id": trial.config.trial_id,
                "method": trial.config.method,
                "seed": trial.config.seed,
                "error": error,
            }
            for trial, error in comparison.failures
        ],
        "environment": next((run.result.environment for run in study.records()), {}),
    }


def write(comparison: Comparison, found: Found) -> None:
    """The table's files and the report on what was `found`, beside the trials."""
    assert comparison.table is not None
    manifest.write(
        comparison.study.directory,
        {
            folder.TABLE: render.markdown(comparison.table).encode(),
            folder.TABLE_CSV: render.as_csv(comparison.table).encode(),
            folder.SUMMARY: (json.dumps(summary(comparison), indent=2) + "\n").encode(),
            folder.REPORT: page.html(
                found.records, found.methods, found.costs, found.commands, found.notes
            ).encode(),
        },
    )
