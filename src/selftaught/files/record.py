"""The files of a run: their names, how they are written so that a kill leaves no half file, how they are read.

Nothing here imports torch, so that reports can be made from records alone.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from selftaught.errors import InputError
from selftaught.files import integrity, sealing
from selftaught.files.config import RunConfig
from selftaught.files.contents import remedy
from selftaught.files.names import (
    ANSWERS,
    CHECKPOINT,
    COMMANDS,
    CONFIG,
    EXAMPLES,
    LOCK,
    METRICS,
    MODEL,
    PREDICTIONS,
    RESULT,
    SOURCE,
    WEIGHTS,
)
from selftaught.files.reading import MOST_TEXT, DamagedError, exists, read_bytes
from selftaught.files.results import DataSummary, LearningPoint, Record, Result, SoftLabels
from selftaught.files.writing import make_directory, write

__all__ = [
    "ANSWERS",
    "CHECKPOINT",
    "COMMANDS",
    "CONFIG",
    "EXAMPLES",
    "LOCK",
    "METRICS",
    "MODEL",
    "PREDICTIONS",
    "RESULT",
    "SOURCE",
    "WEIGHTS",
    "DataSummary",
    "LearningPoint",
    "Record",
    "Result",
    "SoftLabels",
    "config_content",
    "is_finished",
    "make_directory",
    "metrics_content",
    "note_command",
    "read",
    "read_bytes",
    "read_commands",
    "read_config",
    "read_result",
    "result_content",
    "write",
    "write_metrics",
    "write_result",
]


def read(directory: str | os.PathLike) -> Record:
    """The record of the finished run in `directory`, all of which is what was written.

    Its files, but for those that only a network is built from, have the digests that its result tells, and its numbers
    follow from its predictions (`selftaught.files.integrity`).

    Raises:
        DamagedError: a file is missing, or not what was written.
        InputError: there is no finished run, or a file cannot be read.
    """
    directory = Path(directory)
    return integrity.unchanged(directory, lambda: _verified(directory))


def _verified(directory: Path) -> Record:
    config = read_config(directory)
    if config is None:
        raise InputError(f"{directory} is not a run directory: it has no {CONFIG}")
    if not is_finished(directory):
        integrity.check_unfinished(directory)
        raise InputError(f"the run in {directory} is not finished: the command that started it resumes it")
    found = Record(directory, config, read_result(directory))
    for fault in integrity.faults(found):
        raise fault
    return found


def read_result(directory: Path) -> Result:
    """What the run in `directory` came to, by its own words alone."""
    path, help = directory / RESULT, remedy(directory)
    values = sealing.read(path, Result.model_fields, help)
    try:
        return Result.model_validate_json(json.dumps(values))
    except ValidationError:
        raise DamagedError(path, "or it is of another version", help) from None


def read_config(directory: Path) -> RunConfig | None:
    """The configuration of the run in `directory`, None where there is no run.

    Raises:
        DamagedError: it is no configuration, or missing from what is a run.
        InputError: it cannot be read.
    """
    path, help = directory / CONFIG, remedy(directory)
    if not exists(path):
        if exists(directory / METRICS) and (exists(directory / RESULT) or exists(directory / CHECKPOINT)):
            raise DamagedError(path, "it is missing", help)
        return None
    try:
        return RunConfig.model_validate_json(read_bytes(path, MOST_TEXT, help))
    except ValidationError:
        raise DamagedError(path, "or it is of another version", help) from None


def is_finished(directory: Path) -> bool:
    """Whether the run came to its end; `result.json` is the last file that a run writes."""
    return exists(directory / RESULT)


def note_command(directory: Path, command: Sequence[str]) -> None:
    """Keep what the user typed, for the report; the same command typed again is kept once."""
    try:
        known = [list(one) for one in read_commands(directory)]
    except InputError:
        known = []  # damaged: it is only for people to read
    if list(command) not in known:
        write(directory / COMMANDS, sealing.seal({"commands": [*known, list(command)]}))


class _Commands(BaseModel):
    """command.json."""

    commands: tuple[tuple[str, ...], ...]


def read_commands(directory: Path) -> tuple[tuple[str, ...], ...]:
    """The commands that made a run, where it was made by one.

    Raises:
        DamagedError: the file is not what was written.
    """
    path = directory / COMMANDS
    if not exists(path):
        return ()
    help = "remove it, and the command of the run is left out"
    try:
        return _Commands.model_validate(sealing.read(path, _Commands.model_fields, help)).commands
    except ValidationError:
        raise DamagedError(path, "it holds no commands", help) from None


def config_content(config: RunConfig) -> bytes:
    """A configuration as it is written."""
    return (config.model_dump_json(indent=2) + "\n").encode()


def metrics_content(lines: Iterable[dict[str, Any]]) -> bytes:
    """One JSON object per epoch."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def write_metrics(directory: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per epoch."""
    write(directory / METRICS, metrics_content(lines))


def result_content(result: Result) -> bytes:
    """A result as it is written, with its own digest."""
    return sealing.seal(result.model_dump(mode="json", exclude={sealing.KEY}))


def write_result(directory: Path, result: Result) -> Result:
    """Write the last file of a run; returns the result with its digest."""
    content = result_content(result)
    write(directory / RESULT, content)
    return Result.model_validate_json(content)
