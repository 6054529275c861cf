"""`selftaught bench`: what a step of each method costs on this machine. Importing this imports torch."""

import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from selftaught.cli import DONE
from selftaught.cli.busy import hear
from selftaught.cli.inputs import with_teacher
from selftaught.cli.options import RunOptions
from selftaught.files.config import RunConfig
from selftaught.study.demands import split_methods
from selftaught.study.flags import plan, plan_possible, taught, try_steps
from selftaught.training import cost


def bench(data: str, methods: str | None, options: RunOptions, as_json: bool) -> int:
    """Step times and peak memory of methods, by default of all that the network can be trained by, as a table."""
    # stdout is for the result, whatever a network of the user's own prints.
    with redirect_stdout(sys.stderr):
        given, _ = with_teacher(options.given())
        if methods is None:
            configs, impossible = plan_possible(data, hear, **given)
        else:
            configs, impossible = plan(data, split_methods(methods), trials=1, on_activity=hear, **given), {}
            try_steps(configs, taught(given), hear)
        for reason, left_out in _grouped(impossible).items():
            print(f"left out {', '.join(left_out)}: {reason}", file=sys.stderr)
        costs = cost.with_memory(cost.measure(configs, on_activity=hear), configs, hear)
    if as_json:
        print(json.dumps({c.method: asdict(c) for c in costs}, indent=2))
    else:
        _show(data, configs, costs)
    return DONE


def _grouped(impossible: dict[str, str]) -> dict[str, list[str]]:
    """The methods by what they lack.

    >>> _grouped({"kd": "kd needs a teacher", "at": "at needs a teacher", "takd": "takd needs an assistant"})
    {'needs a teacher': ['kd', 'at'], 'needs an assistant': ['takd']}
    """
    groups: dict[str, list[str]] = {}
    for method, reason in impossible.items():
        groups.setdefault(reason.removeprefix(f"{method} "), []).append(method)
    return groups


def _show(data: str, configs: list[RunConfig], costs: list[cost.StepCost]) -> None:
    table = Table()
    table.add_column("method")
    for column in ("ms per step", "× ce", "peak MB", "× ce"):
        table.add_column(column, justify="right")
    for c in costs:
        megabytes, ratio = (c.memory or 0) / 2**20, c.relative_memory or 0
        table.add_row(
            c.method, f"{1000 * c.seconds:.2f}", f"{c.relative:.2f}", f"{megabytes:.1f}", f"{ratio:.2f}"
        )
    config = configs[0]
    caption = f"{data}, {config.model}, batch {config.batch_size}, {config.threads} threads, {config.device}"
    caption += "".join(f", {name} {value}" for name, value in _chosen(configs).items())
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{caption}: medians over alternating steps on fresh batches")
    console.print("peak: the most that torch allocates for training, with weights, teacher and peer")


def _chosen(configs: list[RunConfig]) -> dict[str, str]:
    """What decides a method's cost and is not its name."""
    names = ("saliency", "refresh")
    found = {name: str(c.settings[name]) for c in configs for name in names if name in c.settings}
    teacher = next((c.teacher.model for c in configs if c.teacher is not None), None)
    return found if teacher is None else {**found, "teacher": teacher}
