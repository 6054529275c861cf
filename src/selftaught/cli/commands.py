"""What the training commands do once their flags are read. Importing this imports torch."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from selftaught import objectives
from selftaught.cli import DONE, FAILED, INTERRUPTED, WRONG_INPUT
from selftaught.cli.interrupt import stop_on_interrupt
from selftaught.cli.options import OutputOptions, RunOptions
from selftaught.cli.progress import display
from selftaught.report import render
from selftaught.study import compare as studies
from selftaught.study.executor import in_this_process
from selftaught.study.plan import Trial, plan, split_methods
from selftaught.training import cost, record
from selftaught.training.config import RunConfig
from selftaught.training.environment import usable_cores
from selftaught.training.presets import data_of

MOST_THREADS = 4


def compare(
    data: str, methods: str, trials: int, jobs: int | None, options: RunOptions, output: OutputOptions
) -> int:
    """Plan, say what will be done, do it, show the table."""
    configs = plan(data, split_methods(methods), trials, **options.given())
    study = studies.make_study(
        configs,
        output.out or Path("runs") / f"compare-{_slug(data)}-{configs[0].model}-{configs[0].protocol_id}",
    )
    pending = study.pending()
    jobs, executor = studies.executor_for(pending, jobs)
    tell = _teller(output.quiet)
    for line in announcement(study, jobs):
        tell(line)
    with stop_on_interrupt() as should_stop, display(pending, output.quiet) as show:
        comparison = studies.run(study, executor, show, should_stop)
    if comparison.stopped:
        finished = len(study.trials) - len(study.pending())
        tell(f"interrupted: {finished} of {len(study.trials)} trials are finished and kept; {_RESUME}")
        return INTERRUPTED
    if output.as_json:
        print(json.dumps({"directory": str(study.directory), **studies.summary(comparison)}, indent=2))
    elif comparison.table is not None:
        console = Console()
        console.print(render.terminal(comparison.table))
        console.print(f"in {study.directory}: table.md, table.csv, comparison.json, trials/", highlight=False)
    for trial, error in comparison.failures:
        _complain(f"{trial.config.method} seed {trial.config.seed} ({trial.directory}) failed: {error}")
    return FAILED if comparison.failures else DONE


def train(data: str, method: str, options: RunOptions, output: OutputOptions) -> int:
    """One trial in this process."""
    # One run has the machine to itself; more threads than this only get in each other's way on small images.
    threads = min(usable_cores(), MOST_THREADS)
    [config] = plan(data, [method], trials=1, **{"threads": threads, **options.given()})
    default = f"{_slug(data)}-{config.model}-{method}-s{config.seed}-{config.trial_id}"
    trial = Trial(config, output.out or Path("runs") / default)
    record.claim(trial.directory, config)
    tell = _teller(output.quiet)
    for note in notes(config, [method]):
        tell(note)
    if record.is_finished(trial.directory):
        tell(f"{trial.directory} is finished already: nothing to train")
    with stop_on_interrupt() as should_stop, display([trial], output.quiet) as show:
        [outcome] = in_this_process([trial], show, should_stop)
    if outcome.stopped:
        tell(f"interrupted: {trial.directory} is saved; {_RESUME}")
        return INTERRUPTED
    if outcome.result is None:
        _complain(f"{trial.directory} failed: {outcome.error}")
        return WRONG_INPUT if outcome.foreseen else FAILED
    result = outcome.result
    if output.as_json:
        print(json.dumps({"directory": str(trial.directory), **result.model_dump(mode="json")}, indent=2))
    else:
        print(
            f"{method} on {data}, {config.model}, epochs {config.epochs}, seed {config.seed}: test accuracy "
            f"{100 * result.accuracy:.2f} %, NLL {result.nll:.3f}, ECE {100 * result.ece:.2f} %"
        )
        print(f"in {trial.directory}")
    return DONE


def bench(data: str, methods: str | None, options: RunOptions, as_json: bool) -> int:
    """Step times as a table."""
    chosen = split_methods(methods) if methods is not None else objectives.names()
    configs = plan(data, chosen, trials=1, **options.given())
    costs = cost.measure(configs)
    if as_json:
        print(json.dumps({c.method: {"seconds": c.seconds, "relative": c.relative} for c in costs}, indent=2))
        return DONE
    config = configs[0]
    caption = f"{data}, {config.model}, batch {config.batch_size}, {config.threads} threads, {config.device}"
    table = Table()
    table.add_column("method")
    table.add_column("ms per step", justify="right")
    table.add_column("× ce", justify="right")
    for c in costs:
        table.add_row(c.method, f"{1000 * c.seconds:.2f}", f"{c.relative:.2f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{caption}: medians over alternating steps on fresh batches")
    return DONE


def announcement(study: studies.Study, jobs: int) -> list[str]:
    """What a comparison is about to do."""
    config, kept = study.trials[0].config, len(study.trials) - len(study.pending())
    per_method = len(study.trials) // len(study.methods)
    images = data_of(config)
    lines = [
        f"comparing {', '.join(study.methods)} on {config.data} ({len(images.train_labels)} training and "
        f"{len(images.test_labels)} test images, {images.num_classes} classes)",
        f"{_count(len(study.trials), 'trial')} of {_count(config.epochs, 'epoch')} ({config.model}, "
        f"{per_method} per method), "
        + (f"{kept} of them finished already and kept, " if kept else "")
        + (f"{jobs} at a time on {config.device}, " if study.pending() else "")
        + f"in {study.directory}",
    ]
    return lines + notes(config, study.methods)


def notes(config: RunConfig, methods: list[str]) -> list[str]:
    """What a user should know about these methods on this data."""
    explained = [method for method in methods if "saliency" in objectives.settings(method)]
    if not explained or data_of(config).num_classes > 2:
        return []
    return [
        f"with two classes {method} equals label smoothing: a single wrong class leaves nothing to share out"
        for method in explained
    ]


_RESUME = "the same command goes on from here"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _slug(data: str) -> str:
    return data.strip("/").replace("/", "-") or "data"


def _teller(quiet: bool) -> Any:
    return (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))


def _complain(line: str) -> None:
    print(f"selftaught: error: {line}", file=sys.stderr)
