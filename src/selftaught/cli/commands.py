"""What the training commands do once their flags are read. Importing this imports torch.

stdout is for the result: whatever a network of the user's own prints meanwhile goes to stderr.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selftaught.cli import DONE, FAILED, INTERRUPTED, WRONG_INPUT, complain, early, showing
from selftaught.cli.announcement import announcement, expectation, planned
from selftaught.cli.busy import hear
from selftaught.cli.inputs import with_teacher
from selftaught.cli.interrupt import stop_on_interrupt
from selftaught.cli.options import OutputOptions, RunOptions
from selftaught.cli.progress import display
from selftaught.errors import InputError
from selftaught.files import claiming, record
from selftaught.files.config import RunConfig
from selftaught.files.names import called
from selftaught.study import finishing
from selftaught.study.compare import check_directory, study_of
from selftaught.study.demands import split_methods
from selftaught.study.executor import in_this_process
from selftaught.study.executors import executor_for
from selftaught.study.flags import plan, taught, try_steps, with_probe
from selftaught.study.naming import names
from selftaught.study.outlook import Outlook, outlook
from selftaught.study.reproduce import prepare
from selftaught.study.studies import Study
from selftaught.study.trials import Trial
from selftaught.training.environment import check_device, usable_cores
from selftaught.training.run import Stopped

MOST_THREADS = 4
RESUME = "the same command goes on from here"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """How a study is run: `jobs` trials at once by this executor, or not at all."""

    jobs: int | None = 1
    executor: str = "local"
    dry_run: bool = False
    tables_only: bool = False


def compare(
    data: str, methods: str, trials: int, probe: bool, work: Work, options: RunOptions, output: OutputOptions
) -> int:
    """Train methods over seeds and show their table."""
    with redirect_stdout(sys.stderr):
        given, ready = with_teacher(options.given())
        asked = split_methods(methods)
        configs = plan(
            data, with_probe(data, asked, **given) if probe else asked, trials, on_activity=hear, **given
        )
        default = f"compare-{_slug(data)}-{_slug(configs[0].model)}-{configs[0].protocol_id}"
        out = output.out or Path("runs") / default
        study = study_of(configs, out, ready, output.keep_checkpoints, _command())
        check_directory(study)
        for trial in study.pending():
            early.check_begun(trial.directory)
        try_steps(configs, taught(given), hear)
    return _carried_out(study, work, output)


def reproduce(
    asked: list[str],
    budget: str,
    variants: list[str],
    groups: list[str],
    work: Work,
    options: dict[str, Any],
    output: OutputOptions,
) -> int:
    """Train what tables and figures of the paper need, and show them."""
    given = {key: value for key, value in options.items() if value is not None}
    out = output.out or Path("runs") / f"paper-{budget}"
    with redirect_stdout(sys.stderr):
        study = prepare(
            asked, budget, out, given, _command(), variants, groups, output.keep_checkpoints, hear
        )
        study.cells()
    return _carried_out(study, work, output)


def _carried_out(study: Study, work: Work, output: OutputOptions) -> int:
    """Say what will be done, do it, show what comes of it."""
    begun = time.monotonic()
    pending = [] if work.tables_only else study.pending()
    jobs, _ = executor_for(pending, work.jobs, work.executor)
    # What recipes take is written in them, and measuring each kind of their trials may take as long as a small budget.
    measured = work.dry_run or not (output.quiet or study.budget)
    tell = _announced(study, pending, jobs, work.dry_run, measured, output)
    if work.dry_run:
        return DONE
    made: finishing.Results | None = None
    with stop_on_interrupt() as should_stop, redirect_stdout(sys.stderr):
        if work.tables_only or not _trained(study, work, output.quiet, should_stop):
            facts = {"wall time of this command": f"{(time.monotonic() - begun) / 60:.1f} minutes"}
            with suppress(Stopped):
                made = finishing.finish(study, tell, should_stop, facts, hear)
    if made is None:
        total = len(study.trials())
        left = len([trial for trial in study.trials() if not record.is_finished(trial.directory)])
        tell(f"interrupted: {total - left} of {total} trials are finished and kept; {RESUME}")
        return INTERRUPTED
    showing.study(made, study, output)
    called_so = dict(zip((t.directory for t in study.trials()), names(study.trials()), strict=True))
    for trial, error in made.failures:
        complain(f"{called_so[trial.directory]} ({trial.directory}) failed: {error}")
    for problem in made.problems:
        complain(problem)
    return FAILED if made.failures or made.problems else DONE


def _announced(
    study: Study, pending: Sequence[Trial], jobs: int, dry_run: bool, measured: bool, output: OutputOptions
) -> Tell:
    """Say what will be done and, if `measured`, what it takes; returns how to say more.

    What is asked for with --dry-run is the answer, not talk on the way to it.
    """
    tell = teller(output.quiet)
    if dry_run:
        tell = teller(quiet=True) if output.as_json else print
    for line in announcement(study, pending, jobs):
        tell(line)
    expected = _outlook(pending, jobs, tell) if measured and pending else None
    if dry_run and output.as_json:
        print(json.dumps(planned(study, jobs, expected), indent=2))
    return tell


def _outlook(pending: Sequence[Trial], jobs: int, tell: Tell) -> Outlook | None:
    """Measure what these trials will take, and tell it; None where it cannot be measured here."""
    try:
        check_device(pending[0].config.device)
    except InputError as error:
        tell(f"what it takes is not measured: {error}")
        return None
    with redirect_stdout(sys.stderr):
        found = outlook([trial.config for trial in pending], jobs, hear)
    for line in expectation(found, jobs):
        tell(line)
    return found


def _trained(study: Study, work: Work, quiet: bool, should_stop: Callable[[], bool]) -> bool:
    """Train all that can be planned, and then what could not be before; whether it was asked to stop before the end."""
    while True:
        pending = study.pending()
        if pending:
            check_device(pending[0].config.device)  # only who trains needs it
        jobs, executor = executor_for(pending, work.jobs, work.executor)
        with display(pending, quiet) as show:
            if study.run(executor, show, should_stop, jobs):
                return True
        if not study.pending():
            return False


def train(data: str, method: str, dry_run: bool, options: RunOptions, output: OutputOptions) -> int:
    """One trial in this process; with `dry_run` only what it would be and take."""
    # One run has the machine to itself; more threads than this only get in each other's way on small images.
    threads = min(usable_cores(), MOST_THREADS)
    with redirect_stdout(sys.stderr):
        given, ready = with_teacher(options.given())
        [config] = plan(data, [method], trials=1, on_activity=hear, **{"threads": threads, **given})
        study = _study_of_one(data, config, ready, output)
        for trial in study.trials():
            there = claiming.checked(trial.directory)
            if there is not None:
                claiming.check_same(trial.directory, there, trial.config)
                early.check_begun(trial.directory)
        try_steps([config], taught(given), hear)
    pending = study.pending()
    if not dry_run:
        claiming.claim(study.directory, config)
    tell = _announced(study, pending, 1, dry_run, dry_run, output)
    if dry_run:
        return DONE
    if pending:
        record.note_command(study.directory, _command())
        with (
            stop_on_interrupt() as should_stop,
            display(pending, output.quiet) as show,
            redirect_stdout(sys.stderr),
        ):
            # Its user is there, and may try again.
            outcomes = in_this_process(pending, show, should_stop, again=False)
        for trial, outcome in zip(pending, outcomes, strict=True):
            if outcome.stopped:
                tell(f"interrupted: {trial.directory} is saved; {RESUME}")
                return INTERRUPTED
            if outcome.result is None:
                complain(f"{trial.directory} failed: {outcome.error}")
                return WRONG_INPUT if outcome.foreseen else FAILED
    showing.run(data, record.read(study.directory), tell, output)
    return DONE


def _study_of_one(data: str, config: RunConfig, ready: dict[str, Path], output: OutputOptions) -> Study:
    """A run and the teachers to be trained before it, in directories side by side."""
    out = output.out
    folder = out.parent if out else Path("runs")

    def place(run: RunConfig) -> Path:
        if out and run.trial_id == config.trial_id:
            return out
        return folder / f"{_slug(data)}-{_slug(run.model)}-{run.method}-s{run.seed}-{run.trial_id}"

    return study_of([config], place(config), ready, output.keep_checkpoints, place=place)


def _command() -> list[str]:
    return ["selftaught", *sys.argv[1:]]


def _slug(name: str) -> str:
    """A part of a directory's name: the end of a path, without what shells and file systems mind."""
    end = called(name).removeprefix("hf:").removeprefix("hub:")
    return re.sub(r"[^\w.-]+", "-", end).strip("-.")[-40:] or "data"


def teller(quiet: bool) -> Tell:
    """Says a line on stderr, or nothing."""
    return (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))
