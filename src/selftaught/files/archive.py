"""What a study's numbers come from, small enough to be kept in git: everything but networks and logits."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from selftaught.activities import OnActivity, activity, nobody
from selftaught.errors import InputError
from selftaught.files import answers, contents, integrity, manifest, record, study_folder
from selftaught.files.config import RunConfig
from selftaught.files.names import called
from selftaught.files.reading import DamagedError, leads_out
from selftaught.files.sealing import sha256

_SHOWN = ("*.md", "*.csv", "*.json", "*.png")
"""What lies beside the trials and is copied: tables, figures, costs and measures."""

_DESCRIBED = (study_folder.GRAPH, study_folder.STUDY, study_folder.MANIFEST)
"""What is written anew, without commands and with the digests of what is copied."""

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

    `unfinished` is the number of trials that the study is to have and that are not there.
    """

    directory: Path
    trials: int
    bytes: int
    unfinished: int = 0
    too_large: tuple[str, ...] = ()


def archive(study: str | os.PathLike, out: str | os.PathLike, on_activity: OnActivity = nobody) -> Archive:
    """Copy the records of a study's finished trials, and what was made of them.

    Of a trial its configuration, metrics and result are kept, and of its predictions, image by image, whether they are
    right, NLL, Brier score and confidence (`selftaught.files.answers`). That is enough to make every table again, with
    its intervals; figures of maps and whatever learns from one of the networks need those. Of paths only the last part
    is kept, and no command. All that is read is verified, and what is written has digests.

    Args:
        study: the directory of a comparison or a reproduction.
        out: the directory to copy to; an earlier archive of the study is brought up to date.
        on_activity: hears how far it has come.

    Raises:
        InputError: `study` is no study or has no finished trial, one is damaged, or `out` is or lies in it, holds
            something else, a study with its networks or trials that `study` has not, or cannot be written.
    """
    source, target = Path(study), study_folder.checked(out)
    if not (source / study_folder.TRIALS).is_dir():
        raise InputError(
            f"{source} is not a study: it has no {study_folder.TRIALS}/; name the directory of one"
        )
    if target.resolve() == source.resolve():
        raise InputError(f"{target} is the study itself: choose another --out")
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{target} lies in the study: choose an --out beside it")
    _check_links(source)
    found = [path.parent for path in sorted((source / study_folder.TRIALS).glob(f"*/{record.RESULT}"))]
    if not found:
        raise InputError(f"{source} has no finished trial: there is nothing to archive yet")
    runs = []
    with activity(on_activity, "looking at runs", len(found)) as doing:
        for directory in found:
            runs.append(record.read(directory))  # before anything is written
            doing.advance(len(runs))
    _check_target(target, runs)
    for trial in (source / study_folder.TRIALS).glob("*"):
        integrity.check_unfinished(trial)
    for fault in (*integrity.same_labels(runs), *study_folder.missing(source), *manifest.faults(source)):
        raise fault
    written = sum(_copy_trial(run, target / study_folder.TRIALS) for run in runs)
    shown, too_large = _shown(source)
    manifest.write(target, shown)
    _describe(source, target)
    unfinished = len(_begun(source) - {run.config.trial_id for run in runs})
    return Archive(target, len(runs), written + sum(map(len, shown.values())), unfinished, too_large)


def _check_links(source: Path) -> None:
    """Refuse a link out of the study: what it points to is nobody's business to whom the archive is given."""
    trials = source / study_folder.TRIALS
    inside = [path for path in trials.glob("*") if path.is_symlink() or path.is_dir()]
    files = [path for trial in inside for path in trial.glob("*")]
    shown = [path for pattern in _SHOWN for path in source.glob(pattern)]
    for path in (trials, *inside, *files, *shown):
        if leads_out(path, source):
            raise DamagedError(
                path, "it is a link out of the study", "replace it by what it points to, or remove it"
            )


def _shown(source: Path) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The tables and figures of a study without paths, by name, and the names of those that are too large."""
    files, too_large = {}, []
    for path in sorted(path for pattern in _SHOWN for path in source.glob(pattern)):
        if path.name in _DESCRIBED:
            continue
        if path.is_file() and path.stat().st_size > LARGEST:
            too_large.append(path.name)
            continue
        content = manifest.content(source, path.name)
        if path.suffix != ".png":
            content = without_paths(content.decode(errors="replace")).encode()
        files[path.name] = content
    return files, tuple(too_large)


def _begun(source: Path) -> set[str]:
    """The trials that are there, finished or not, and those that the study is to have."""
    graph = study_folder.read_graph(source)
    there = {path.name for path in (source / study_folder.TRIALS).glob("*") if study_folder.is_trial(path)}
    return there | {node.trial_id for node in graph.nodes} if graph else there


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
    for directory in sorted((target / study_folder.TRIALS).glob("*")):
        if any(
            (directory / name).exists() for name in (record.WEIGHTS, record.CHECKPOINT, record.PREDICTIONS)
        ):
            raise InputError(f"{target} is a study itself, with its networks: choose another --out")
        if directory.name not in known:
            raise InputError(
                f"{target} has the trial {directory.name}, which the study has not: choose another --out"
            )


def _copy_trial(run: record.Record, trials: Path) -> int:
    """Copy what is kept of a trial, the result last: with it a trial counts as finished. Its size in bytes."""
    inside = trials / run.config.trial_id
    record.make_directory(inside)
    files = {record.CONFIG: record.config_content(_nameless(run.config))}
    if answers.has_answers(run):
        files[record.ANSWERS] = answers.pack(run)
    if (run.directory / record.METRICS).exists():
        files[record.METRICS] = contents.content(run, record.METRICS)
    digests = {name: sha256(content, name) for name, content in files.items()}
    # Those of networks and predictions stay, where it can be told that these are left out on purpose.
    others = run.result.sha256 if record.ANSWERS in files else {}
    files[record.RESULT] = record.result_content(
        run.result.model_copy(update={"sha256": dict(sorted({**others, **digests}.items()))})
    )
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
    study, graph = study_folder.read_study(source), study_folder.read_graph(source)
    if study is not None:
        missing = tuple(
            m.model_copy(update={"error": m.error and without_paths(m.error)}) for m in study.missing
        )
        changes = {"command": (), "commands": (), "missing": missing}
        study_folder.write_study(target, study.model_copy(update=changes))
    if graph is not None:
        nodes = tuple(n.model_copy(update={"error": n.error and without_paths(n.error)}) for n in graph.nodes)
        title = without_paths(graph.title)
        study_folder.write_graph(
            target, graph.model_copy(update={"title": title, "command": (), "nodes": nodes})
        )
