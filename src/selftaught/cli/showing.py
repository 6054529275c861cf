"""What a training command prints at its end: tables and figures, or one run's numbers, for people or as JSON."""

import json
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console

from selftaught.cli.options import OutputOptions
from selftaught.files import evidence
from selftaught.files.results import Record
from selftaught.report import build, sentences
from selftaught.study.finishing import Results
from selftaught.study.studies import Study


def study(made: Results, of: Study, output: OutputOptions) -> None:
    """The tables and figures of a study, and where their files are."""
    if output.as_json:
        print(json.dumps({"directory": str(of.directory), **_values(made, of)}, indent=2))
        return
    # Into a file or a pipe tables go whole.
    console = Console(width=None if sys.stdout.isatty() else 200 if of.budget else 120, highlight=False)
    for table in made.tables:
        console.print(build.Terminal(table))
        console.print()
    for figure in made.figures:
        console.print(f"{figure.title}\n{' '.join(figure.caption)}\n", markup=False)
    if made.files:
        console.print(f"in {of.directory}: {', '.join(made.files)}, trials/", markup=False)


def _values(made: Results, of: Study) -> dict[str, Any]:
    if not of.budget:
        return {**(build.values(made.table) if made.table else {}), **made.more}
    return {
        "budget": of.budget,
        "tables": [build.values(table) for table in made.tables],
        "figures": [{"name": f.name, "title": f.title, "caption": f.caption} for f in made.figures],
        "failures": of.failed,
    }


def run(data: str, made: Record, tell: Callable[[str], None], output: OutputOptions) -> None:
    """The numbers of one run, after what has to be known of them."""
    config, result, classes = made.config, made.result, evidence.classes(made)
    uneven = sentences.classes({config.method: [classes]}, result.data.classes)
    for line in filter(None, (sentences.soft_labels_of([made], config.method), uneven)):
        tell(line)
    if output.as_json:
        print(json.dumps({"directory": str(made.directory), **result.model_dump(mode="json")}, indent=2))
        return
    scaled = (
        "" if result.ece_scaled is None else f" ({100 * result.ece_scaled:.2f} % after temperature scaling)"
    )
    print(
        f"{config.method} on {data}, {config.model}, epochs {config.epochs}, seed {config.seed}: test accuracy "
        f"{100 * result.accuracy:.2f} %{_beside(classes, bool(uneven))}, NLL {result.nll:.3f}, "
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
