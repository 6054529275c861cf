"""What a study's numbers come from, small enough to be kept in git: everything but networks and logits."""

import os
from dataclasses import dataclass
from pathlib import Path

from selftaught.errors import InputError
from selftaught.report import evidence
from selftaught.study import folder
from selftaught.training import record

KEPT = (record.CONFIG, record.METRICS, record.RESULT)
"""The files of a trial that are copied as they are."""

_SHOWN = ("*.md", "*.csv", "*.json", "*.png")
"""What lies beside the trials and is copied: tables, figures, costs and measures."""

_REWRITTEN = (folder.GRAPH, folder.STUDY)
"""What names commands and errors, with paths of the machine they were on: these are left out."""

LARGEST = 2**20
"""Bytes beyond which a file is left out."""


@dataclass(frozen=True)
class Archive:
    """What was archived: how many finished trials, how many bytes they and the rest have, and what was too large."""

    directory: Path
    trials: int
    bytes: int
    too_large: tuple[str, ...] = ()


def archive(study: str | os.PathLike, out: str | os.PathLike) -> Archive:
    """Copy the records of a study's finished trials, and what was made of them.

    Of a trial its configuration, metrics and result are kept, and of its predictions one bit per image: right or
    wrong (`selftaught.report.evidence.packed_answers`). That is enough to make every table again, with its intervals,
    and for the study to go on there: what is archived counts as finished. The networks are not there to be used or to
    be learnt from.

    Args:
        study: the directory of a comparison or a reproduction.
        out: the directory to copy to; an earlier archive of the study is brought up to date.

    Raises:
        InputError: `study` is no study or has no finished trial, a file of it is damaged, or `out` is itself, holds
            something else or cannot be written.
    """
    source, target = Path(study), folder.checked(out)
    if not (source / folder.TRIALS).is_dir():
        raise InputError(f"{source} is not a study: it has no {folder.TRIALS}/; name the directory of one")
    if target.resolve() == source.resolve():
        raise InputError(f"{target} is the study itself: choose another --out")
    found = [path.parent for path in sorted((source / folder.TRIALS).glob(f"*/{record.RESULT}"))]
    if not found:
        raise InputError(f"{source} has no finished trial: there is nothing to archive yet")
    written = sum(_copy_trial(directory, target / folder.TRIALS) for directory in found)
    too_large = []
    for path in sorted(path for pattern in _SHOWN for path in source.glob(pattern)):
        if path.name in _REWRITTEN:
            continue
        if path.stat().st_size > LARGEST:
            too_large.append(path.name)
            continue
        content = record.read_bytes(path)
        record.write(target / path.name, content)
        written += len(content)
    _describe(source, target)
    return Archive(target, len(found), written, tuple(too_large))


def _copy_trial(directory: Path, trials: Path) -> int:
    """Copy what is kept of a trial; its size in bytes."""
    run = record.read(directory)
    inside = trials / run.config.trial_id
    record.make_directory(inside)
    files = {name: record.read_bytes(directory / name) for name in KEPT if (directory / name).is_file()}
    if evidence.has_answers(run):
        files[record.ANSWERS] = evidence.packed_answers(run)
    # The result comes last: with it a trial counts as finished.
    for name in sorted(files, key=lambda name: name == record.RESULT):
        record.write(inside / name, files[name])
    return sum(map(len, files.values()))


def _describe(source: Path, target: Path) -> None:
    """What the study says of itself, without commands and errors."""
    study, graph = folder.read_study(source), folder.read_graph(source)
    if study is not None:
        silent = [missing.model_copy(update={"error": None}) for missing in study.missing]
        nothing = {"command": (), "commands": (), "missing": tuple(silent)}
        folder.write_study(target, study.model_copy(update=nothing))
    if graph is not None:
        nodes = tuple(node.model_copy(update={"error": None}) for node in graph.nodes)
        folder.write_graph(target, graph.model_copy(update={"command": (), "nodes": nodes}))
