"""`selftaught status`: how a study stands. Importing this does not import torch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from selftaught.activities import activity
from selftaught.cli import DONE
from selftaught.cli.busy import hear
from selftaught.errors import shown
from selftaught.files import study_status as studies
from selftaught.files.study_status import State, StudyStatus, TrialStatus

_STYLES: dict[State, str] = {
    "done": "green",
    "running": "bold cyan",
    "interrupted": "yellow",
    "waiting": "dim",
    "failed": "bold red",
}
"""On a terminal only: a pipe gets plain text."""


def status(directory: Path | None, as_json: bool) -> int:
    """Print how a study stands: each teacher above its students, and in the last line the sum.

    Args:
        directory: of the study; by default the newest one below ``runs``.
        as_json: print the same as JSON.

    Raises:
        InputError: there is no study, or one of its files is damaged.
    """
    with activity(hear, "reading the study"):
        found = studies.status(studies.newest() if directory is None else directory)
    if as_json:
        print(json.dumps(values(found), indent=2))
        return DONE
    console = Console(highlight=False, soft_wrap=True)
    console.print(shown(f"{found.title} in {found.directory}"), markup=False)
    tree = list(_tree(found.trials))
    width = max((2 * depth + len(shown(trial.node.name)) for depth, trial in tree), default=0)
    for depth, trial in tree:
        label = f"{'  ' * depth}{shown(trial.node.name)}".ljust(width)
        line = Text(f"{label}  ") + Text(f"{trial.state:<12}", style=_STYLES[trial.state]) + _details(trial)
        line.rstrip()
        console.print(line)
    console.print(Text(summary(found)))
    return DONE


def summary(found: StudyStatus) -> str:
    """The counts and the time left in one line."""
    counts = ", ".join(f"{count} {state}" for state, count in found.counts.items() if count)
    if not counts:
        return "no trials"
    line = f"{len(found.trials)} {'trial' if len(found.trials) == 1 else 'trials'}: {counts}"
    if found.seconds_left is None:
        return f"{line}; the time left is not known before the first epoch is done"
    return f"{line}; {duration(found.seconds_left)} of training left" if found.seconds_left else line


def values(found: StudyStatus) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "directory": str(found.directory),
        "title": found.title,
        "command": list(found.command),
        "jobs": found.jobs,
        "counts": found.counts,
        "seconds_left": found.seconds_left,
        "trials": [
            {
                **trial.node.model_dump(exclude={"epochs"}),
                "state": trial.state,
                "epochs": trial.epochs,
                "epochs_in_all": trial.node.epochs,
                "seconds": trial.seconds,
                "accuracy": trial.accuracy,
            }
            for trial in found.trials
        ],
    }


def duration(seconds: float) -> str:
    """About how long, in the two largest units.

    >>> [duration(seconds) for seconds in (0.2, 59, 61, 7260, 100_000)]
    ['1 s', '59 s', '1 min 1 s', '2 h 1 min', '1 d 3 h']
    """
    whole = max(1, round(seconds))
    sizes = (("d", whole // 86400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60))
    largest = next(position for position, (_, size) in enumerate(sizes) if size)
    return " ".join(f"{size} {unit}" for unit, size in sizes[largest : largest + 2] if size)


def _details(trial: TrialStatus) -> Text:
    node = trial.node
    if trial.state == "failed":
        return Text(shown(node.error))
    if trial.accuracy is not None:
        return Text(f"{100 * trial.accuracy:.2f} % on the test images")
    return Text(f"epoch {trial.epochs}/{node.epochs}" if trial.epochs or trial.state != "waiting" else "")


def _tree(trials: tuple[TrialStatus, ...]) -> Iterator[tuple[int, TrialStatus]]:
    """Depth and trial, each teacher before its students; a teacher from elsewhere is not shown."""
    ids = {trial.node.trial_id for trial in trials}
    students: dict[str | None, list[TrialStatus]] = {}
    for trial in trials:
        students.setdefault(trial.node.teacher if trial.node.teacher in ids else None, []).append(trial)
    waiting = [(0, trial) for trial in reversed(students.get(None, []))]
    while waiting:
        depth, trial = waiting.pop()
        yield depth, trial
        waiting.extend((depth + 1, student) for student in reversed(students.get(trial.node.trial_id, [])))
