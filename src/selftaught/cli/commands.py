"""What the training commands do once their flags are read. Importing this imports torch.

stdout is for the result: whatever a network of the user's own prints meanwhile goes to stderr.
"""

import json
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rich.console import Console

from selftaught.cli import DONE, FAILED, INTERRUPTED, WRONG_INPUT, complain
from selftaught.cli.announcement import announcement, announcement_of_run, notes, outlook, planned
from selftaught.cli.inputs import with_teacher
from selftaught.cli.interrupt import stop_on_interrupt
from selftaught.cli.options import OutputOptions, RunOptions
from selftaught.cli.progress import display, reading_shown
from selftaught.report import carried, render
from selftaught.report.tables import called
from selftaught.study import compare as studies
from selftaught.study.estimate import StudyEstimate, estimate_study
from selftaught.study.executor import Event, Outcome, attempt
from selftaught.study.executors import check, executor_for
from selftaught.study.plan import Trial, plan, split_methods
from selftaught.training import record
from selftaught.training.config import RunConfig
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
    dry_run: bool,
    options: RunOptions,
    output: OutputOptions,
) -> int:
    """Plan, say what will be done, do it, show the table."""
    check(executor_name, jobs)
    with reading_shown(output.quiet), redirect_stdout(sys.stderr):
        given, ready = with_teacher(options.given())
        configs = plan(data, split_methods(methods), trials, **given)
    default = Path("runs") / f"compare-{_slug(data)}-{_slug(configs[0].model)}-{configs[0].protocol_id}"
    study = studies.make_study(configs, output.out or default, ready, output.keep_checkpoints)
    pending = study.pending()
    jobs, executor = executor_for(pending, jobs, executor_name)
    # What is asked for with --dry-run is the answer, not talk on the way to it.
    as_plan = dry_run and output.as_json
    tell = teller(quiet=True) if as_plan else print if dry_run else teller(output.quiet)
    for line in announcement(study, jobs):
        tell(line)
    estimate = None
    if pending and (dry_run or not output.quiet):
        with redirect_stdout(sys.stderr):
            estimate = estimate_study(study, jobs)
        for line in outlook(estimate, jobs):
            tell(line)
    if as_plan:
        print(json.dumps(_plan(study, jobs, estimate), indent=2))
    if dry_run:
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


def _plan(study: studies.Study, jobs: int, estimate: StudyEstimate | None) -> dict[str, Any]:
    """What a comparison would do, as plain values; `seconds` and `memory` (bytes) are what remains would take."""
    trials = (*study.teachers, *study.trials)
    images = data_of(study.trials[0].config)
    return {
        "directory": str(study.directory),
        "methods": study.methods,
        "classes": list(images.classes),
        "train": len(images.train_labels),
        "held_out": len(images.val_labels),
        "test": len(images.test_labels),
        "notes": notes(study.trials[0].config, study.methods),
        "trials": planned(trials, lambda trial: not record.is_finished(trial.directory)),
        "jobs": jobs,
        "seconds": estimate.seconds if estimate else 0.0,
        "memory": estimate.memory if estimate else 0,
    }


def train(data: str, method: str, options: RunOptions, output: OutputOptions) -> int:
    """One trial in this process."""
    # One run has the machine to itself; more threads than this only get in each other's way on small images.
    threads = min(usable_cores(), MOST_THREADS)
    with reading_shown(output.quiet), redirect_stdout(sys.stderr):
        given, ready = with_teacher(options.given())
        [config] = plan(data, [method], trials=1, **{"threads": threads, **given})
    *teachers, trial = _lineage(data, config, output, ready)
    record.claim(trial.directory, config)
    tell = teller(output.quiet)
    if record.is_finished(trial.directory):
        tell(f"{trial.directory} is finished already: nothing to train")
        result = record.read(trial.directory).result
    else:
        record.note_command(trial.directory, ["selftaught", *sys.argv[1:]])
        pending = [*(teacher for teacher in teachers if not record.is_finished(teacher.directory)), trial]
        for planned in pending:
            for line in announcement_of_run(planned):
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
    for line in carried.cautions([record.Record(trial.directory, config, result)]):
        tell(line)
    if output.as_json:
        print(json.dumps({"directory": str(trial.directory), **result.model_dump(mode="json")}, indent=2))
    else:
        print(
            f"{method} on {data}, {config.model}, epochs {config.epochs}, seed {config.seed}: test accuracy "
            f"{100 * result.accuracy:.2f} %, NLL {result.nll:.3f}, ECE {100 * result.ece:.2f} %"
            + (
                f" ({100 * result.ece_scaled:.2f} % after temperature scaling)"
                if result.ece_scaled is not None
                else ""
            )
        )
        print(f"in {trial.directory}")
    return DONE


def _one_by_one(
    trials: list[Trial], show: Callable[[Event], None], should_stop: Callable[[], bool]
) -> tuple[Trial, Outcome]:
    """How the first trial that came to no result ended, else the last; its user is there and may try again."""
    outcome = Outcome(stopped=True)
    for index, trial in enumerate(trials):
        show(Event(index))
        outcome = attempt(trial, lambda p, i=index: show(Event(i, progress=p)), should_stop)  # type: ignore[misc]
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


def report(runs: list[Path], out: Path) -> int:
    """The page about runs that are there."""
    from selftaught.report import study as pages

    for path in pages.write(runs, out):
        print(f"wrote {path}", file=sys.stderr)
    return DONE


def archive(study: Path, out: Path) -> int:
    """Copy the records of a study."""
    from selftaught.study.archive import archive as copy

    made = copy(study, out)
    for name in made.too_large:
        complain(f"{name} is left out: it is larger than 1 MB")
    without = f", without {made.unfinished} not finished" if made.unfinished else ""
    print(
        f"archived {made.trials} finished trials{without} in {made.directory}: {made.bytes / 1e6:.1f} MB",
        file=sys.stderr,
    )
    return DONE


RESUME = "the same command goes on from here"


def _slug(name: str) -> str:
    """A part of a directory's name: the end of a path, without what shells and file systems mind."""
    end = called(name).removeprefix("hf:").removeprefix("hub:")
    return re.sub(r"[^\w.-]+", "-", end).strip("-.")[-40:] or "data"


def teller(quiet: bool) -> Any:
    """Says a line on stderr, or nothing."""
    return (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))
