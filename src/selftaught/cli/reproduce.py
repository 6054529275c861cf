"""`selftaught reproduce`: the paper's tables and figures, ours beside theirs."""

import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rich.console import Console

from selftaught.activities import activity
from selftaught.cli import DONE, FAILED, INTERRUPTED, complain
from selftaught.cli.announcement import planned
from selftaught.cli.commands import RESUME, teller
from selftaught.cli.interrupt import stop_on_interrupt
from selftaught.cli.options import OutputOptions
from selftaught.cli.progress import display
from selftaught.report import paper_render
from selftaught.report.tables import called
from selftaught.study import paper_results
from selftaught.study.executors import executor_for
from selftaught.study.naming import names
from selftaught.study.reproduce import Cells, Reproduction, prepare
from selftaught.training.environment import check_device
from selftaught.training.run import Stopped


def reproduce(
    asked: list[str],
    budget: str,
    executor: str,
    jobs: int | None,
    dry_run: bool,
    tables_only: bool,
    variants: list[str],
    groups: list[str],
    options: dict[str, Any],
    output: OutputOptions,
) -> int:
    """Plan, train what is missing, show the tables."""
    begun = time.monotonic()
    given = {key: value for key, value in options.items() if value is not None}
    out = output.out or Path("runs") / f"paper-{budget}"
    study = prepare(asked, budget, out, given, ["selftaught", *sys.argv[1:]], variants, groups)
    study.keep_checkpoints = output.keep_checkpoints
    tell = teller(output.quiet)
    with redirect_stdout(sys.stderr), activity("planning the trials"):
        cells = study.cells()
    if dry_run and output.as_json:
        print(json.dumps(_plan(study, cells), indent=2))
        return DONE
    for line in _announcement(study, cells):
        (print if dry_run else tell)(line)
    if dry_run:
        return DONE
    with stop_on_interrupt() as should_stop, redirect_stdout(sys.stderr):
        while not tables_only and (pending := study.pending()):
            check_device(pending[0].config.device)  # only who trains needs it
            at_once, runner = executor_for(pending, jobs, executor)
            with display(pending, output.quiet) as show:
                if study.run(runner, show, should_stop, at_once):
                    tell(f"interrupted: what is finished is kept in {study.directory}; {RESUME}")
                    return INTERRUPTED
        facts = {"wall time of this command": f"{(time.monotonic() - begun) / 60:.1f} minutes"}
        try:
            results = paper_results.make(study, tell, should_stop, facts)
        except Stopped:
            tell(f"interrupted: the trials in {study.directory} are finished and kept; {RESUME}")
            return INTERRUPTED
    _show(study, results, output)
    trials = study.trials(study.cells())
    for trial, name in zip(trials, names(trials), strict=True):
        if error := study.failed.get(trial.config.trial_id):
            complain(f"{name} ({trial.directory}) failed: {error}")
    for problem in results.problems:
        complain(problem)
    return FAILED if study.failed or results.problems else DONE


def _announcement(study: Reproduction, cells: Cells) -> list[str]:
    trials = study.trials(cells)
    later = [recipe.name for recipe in study.recipes if recipe.name not in cells]
    sizes = sorted(
        {
            f"{called(c.data)}: {f'{c.train_size:,}' if c.train_size else 'all'} training images"
            f"{f' ({c.val_fraction:.0%} of them held out)' if c.val_fraction else ''}, {c.epochs} epochs"
            for c in (trial.config for trial in trials)
        }
    )
    lines = [
        f"reproducing {', '.join(recipe.name for recipe in study.recipes)} at budget {study.budget} "
        f"({'; '.join(sizes)})",
        f"{len(trials)} trials, {len(trials) - len(study.pending())} of them finished already and kept, in "
        f"{study.directory}",
    ]
    if later:
        lines.append(f"{', '.join(later)} follow{'s' * (len(later) == 1)} when the searches are done")
    part = "; all of it " if study.whole or "trials" in study.options else ", "
    return lines + [f"{r.name}: {r.title}{part}{getattr(r.expected, study.budget)}" for r in study.recipes]


def _plan(study: Reproduction, cells: Cells) -> dict[str, Any]:
    return {
        "directory": str(study.directory),
        "budget": study.budget,
        "recipes": {r.name: getattr(r.expected, study.budget) for r in study.recipes},
        "trials": planned(study.trials(cells), lambda trial: study.is_open(trial.config)),
    }


def _show(study: Reproduction, results: paper_results.Results, output: OutputOptions) -> None:
    if output.as_json:
        values = {
            "directory": str(study.directory),
            "budget": study.budget,
            "tables": [paper_render.values(table) for table in results.tables],
            "figures": [{"name": f.name, "title": f.title, "caption": f.caption} for f in results.figures],
            "failures": study.failed,
        }
        print(json.dumps(values, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    for table in results.tables:
        console.print(paper_render.Terminal(table))
        console.print()
    for figure in results.figures:
        console.print(f"{figure.title}\n{' '.join(figure.caption)}\n", markup=False)
    console.print(f"in {study.directory}: {', '.join(results.files)}, trials/", markup=False)
