"""What the training commands do once their flags are read. Importing this imports torch.

stdout is for the result: whatever a network of the user's own prints meanwhile goes to stderr.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rich.console import Console

from selftaught.cli import DONE, FAILED, INTERRUPTED, WRONG_INPUT, complain, early
from selftaught.cli.announcement import announcement, announcement_of_run, notes, outlook, planned
from selftaught.cli.inputs import with_teacher
from selftaught.cli.interrupt import stop_on_interrupt
from selftaught.cli.options import OutputOptions, RunOptions
from selftaught.cli.progress import display
from selftaught.files import record
from selftaught.files.config import RunConfig
from selftaught.report import balance, carried, evidence, render
from selftaught.report.tables import called
from selftaught.study import compare as studies
from selftaught.study.demands import split_methods
from selftaught.study.estimate import StudyEstimate, estimate_trials
from selftaught.study.executor import Event, Outcome, attempt
from selftaught.study.executors import executor_for
from selftaught.study.plan import Trial, plan, with_probe
from selftaught.training.environment import usable_cores
from selftaught.training.presets import data_of
from selftaught.training.teaching import lineage

MOST_THREADS = 4


def compare(
    data: str,
    methods: str,
    trials: int,
    jobs: int | None,
    executor_name: str,
    probe: bool,
    dry_run: bool,
    options: RunOptions,
    output: OutputOptions,
) -> int:
    """Plan, say what will be done, do it, show the table."""
    with redirect_stdout(sys.stderr):
        given, ready = with_teacher(options.given())

        made: list[studies.Study] = []

        def make(configs: list[RunConfig]) -> None:
            default = (
                Path("runs") / f"compare-{_slug(data)}-{_slug(configs[0].model)}-{configs[0].protocol_id}"
            )
            made.append(studies.make_study(configs, output.out or default, ready, output.keep_checkpoints))
            for trial in made[0].pending():
                early.check_begun(trial.directory)

        asked = split_methods(methods)
        compared = with_probe(data, asked, **given) if probe else asked
        plan(data, compared, trials, on_resolved=make, **given)
    [study] = made
    pending = study.pending()
    jobs, executor = executor_for(pending, jobs, executor_name)
    tell = _teller_of_plan(dry_run, output)
    for line in announcement(study, jobs):
        tell(line)
    estimate = _outlook(pending, jobs, tell) if dry_run or not output.quiet else None
    if dry_run:
        if output.as_json:
            everything = (*study.teachers, *study.trials)
            print(json.dumps(_plan(study.directory, study.trials[0], everything, jobs, estimate), indent=2))
        return DONE
    with (
        stop_on_interrupt() as should_stop,
        display(pending, output.quiet) as show,
        redirect_stdout(sys.stderr),
    ):
        comparison = studies.run(study, executor, show, should_stop, ["selftaught", *sys.argv[1:]], jobs)
    if comparison.stopped:
        total = len(study.trials) + len(study.teachers)
        tell(f"interrupted: {total - len(study.pending())} of {total} trials are finished and kept; {RESUME}")
        return INTERRUPTED
    if output.as_json:
        print(json.dumps({"directory": str(study.directory), **studies.summary(comparison)}, indent=2))
    elif comparison.table is not None:
        # Into a file or a pipe the table goes whole.
        console = Console(width=None if sys.stdout.isatty() else 120)
        console.print(render.terminal(comparison.table))
        console.print(
            f"in {study.directory}: report.html, table.md, table.csv, comparison.json, trials/",
            highlight=False,
        )
    for trial, error in comparison.failures:
        complain(f"{trial.config.method} seed {trial.config.seed} ({trial.directory}) failed: {error}")
    return FAILED if comparison.failures else DONE


def _teller_of_plan(dry_run: bool, output: OutputOptions) -> Callable[[str], None]:
    """What is asked for with --dry-run is the answer, not talk on the way to it."""
    if dry_run:
        return teller(quiet=True) if output.as_json else print
    return teller(output.quiet)


def _outlook(pending: Sequence[Trial], jobs: int, tell: Callable[[str], None]) -> StudyEstimate | None:
    """Measure what these trials will take, and tell it; None where nothing is to be done."""
    if not pending:
        return None
    with redirect_stdout(sys.stderr):
        estimate = estimate_trials([trial.config for trial in pending], jobs)
    for line in outlook(estimate, jobs):
        tell(line)
    return estimate


def _plan(
    directory: Path, first: Trial, trials: Sequence[Trial], jobs: int, estimate: StudyEstimate | None
) -> dict[str, Any]:
    """What a command would do, as plain values; `seconds` and `memory` (bytes) are what remains would take.

    `first` is the first of the `trials` that is no teacher of another one.
    """
    compared = trials[trials.index(first) :]
    methods = list(dict.fromkeys(trial.config.method for trial in compared))
    images = data_of(first.config)
    return {
        "directory": str(directory),
        "methods": methods,
        "classes": list(images.classes),
        "train": len(images.train_labels),
        "held_out": len(images.val_labels),
        "test": len(images.test_labels),
        "notes": notes(first.config, methods),
        "trials": planned(trials, lambda trial: not record.is_finished(trial.directory)),
        "jobs": jobs,
        "seconds": estimate.seconds if estimate else 0.0,
        "memory": estimate.memory if estimate else 0,
    }


def train(data: str, method: str, dry_run: bool, options: RunOptions, output: OutputOptions) -> int:
    """One trial in this process; with `dry_run` only what it would be and take."""
    # One run has the machine to itself; more threads than this only get in each other's way on small images.
    threads = min(usable_cores(), MOST_THREADS)
    with redirect_stdout(sys.stderr):
        given, ready = with_teacher(options.given())

        trials: list[Trial] = []

        def place(configs: list[RunConfig]) -> None:
            trials.extend(_lineage(data, configs[0], output, ready))
            for trial in trials:
                there = record.checked(trial.directory)
                if there is not None:
                    record.check_same(trial.directory, there, trial.config)
                    early.check_begun(trial.directory)

        plan(data, [method], trials=1, on_resolved=place, **{"threads": threads, **given})
    trial = trials[-1]
    config = trial.config
    pending = [run for run in trials if not record.is_finished(run.directory)]
    if dry_run:
        return _dry_run(trials, pending, output)
    record.claim(trial.directory, config)
    tell = teller(output.quiet)
    if trial not in pending:
        tell(f"{trial.directory} is finished already: nothing to train")
        result = record.read(trial.directory).result
    else:
        record.note_command(trial.directory, ["selftaught", *sys.argv[1:]])
        for run in pending:
            for line in announcement_of_run(run):
                tell(line)
        with (
            stop_on_interrupt() as should_stop,
            display(pending, output.quiet) as show,
            redirect_stdout(sys.stderr),
        ):
            last, outcome = _one_by_one(pending, show, should_stop)
        if outcome.stopped:
            tell(f"interrupted: {last.directory} is saved; {RESUME}")
            return INTERRUPTED
        if outcome.result is None:
            complain(f"{last.directory} failed: {outcome.error}")
            return WRONG_INPUT if outcome.foreseen else FAILED
        result = outcome.result
    made = record.Record(trial.directory, config, result)
    classes = evidence.classes(made)
    uneven = balance.remark({method: [classes]}, result.data.classes)
    for line in (*carried.cautions([made]), *([uneven] if uneven else [])):
        tell(line)
    if output.as_json:
        print(json.dumps({"directory": str(trial.directory), **result.model_dump(mode="json")}, indent=2))
    else:
        print(
            f"{method} on {data}, {config.model}, epochs {config.epochs}, seed {config.seed}: test accuracy "
            f"{100 * result.accuracy:.2f} %{_beside(classes, uneven is not None)}, NLL {result.nll:.3f}, "
            f"ECE {100 * result.ece:.2f} %"
            + (
                f" ({100 * result.ece_scaled:.2f} % after temperature scaling)"
                if result.ece_scaled is not None
                else ""
            )
        )
        print(f"in {trial.directory}")
    return DONE


def _dry_run(trials: list[Trial], pending: list[Trial], output: OutputOptions) -> int:
    """Say what a run, the last of `trials`, and its teachers would be and take; nothing is written."""
    trial, tell = trials[-1], _teller_of_plan(True, output)
    for run in pending:
        for line in announcement_of_run(run):
            tell(line)
    if trial not in pending:
        tell(f"{trial.directory} is finished already: nothing to train")
        pending = []
    estimate = _outlook(pending, 1, tell)
    if output.as_json:
        print(json.dumps(_plan(trial.directory, trial, trials, 1, estimate), indent=2))
    return DONE


def _beside(classes: evidence.Classes, uneven: bool) -> str:
    """What stands beside a run's accuracy where that alone misleads, and where there are many classes."""
    values = {
        "balanced": classes.balanced_accuracy if uneven else None,
        "macro F1": classes.macro_f1 if uneven else None,
        "top-5": classes.top5_accuracy,
    }
    told = [f"{name} {100 * value:.2f} %" for name, value in values.items() if value is not None]
    return f" ({', '.join(told)})" if told else ""


def _one_by_one(
    trials: list[Trial], show: Callable[[Event], None], should_stop: Callable[[], bool]
) -> tuple[Trial, Outcome]:
    """How the first trial that came to no result ended, else the last; its user is there and may try again."""
    outcome = Outcome(stopped=True)
    for index, trial in enumerate(trials):
        show(Event(index))
        outcome = attempt(
            trial,
            lambda progress, i=index: show(Event(i, progress=progress)),  # type: ignore[misc]
            should_stop,
            on_activity=lambda now, i=index: show(Event(i, now=now)),  # type: ignore[misc]
        )
        show(Event(index, outcome=outcome))
        if outcome.result is None:
            return trial, outcome
    return trials[-1], outcome


def _lineage(data: str, config: RunConfig, output: OutputOptions, ready: dict[str, Path]) -> list[Trial]:
    """A run and the teachers to be trained before it, the first teacher first, all in directories side by side."""
    out = output.out
    folder = out.parent if out else Path("runs")
    trials: list[Trial] = []
    for run in lineage(config):
        if run.trial_id in ready:
            trials.clear()
            continue
        name = f"{_slug(data)}-{_slug(run.model)}-{run.method}-s{run.seed}-{run.trial_id}"
        directory = out if out and run is config else folder / name
        above = trials[-1].directory if trials else ready.get(run.teacher.trial_id) if run.teacher else None
        trials.append(Trial(run, directory, above, output.keep_checkpoints))
    return trials


RESUME = "the same command goes on from here"


def _slug(name: str) -> str:
    """A part of a directory's name: the end of a path, without what shells and file systems mind."""
    end = called(name).removeprefix("hf:").removeprefix("hub:")
    return re.sub(r"[^\w.-]+", "-", end).strip("-.")[-40:] or "data"


def teller(quiet: bool) -> Any:
    """Says a line on stderr, or nothing."""
    return (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))
