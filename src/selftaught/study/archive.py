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

_LEFT_OUT = (folder.GRAPH, folder.STUDY)
"""They name commands with their paths; a study goes on without them."""

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
    written = 0
    for directory in found:
        run = record.read(directory)
        inside = target / folder.TRIALS / run.config.trial_id
        record.make_directory(inside)
        files = {name: record.read_bytes(directory / name) for name in KEPT if (directory / name).is_file()}
        if evidence.has_answers(run):
            files[record.ANSWERS] = evidence.packed_answers(run)
        # The result comes last: with it a trial counts as finished.
        for name in sorted(files, key=lambda name: name == record.RESULT):
            record.write(inside / name, files[name])
            written += len(files[name])
    too_large = []
    for path in sorted(path for pattern in _SHOWN for path in source.glob(pattern)):
        if path.name in _LEFT_OUT:
            continue
        if path.stat().st_size > LARGEST:
            too_large.append(path.name)
            continue
        content = record.read_bytes(path)
        record.write(target / path.name, content)
        written += len(content)
    return Archive(target, len(found), written, tuple(too_large))
