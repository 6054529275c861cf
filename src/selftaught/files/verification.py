"""Is every file of a run, a study or an archive what was written, and do its numbers follow from its predictions?"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from selftaught.activities import OnActivity, activity, nobody
from selftaught.errors import InputError
from selftaught.files import checkpoints, evidence, integrity, manifest, record, study_folder, trace
from selftaught.files.contents import remedy
from selftaught.files.reading import DamagedError, exists


@dataclass
class Checked:
    """What was looked at, and what is wrong.

    Attributes:
        directory: of the run, the study or the archive.
        runs: finished runs.
        unfinished: runs that were begun.
        files: files whose content was compared with a digest.
        unsealed: finished runs of older versions, whose results have no digest: of them only that was verified which
            can be computed again.
        faults: one for each file in which something is wrong.
    """

    directory: Path
    runs: int = 0
    unfinished: int = 0
    files: int = 0
    unsealed: int = 0
    faults: list[InputError] = field(default_factory=list)


def check(directory: str | os.PathLike, on_activity: OnActivity = nobody) -> Checked:
    """Verify everything in a directory; nothing is written.

    Raises:
        InputError: it holds neither a run nor a study.
    """
    found = Checked(Path(directory))
    if exists(found.directory / study_folder.TRIALS):
        _check_study(found, on_activity)
    elif any(exists(found.directory / name) for name in (record.CONFIG, record.RESULT, record.CHECKPOINT)):
        _check_run(found, found.directory)
    else:
        raise InputError(f"{found.directory} holds neither a run nor a study: name the directory of one")
    return found


def _check_study(found: Checked, on_activity: OnActivity) -> None:
    directory = found.directory
    found.files += sum(exists(directory / name) for name in (study_folder.STUDY, study_folder.GRAPH))
    described = _try(found, lambda: study_folder.read_study(directory))
    if not any(exists(directory / name) for name in (study_folder.STUDY, study_folder.GRAPH)):
        reason = f"it is missing, as is {study_folder.STUDY}: whether trials are missing too cannot be told"
        again = "the command that started the study writes it again"
        found.faults.append(DamagedError(directory / study_folder.GRAPH, reason, again))
    found.faults += _try(found, lambda: list(study_folder.missing(directory))) or ()
    _check_files(found)
    trials = sorted(
        path for path in (directory / study_folder.TRIALS).glob("*") if study_folder.is_trial(path)
    )
    runs: list[record.Record] = []
    with activity(on_activity, "looking at runs", len(trials)) as doing:
        for done, path in enumerate(trials, 1):
            run = _check_run(found, path)
            runs += [run] if run else []
            doing.advance(done)
    found.faults += integrity.same_labels(runs)
    absent = {trial.trial_id for trial in described.missing} if described else set()
    for trial in described.trials if described else ():
        if trial not in absent and not (directory / study_folder.TRIALS / trial).is_dir():
            path = directory / study_folder.TRIALS / trial
            found.faults.append(
                DamagedError(path, "it is missing", "the command of the study trains it again")
            )


def _check_files(found: Checked) -> None:
    """Tables, pages and costs."""
    faults = list(manifest.faults(found.directory))
    found.faults += faults
    if not any(fault.path.name == study_folder.MANIFEST for fault in faults):
        found.files += len(manifest.read(found.directory))
        if not any(fault.path.name == study_folder.COSTS for fault in faults):
            _try(found, lambda: study_folder.read_costs(found.directory))


def _check_run(found: Checked, directory: Path) -> record.Record | None:
    """Verify one run; the finished run, unless something is wrong with it."""
    before = len(found.faults)
    config = _try(found, lambda: record.read_config(directory))
    _try(found, lambda: record.read_commands(directory))
    if not record.is_finished(directory):
        found.unfinished += 1
        _try(found, lambda: _check_unfinished(directory))
        return None
    found.runs += 1
    result = _try(found, lambda: record.read_result(directory))
    if config is None or result is None:
        return None
    run = record.Record(directory, config, result)
    found.unsealed += result.digest is None
    found.files += len(integrity.kept(run)) + (result.digest is not None)
    found.faults += integrity.faults(run, network=True)
    if len(found.faults) == before:
        # What has a digest is what was written; what has none must at least be what a page can show.
        for read in (evidence.metrics, evidence.examples, lambda run: trace.read(run.directory)):
            _try(found, partial(read, run))
    return run if len(found.faults) == before else None


def _check_unfinished(directory: Path) -> None:
    path = directory / record.CHECKPOINT
    if exists(path):
        checkpoints.read(path)
    integrity.check_unfinished(directory)
    checkpoints.metrics(directory / record.METRICS, path, remedy(directory))


_Read = TypeVar("_Read")


def _try(found: Checked, read: Callable[[], _Read]) -> _Read | None:
    """What `read` gives; None where it says that something is wrong, which is noted."""
    try:
        return read()
    except InputError as fault:
        found.faults.append(fault)
        return None
