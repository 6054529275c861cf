"""What a study's numbers come from, small enough to be kept in git: everything but networks and logits."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from selftaught.errors import InputError
from selftaught.report import evidence
from selftaught.report.tables import called
from selftaught.study import folder
from selftaught.training import record
from selftaught.training.config import RunConfig

_TRIAL = (record.METRICS, record.RESULT)
"""The files of a trial that are copied as they are; the result last: with it a trial counts as finished."""

_SHOWN = ("*.md", "*.csv", "*.json", "*.png")
"""What lies beside the trials and is copied: tables, figures, costs and measures."""

_DESCRIBED = (folder.GRAPH, folder.STUDY)
"""What names the commands as well: it is written anew, without them."""

_MARKS = r"/:;,'\"()\[\]|\\"
"""What ends a path in a text, or the name of a folder in a path."""

_PART = rf"[^\s{_MARKS}](?:[^\n\t{_MARKS}]*[^\s{_MARKS}])?"
"""The name of a folder, which may have spaces in it but neither begins nor ends with one."""

_PATH = re.compile(rf"(?<![\w.])(?:~|\.{{0,2}})/(?:{_PART}/)*(?=[^\s{_MARKS}])")
"""Everything of a path but its last part."""

LARGEST = 2**20
"""Bytes beyond which a table or figure is left out."""


@dataclass(frozen=True)
class Archive:
    """What was archived: how many finished trials, how many bytes they and the rest have, and what was too large.

    `unfinished` is the number of trials that were begun and are not there.
    """

    directory: Path
    trials: int
    bytes: int
    unfinished: int = 0
    too_large: tuple[str, ...] = ()


def archive(study: str | os.PathLike, out: str | os.PathLike) -> Archive:
    """Copy the records of a study's finished trials, and what was made of them.

    Of a trial its configuration, metrics and result are kept, and of its predictions one bit per image: right or
    wrong (`selftaught.report.evidence.packed_answers`). That is enough to make every table again, with its intervals;
    calibration plots, figures of maps and whatever learns from one of the networks need those. Of paths only the last
    part is kept, and no command.

    Args:
        study: the directory of a comparison or a reproduction.
        out: the directory to copy to; an earlier archive of the study is brought up to date.

    Raises:
        InputError: `study` is no study or has no finished trial, one is damaged, or `out` is or lies in it, holds
            something else, a study with its networks or trials that `study` has not, or cannot be written.
    """
    source, target = Path(study), folder.checked(out)
    if not (source / folder.TRIALS).is_dir():
        raise InputError(f"{source} is not a study: it has no {folder.TRIALS}/; name the directory of one")
    if target.resolve() == source.resolve():
        raise InputError(f"{target} is the study itself: choose another --out")
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{target} lies in the study: choose an --out beside it")
    found = [path.parent for path in sorted((source / folder.TRIALS).glob(f"*/{record.RESULT}"))]
    if not found:
        raise InputError(f"{source} has no finished trial: there is nothing to archive yet")
    runs = [record.read(directory) for directory in found]  # before anything is written
    _check_target(target, runs)
    written = sum(_copy_trial(run, target / folder.TRIALS) for run in runs)
    too_large = []
    for path in sorted(path for pattern in _SHOWN for path in source.glob(pattern)):
        if path.name in _DESCRIBED:
            continue
        if path.stat().st_size > LARGEST:
            too_large.append(path.name)
            continue
        content = record.read_bytes(path)
        if path.suffix != ".png":
            content = without_paths(content.decode(errors="replace")).encode()
        record.write(target / path.name, content)
        written += len(content)
    _describe(source, target)
    begun = len(list((source / folder.TRIALS).glob(f"*/{record.CONFIG}")))
    return Archive(target, len(runs), written, begun - len(runs), tuple(too_large))


def without_paths(text: str) -> str:
    """A text in which of every path the last part alone is left.

    >>> without_paths("failed: cannot read /home/me/photos/a.png: it is no picture; 1/2 done, see ~/notes")
    'failed: cannot read a.png: it is no picture; 1/2 done, see notes'
    >>> without_paths("/home/John Smith/a.png or /data/b.png: 1 / 2")
    'a.png or b.png: 1 / 2'
    """
    return _PATH.sub("", text)


def _check_target(target: Path, runs: list[record.Record]) -> None:
    """Refuse to write into what is not an archive of these runs."""
    known = {run.config.trial_id for run in runs}
    for directory in sorted((target / folder.TRIALS).glob("*")):
        if any(
            (directory / name).exists() for name in (record.WEIGHTS, record.CHECKPOINT, record.PREDICTIONS)
        ):
            raise InputError(f"{target} is a study itself, with its networks: choose another --out")
        if directory.name not in known:
            raise InputError(
                f"{target} has the trial {directory.name}, which the study has not: choose another --out"
            )


def _copy_trial(run: record.Record, trials: Path) -> int:
    """Copy what is kept of a trial; its size in bytes."""
    inside = trials / run.config.trial_id
    record.make_directory(inside)
    files = {record.CONFIG: (_nameless(run.config).model_dump_json(indent=2) + "\n").encode()}
    if evidence.has_answers(run):
        files[record.ANSWERS] = evidence.packed_answers(run)
    files |= {
        name: record.read_bytes(run.directory / name) for name in _TRIAL if (run.directory / name).is_file()
    }
    for name, content in files.items():
        record.write(inside / name, content)
    return sum(map(len, files.values()))


def _nameless(config: RunConfig) -> RunConfig:
    """The configuration without the folders that data and model lie in; its trial is the same."""
    teacher = config.teacher and _nameless(config.teacher)
    return config.model_copy(
        update={"data": called(config.data), "model": called(config.model), "teacher": teacher}
    )


def _describe(source: Path, target: Path) -> None:
    """What the study says of itself, without commands and paths."""
    study, graph = folder.read_study(source), folder.read_graph(source)
    if study is not None:
        missing = tuple(
            m.model_copy(update={"error": m.error and without_paths(m.error)}) for m in study.missing
        )
        changes = {"command": (), "commands": (), "missing": missing}
        folder.write_study(target, study.model_copy(update=changes))
    if graph is not None:
        nodes = tuple(n.model_copy(update={"error": n.error and without_paths(n.error)}) for n in graph.nodes)
        title = without_paths(graph.title)
        folder.write_graph(target, graph.model_copy(update={"title": title, "command": (), "nodes": nodes}))
