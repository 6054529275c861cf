"""A report on what lies in directories: comparisons, also unfinished ones, and single runs."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, StringConstraints, ValidationError

from selftaught.errors import InputError
from selftaught.report import page, render
from selftaught.report.tables import tabulate
from selftaught.training import record
from selftaught.training.record import Record

STUDY, TRIALS, COSTS = "study.json", "trials", "costs.json"

_OURS = {".html": b'<meta name="generator" content="selftaught', ".md": b"| method |", ".csv": b"method,"}
"""What a file of a report begins with or holds near its beginning: others are not overwritten."""


class StudyFile(BaseModel):
    """What a comparison says of itself in study.json: its command, its methods in order, its trials' directories."""

    command: tuple[str, ...] = ()
    methods: tuple[str, ...]
    trials: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")], ...]


@dataclass
class Found:
    """What a report is made of.

    Attributes:
        records: the finished trials.
        methods: their methods, in the order asked for when they were trained.
        costs: the time of a step relative to plain training, by method.
        commands: the commands that made them, where they are known.
        notes: what is missing, a line each.
    """

    records: list[Record] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)
    commands: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(directories: Sequence[Path]) -> Found:
    """The finished trials in directories, each of which is a comparison or a run.

    Raises:
        InputError: no directory, one that is neither, a run that is not finished, a damaged file, or no finished
            trial at all.
    """
    if not directories:
        raise InputError("there is nothing to report on: name a comparison's directory or run directories")
    found = Found()
    for directory in map(Path, directories):
        if (directory / TRIALS).is_dir():
            _add_comparison(found, directory)
        elif (directory / record.CONFIG).is_file():
            found.records.append(record.read(directory))
        else:
            what = (
                f"has neither {TRIALS}/ nor {record.CONFIG}" if directory.is_dir() else "is not a directory"
            )
            raise InputError(f"{directory} {what}: name the directory of a comparison or of a run")
    found.records = list({run.result.trial_id: run for run in found.records}.values())
    if not found.records:
        raise InputError(f"no trial in {directories[0]} is finished: the command that started it resumes it")
    others = sorted((run.config.method for run in found.records), key=lambda method: (method != "ce", method))
    found.methods = list(dict.fromkeys([*found.methods, *others]))
    return found


def write(directories: Sequence[Path], out: Path) -> list[Path]:
    """Write the report on `directories` to the file `out`, its table as Markdown and CSV beside it.

    Returns:
        The three files.

    Raises:
        InputError: as for `read` and `selftaught.report.page.html`, or `out` is no name for an HTML file, a
            directory, or would replace a file that is not part of a report.
        SelftaughtError: a file cannot be written.
    """
    out = Path(out)
    files = [out, out.with_suffix(".md"), out.with_suffix(".csv")]
    _check_writable(files)
    found = read(directories)
    table = tabulate(found.records, found.methods, found.costs)
    texts = (
        page.html(found.records, found.methods, found.costs, found.commands, found.notes),
        render.markdown(table),
        render.as_csv(table),
    )
    record.make_directory(out.parent)
    for path, text in zip(files, texts, strict=True):
        record.write(path, text.encode(errors="replace"))
    return files


def _add_comparison(found: Found, directory: Path) -> None:
    described = _study(directory)
    if described is None:
        trials = sorted(path.parent for path in (directory / TRIALS).glob(f"*/{record.CONFIG}"))
    else:
        trials = [directory / TRIALS / trial for trial in described.trials]
        found.methods += described.methods
        found.commands += [described.command] if described.command else []
    finished = [trial for trial in trials if record.is_finished(trial)]
    if len(finished) < len(trials):
        found.notes.append(
            f"{len(trials) - len(finished)} of {len(trials)} trials of {directory.name} are not finished: this report "
            "is about the others. The command that started the comparison resumes it."
        )
    records = [record.read(trial) for trial in finished]
    found.records += records
    costs = _costs(found, directory)
    for run in records:
        if run.result.trial_id in costs:  # as it was recorded: a newer version may name the trial differently
            found.costs.setdefault(run.config.method, costs[run.result.trial_id])


def _study(directory: Path) -> StudyFile | None:
    path = directory / STUDY
    if not path.is_file():
        return None
    try:
        return StudyFile.model_validate_json(path.read_bytes())
    except ValidationError:
        raise InputError(
            f"{path} is damaged: remove it, and the report is about all finished trials in {TRIALS}/"
        ) from None


def _costs(found: Found, directory: Path) -> dict[str, float]:
    """Relative step times by trial; they can be measured again, so that a damaged file only leaves them out."""
    path = directory / COSTS
    if not path.is_file():
        return {}
    try:
        costs = {trial: float(cost) for trial, cost in json.loads(path.read_bytes()).items()}
        if all(math.isfinite(cost) and cost > 0 for cost in costs.values()):
            return costs
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        pass
    found.notes.append(f"{COSTS} of {directory.name} is damaged: the time of a step is left out.")
    return {}


def _check_writable(files: Sequence[Path]) -> None:
    out = files[0]
    if out.is_dir():
        raise InputError(f"{out} is a directory: name a file in it, such as {out / 'report.html'}")
    if out.suffix != ".html":
        raise InputError(f"{out} is no name for an HTML file: call it {out.with_suffix('.html').name}")
    if out.parent.exists() and not out.parent.is_dir():
        raise InputError(f"{out.parent} is a file: choose another place for {out.name}")
    for path in files:
        if path.exists() and not _is_ours(path):
            raise InputError(f"{path} exists and is not part of a report: choose another name for {out.name}")


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _OURS[path.suffix] in file.read(500)
    except OSError as error:
        raise InputError(f"cannot replace {path}: {error.strerror}") from None
