"""What lies in a comparison's directory beside its trials: the names of the files, how they are written and read.

Nothing here imports torch, so that reports can be made from records alone.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from selftaught.errors import InputError
from selftaught.files import manifest, record, sealing
from selftaught.files.config import RunConfig
from selftaught.files.names import COSTS, GRAPH, MANIFEST, STUDY, TRIALS
from selftaught.files.reading import MOST_TEXT, DamagedError, exists
from selftaught.files.writing import is_a_file

__all__ = [
    "COSTS",
    "GRAPH",
    "MANIFEST",
    "REPORT",
    "STUDY",
    "SUMMARY",
    "TABLE",
    "TABLE_CSV",
    "TRIALS",
    "Graph",
    "Missing",
    "Node",
    "Start",
    "StudyFile",
    "TrialId",
    "checked",
    "compared",
    "is_trial",
    "missing",
    "read_costs",
    "read_graph",
    "read_study",
    "usable_costs",
    "write_costs",
    "write_graph",
    "write_study",
]

TABLE = "table.md"
TABLE_CSV = "table.csv"
SUMMARY = "comparison.json"
REPORT = "report.html"

_WRITES_IT = "the command that started the study writes it again"

_File = TypeVar("_File", bound=BaseModel)

_TRIAL = r"^[0-9a-f]{12}$"
TrialId = Annotated[str, StringConstraints(pattern=_TRIAL)]


def checked(out: str | os.PathLike) -> Path:
    """The directory of a study, which is looked at but not touched.

    Raises:
        InputError: it is a file, or holds something else.
    """
    directory = Path(out)
    if directory.exists() and not directory.is_dir():
        raise is_a_file(directory)
    names = sorted(path.name for path in directory.iterdir()) if directory.exists() else []
    strangers = [name for name in names if not name.startswith(".") and name != TRIALS]
    if (strangers and not _is_study(directory)) or (directory / TRIALS).is_file():
        raise InputError(
            f"{directory} is not empty and not a comparison ({[*strangers, TRIALS][0]}): choose another --out"
        )
    return directory


def _is_study(directory: Path) -> bool:
    """Whether a study wrote what lies there: somebody else's trials/ has no directories of such names."""
    told = any((directory / name).is_file() for name in (STUDY, GRAPH))
    return told or any(
        re.fullmatch(_TRIAL, path.parent.name) for path in directory.glob(f"{TRIALS}/*/{record.CONFIG}")
    )


class Start(BaseModel):
    """A command that started or resumed the comparison, and when it first did so, as an ISO date."""

    model_config = ConfigDict(frozen=True)

    command: tuple[str, ...]
    started: str = ""


class Missing(BaseModel):
    """A trial that was not finished when study.json was written; `error` says why it failed, None if it did not."""

    model_config = ConfigDict(frozen=True)

    trial_id: TrialId
    method: str
    seed: int
    error: str | None = None


class StudyFile(BaseModel):
    """What a comparison says of itself in study.json, so that a report can be made of it without the command.

    `methods` and `trials`, the directories in trials/, are in their order; `teachers` are the directories there of
    networks that some of them learn from. `command` and `started` are those of the
    last start; `commands` are all of them, absent in files of older versions.
    """

    model_config = ConfigDict(frozen=True)

    command: tuple[str, ...] = ()
    started: str = ""
    commands: tuple[Start, ...] = ()
    methods: tuple[str, ...]
    trials: tuple[TrialId, ...]
    teachers: tuple[TrialId, ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def starts(self) -> tuple[Start, ...]:
        """The commands, one after another; the same command typed again is there once."""
        if self.commands or not self.command:
            return self.commands
        return (Start(command=self.command, started=self.started),)


class Node(BaseModel):
    """A trial of a study as `selftaught status` shows it; `teacher` is the trial that has to be finished before."""

    model_config = ConfigDict(frozen=True)

    trial_id: TrialId
    name: str
    model: str
    method: str
    seed: int
    epochs: int
    teacher: TrialId | None = None
    error: str | None = None


class Graph(BaseModel):
    """The trials of a study and what waits for what, in graph.json; teachers come before their students.

    `budget` is that of a reproduction, "" for a comparison.
    """

    model_config = ConfigDict(frozen=True)

    title: str
    command: tuple[str, ...] = ()
    jobs: int = 1
    budget: str = ""
    nodes: tuple[Node, ...]


def read_graph(directory: Path) -> Graph | None:
    """The graph.json of a study, None where there is none.

    Raises:
        InputError: it cannot be read, or is damaged.
    """
    return _read(directory / GRAPH, Graph, _WRITES_IT)


def write_graph(directory: Path, graph: Graph) -> None:
    """Replace graph.json; with it a study has a list of digests."""
    manifest.write(directory, {})
    _write(directory / GRAPH, graph.model_dump())


def missing(directory: Path) -> Iterator[DamagedError]:
    """What a study must have beside the others: study.json, but for a reproduction, graph.json, and its digests.

    Raises:
        DamagedError: one that is there is not what was written.
    """
    graph = read_graph(directory)
    sealed = {name: _is_sealed(directory / name) for name in (STUDY, GRAPH)}
    if sealed[STUDY] and graph is None:
        yield DamagedError(directory / GRAPH, "it is missing", _WRITES_IT)
    if sealed[GRAPH] and graph is not None and not graph.budget and not exists(directory / STUDY):
        yield DamagedError(directory / STUDY, "it is missing", _WRITES_IT)
    if sealed[GRAPH] and not exists(directory / MANIFEST):  # with which a study begins
        yield DamagedError(directory / MANIFEST, "it is missing", _WRITES_IT)


def _is_sealed(path: Path) -> bool:
    """Whether a file is there and has a digest: older versions wrote neither that nor all of the others."""
    return exists(path) and sealing.KEY in sealing.read(path, None, _WRITES_IT)


def read_study(directory: Path) -> StudyFile | None:
    """The study.json of a comparison, None where there is none.

    Raises:
        InputError: it cannot be read, or is damaged.
    """
    remedy = f"remove it, and the report is about all finished trials in {TRIALS}/"
    return _read(directory / STUDY, StudyFile, remedy)


def write_study(directory: Path, study: StudyFile) -> None:
    """Replace study.json."""
    _write(directory / STUDY, study.model_dump())


def compared(directory: Path) -> list[Path]:
    """The directories of the trials that are compared: those that study.json names, else all but the teachers.

    Raises:
        InputError: a file cannot be read, or is damaged.
    """
    described, inside = read_study(directory), directory / TRIALS
    if described is not None:
        return [inside / trial for trial in described.trials]
    found = {path: _readable(path) for path in sorted(inside.glob("*")) if is_trial(path)}
    teachers = {config.teacher.trial_id for config in found.values() if config and config.teacher}
    return [path for path, config in found.items() if config is None or config.trial_id not in teachers]


def is_trial(path: Path) -> bool:
    """Whether a trial lies there, also one whose configuration is lost."""
    return (path / record.CONFIG).exists() or (
        re.fullmatch(_TRIAL, path.name) is not None and any(path.glob("*"))
    )


def _readable(trial: Path) -> RunConfig | None:
    try:
        return record.read_config(trial)
    except InputError:  # told by whoever reads the trial
        return None


def read_costs(directory: Path) -> dict[str, float]:
    """Relative step times by trial id; empty where none were measured.

    Raises:
        DamagedError: the file is not what was written, or gone; the steps can be measured again.
        InputError: the file cannot be read.
    """
    path, remedy = directory / COSTS, "remove it, and the command of the study measures again"
    if not exists(path) and COSTS not in manifest.read(directory):
        return {}
    try:
        costs = json.loads(manifest.content(directory, COSTS, MOST_TEXT))
        found = {str(trial): float(cost) for trial, cost in costs.items()}
    except DamagedError:
        raise
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise DamagedError(path, "it holds no costs", remedy) from None
    if not all(math.isfinite(cost) and cost > 0 for cost in found.values()):
        raise DamagedError(path, "one of its costs is none", remedy)
    return found


def usable_costs(directory: Path) -> dict[str, float]:
    """The same; of a damaged file nothing is used, so that what is missing is measured again."""
    try:
        return read_costs(directory)
    except DamagedError:
        return {}


def write_costs(directory: Path, costs: Mapping[str, float]) -> None:
    """Replace costs.json."""
    manifest.write(directory, {COSTS: (json.dumps(costs, indent=2) + "\n").encode()})


def _read(path: Path, kind: type[_File], remedy: str) -> _File | None:
    if not exists(path):
        return None
    try:
        # Not pydantic's own parser, which refuses the half characters that stand for bytes that are no text.
        return kind.model_validate(sealing.read(path, kind.model_fields, remedy))
    except ValidationError:
        raise DamagedError(path, "or it is of another version", remedy) from None


def _write(path: Path, values: Any) -> None:
    record.write(path, sealing.seal(values))
