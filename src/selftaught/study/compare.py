"""A comparison: its trials in one directory, and the table that they make."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selftaught.errors import InputError, SelftaughtError
from selftaught.report import render
from selftaught.report.tables import Table, tabulate
from selftaught.study.executor import Event, Executor, in_this_process
from selftaught.study.plan import Trial, plan
from selftaught.study.processes import in_processes
from selftaught.training import cost, record
from selftaught.training.config import RunConfig
from selftaught.training.environment import usable_cores

TRIALS = "trials"
COSTS = "costs.json"


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
    """A study in directory `out`; trials that are already there are kept and reused.

    Raises:
        InputError: `out` is a file, cannot be written to, or holds something else.
    """
    directory = Path(out)
    record.make_directory(directory)
    strangers = [path.name for path in directory.iterdir() if not path.name.startswith(".")]
    if strangers and not (directory / TRIALS).is_dir():
        raise InputError(
            f"{directory} is not empty and not a comparison ({strangers[0]}): choose another --out"
        )
    record.make_directory(directory / TRIALS)
    return Study(directory, tuple(Trial(config, directory / TRIALS / config.trial_id) for config in configs))


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
) -> Comparison:
    """Train what is not finished, then write table.md, table.csv and comparison.json beside the trials.

    A failed trial does not stop the others; the table is made of what is finished. If stopped, no table is made.
    """
    pending = study.pending()
    outcomes = executor(pending, on_event, should_stop)
    failures = [(trial, o.error) for trial, o in zip(pending, outcomes, strict=True) if o.error is not None]
    if any(outcome.stopped for outcome in outcomes):
        return Comparison(study, None, True, failures)
    records = study.records()
    if not records:
        return Comparison(study, None, False, failures)
    table = tabulate(records, study.methods, step_costs(study))
    comparison = Comparison(study, table, False, failures)
    write(comparison)
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
                **run.result.model_dump(include={"accuracy", "nll", "ece", "seconds"}),
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
