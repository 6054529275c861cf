"""A comparison: its trials in one directory, and the table that they make."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from selftaught.errors import InputError, SelftaughtError
from selftaught.report import page, render
from selftaught.report.tables import Table, tabulate
from selftaught.study.executor import Event, Executor, in_this_process
from selftaught.study.plan import Trial, plan
from selftaught.study.processes import in_processes
from selftaught.training import cost, record
from selftaught.training.config import RunConfig
from selftaught.training.environment import usable_cores

TRIALS = "trials"
COSTS = "costs.json"
STUDY = "study.json"
REPORT = "report.html"


@dataclass(frozen=True)
class Study:
    """The trials of a comparison, each in a directory named by the hash of its configuration."""

    directory: Path
    trials: tuple[Trial, ...]

    @property
    def methods(self) -> list[str]:
        """The methods compared, in order."""
        return list(dict.fromkeys(trial.config.method for trial in self.trials))

    def pending(self) -> list[Trial]:
        """The trials that are not finished."""
        return [trial for trial in self.trials if not record.is_finished(trial.directory)]

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


def make_study(configs: Sequence[RunConfig], out: str | os.PathLike) -> Study:
    """A study in directory `out`, which is looked at but not touched; trials that are there are reused.

    Raises:
        InputError: `out` is a file, or holds something else or a comparison under another protocol.
    """
    directory = Path(out)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file: --out must name a directory")
    names = sorted(path.name for path in directory.iterdir()) if directory.exists() else []
    strangers = [name for name in names if not name.startswith(".")]
    if strangers and not (directory / TRIALS).is_dir():
        raise InputError(
            f"{directory} is not empty and not a comparison ({strangers[0]}): choose another --out"
        )
    trials = directory / TRIALS
    existing = sorted(trials.glob(f"*/{record.CONFIG}")) if trials.is_dir() else []
    for path in existing[:1]:
        found = record.read_config(path.parent)
        if found is not None and found.shared().canonical() != configs[0].shared().canonical():
            changes = "; ".join(found.shared().differences(configs[0].shared()))
            raise InputError(f"{directory} holds another comparison ({changes}): choose another --out")
    return Study(directory, tuple(Trial(config, trials / config.trial_id) for config in configs))


def executor_for(trials: Sequence[Trial], jobs: int | None = None) -> tuple[int, Executor]:
    """How many trials to run at once, and who runs them.

    By default as many as fit the cores with the threads that each trial uses; on a GPU one.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs is {jobs} but should be at least 1")
    if not trials:
        return 1, in_this_process
    if jobs is None:
        config = trials[0].config
        jobs = max(1, usable_cores() // config.threads) if config.device == "cpu" else 1
    jobs = min(jobs, len(trials))
    return jobs, in_this_process if jobs == 1 else in_processes(jobs)


def run(
    study: Study,
    executor: Executor = in_this_process,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    command: Sequence[str] = (),
) -> Comparison:
    """Train what is not finished, then write the tables and the report beside the trials.

    A failed trial does not stop the others; the table is made of what is finished. If stopped, no table is made.

    Args:
        study: from `make_study`; its directory is created.
        executor: who runs the trials.
        on_event: hears how they get on.
        should_stop: asked again and again; once it says yes the running trials are saved.
        command: what the user typed, for the report.

    Raises:
        InputError: the directory cannot be written to.
    """
    record.make_directory(study.directory / TRIALS)
    write_study(study, command)
    pending = study.pending()
    outcomes = executor(pending, on_event, should_stop)
    failures = [(trial, o.error) for trial, o in zip(pending, outcomes, strict=True) if o.error is not None]
    if any(outcome.stopped for outcome in outcomes):
        return Comparison(study, None, True, failures)
    records = study.records()
    if not records:
        return Comparison(study, None, False, failures)
    costs = step_costs(study)
    comparison = Comparison(study, tabulate(records, study.methods, costs), False, failures)
    write(comparison)
    page.write(records, study.directory / REPORT, study.methods, costs, command)
    return comparison


def compare(
    data: str,
    methods: Sequence[str],
    trials: int = 5,
    seed: int = 0,
    out: str | os.PathLike = "runs/compare",
    jobs: int | None = 1,
    **options: Any,
) -> Comparison:
    """Train each method over seeds and compare them: `plan`, `make_study` and `run` in one call.

    With ``jobs=None`` or more than 1 the trials run in processes that import the calling script again: guard it
    with ``if __name__ == "__main__":``.
    """
    study = make_study(plan(data, methods, trials, seed, **options), out)
    return run(study, executor_for(study.pending(), jobs)[1])


def write_study(study: Study, command: Sequence[str]) -> None:
    """Say in the study's directory what it consists of, so that a report can be made of it without the command."""
    values = {
        "command": list(command),
        "methods": study.methods,
        "trials": [trial.config.trial_id for trial in study.trials],
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    record.write(study.directory / STUDY, (json.dumps(values, indent=2) + "\n").encode())


def step_costs(study: Study) -> dict[str, float]:
    """Relative step time by method; measured once per study and method, then read from costs.json."""
    path = study.directory / COSTS
    try:
        known: dict[str, float] = json.loads(path.read_text())
    except (OSError, ValueError):  # not there, or damaged: it can be measured again
        known = {}
    first = {trial.config.method: trial.config for trial in reversed(study.trials)}
    missing = [config for config in first.values() if config.trial_id not in known]
    if missing:
        try:
            measured = cost.measure(missing)
        except SelftaughtError:
            measured = []  # what keeps a method from training keeps it from being timed; its trials say why
        known |= {config.trial_id: result.relative for config, result in zip(missing, measured, strict=False)}
        record.write(path, (json.dumps(known, indent=2) + "\n").encode())
    return {method: known[config.trial_id] for method, config in first.items() if config.trial_id in known}


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
                **run.result.model_dump(include={"accuracy", "nll", "ece", "ece_scaled", "seconds"}),
            }
            for run in study.records()
        ],
        "failures": [
            {"trial_id": trial.config.trial_id, "method": trial.config.method, "error": error}
            for trial, error in comparison.failures
        ],
        "environment": next((run.result.environment for run in study.records()), {}),
    }


def write(comparison: Comparison) -> None:
    """The table's files, beside the trials."""
    assert comparison.table is not None
    directory = comparison.study.directory
    record.write(directory / "table.md", render.markdown(comparison.table).encode())
    record.write(directory / "table.csv", render.as_csv(comparison.table).encode())
    record.write(directory / "comparison.json", (json.dumps(summary(comparison), indent=2) + "\n").encode())
