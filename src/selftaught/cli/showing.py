"""What a training command prints at its end: tables and figures, or one run's numbers, for people or as JSON."""

import json
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from selftaught.cli.options import OutputOptions
from selftaught.files import evidence
from selftaught.files.results import Record
from selftaught.report import balance, carried, paper_render, render
from selftaught.study.results import Comparison, Results, summary
from selftaught.study.studies import Study


def comparison(study: Study, made: Comparison, output: OutputOptions) -> Sequence[str]:
    """The table of a comparison, and where its files are."""
    if output.as_json:
        print(json.dumps({"directory": str(study.directory), **summary(made)}, indent=2))
    elif made.table is not None:
        # Into a file or a pipe the table goes whole.
        console = Console(width=None if sys.stdout.isatty() else 120)
        console.print(render.terminal(made.table))
        console.print(
            f"in {study.directory}: report.html, table.md, table.csv, comparison.json, trials/",
            highlight=False,
        )
    return ()


def reproduction(study: Study, made: Results, output: OutputOptions) -> Sequence[str]:
    """The tables and figures of recipes, and where their files are; returns what went wrong."""
    if output.as_json:
        values = {
            "directory": str(study.directory),
            "budget": study.budget,
            "tables": [paper_render.values(table) for table in made.tables],
            "figures": [{"name": f.name, "title": f.title, "caption": f.caption} for f in made.figures],
            "failures": study.failed,
        }
        print(json.dumps(values, indent=2))
        return made.problems
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    for table in made.tables:
        console.print(paper_render.Terminal(table))
        console.print()
    for figure in made.figures:
        console.print(f"{figure.title}\n{' '.join(figure.caption)}\n", markup=False)
    console.print(f"in {study.directory}: {', '.join(made.files)}, trials/", markup=False)
    return made.problems


def run(data: str, made: Record, tell: Callable[[str], None], output: OutputOptions) -> None:
    """The numbers of one run, after what has to be known of them."""
    config, result, classes = made.config, made.result, evidence.classes(made)
    uneven = balance.remark({config.method: [classes]}, result.data.classes)
    for line in (*carried.cautions([made]), *([uneven] if uneven else [])):
        tell(line)
    if output.as_json:
        print(json.dumps({"directory": str(made.directory), **result.model_dump(mode="json")}, indent=2))
        return
    scaled = (
        "" if result.ece_scaled is None else f" ({100 * result.ece_scaled:.2f} % after temperature scaling)"
    )
    print(
        f"{config.method} on {data}, {config.model}, epochs {config.epochs}, seed {config.seed}: test accuracy "
        f"{100 * result.accuracy:.2f} %{_beside(classes, uneven is not None)}, NLL {result.nll:.3f}, "
        f"ECE {100 * result.ece:.2f} %{scaled}"
    )
    print(f"in {made.directory}")


def _beside(classes: evidence.Classes, uneven: bool) -> str:
    """What stands beside a run's accuracy where that alone misleads, and where there are many classes."""
    values = {
        "balanced": classes.balanced_accuracy if uneven else None,
        "macro F1": classes.macro_f1 if uneven else None,
        "top-5": classes.top5_accuracy,
    }
    told = [f"{name} {100 * value:.2f} %" for name, value in values.items() if value is not None]
    return f" ({', '.join(told)})" if told else ""
