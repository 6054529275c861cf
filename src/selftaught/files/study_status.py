"""How a study stands, from its graph.json and what its trials have written so far.

Nothing here imports torch, and nothing is written: one may look at a study while it runs, also at somebody else's.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from selftaught.errors import InputError
from selftaught.files import checkpoints, integrity, record, study_folder
from selftaught.files.reading import DamagedError, exists

State = Literal["done", "running", "interrupted", "waiting", "failed"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class TrialStatus:
    """How a trial stands: `epochs` are done and took `seconds`; `accuracy` on the test images once it is done, None if
    it held other images out.

    A trial that waits has not begun: it is not its turn, or its teacher is not done. An interrupted one has been
    saved, and nobody trains it now.
    """

    node: study_folder.Node
    state: State
    epochs: int = 0
    seconds: float = 0.0
    accuracy: float | None = None

    @property
    def open_epochs(self) -> int:
        """The epochs that are still to come; none for one that failed."""
        return 0 if self.state in ("done", "failed") else max(self.node.epochs - self.epochs, 0)


@dataclass(frozen=True)
class StudyStatus:
    """How a study stands; `seconds_left` is None while nothing is known of its speed."""

    directory: Path
    title: str
    command: tuple[str, ...]
    jobs: int
    trials: tuple[TrialStatus, ...]
    seconds_left: float | None

    @property
    def counts(self) -> dict[State, int]:
        """How many trials are in each state."""
        found = Counter(trial.state for trial in self.trials)
        return {state: found[state] for state in STATES}


def status(directory: str | os.PathLike) -> StudyStatus:
    """How the study in `directory` stands.

    The time left is that of training: the open epochs of each trial times the mean seconds per epoch of those with
    its model and method (of its model, of all, where there are none yet), shared out among the study's `jobs`, but
    no less than that of a trial with all that has to come before and after it.

    Raises:
        InputError: it is not a study, or one of its files is damaged or cannot be read.
    """
    directory = Path(directory)
    graph = study_folder.read_graph(directory)
    if graph is None:
        if exists(directory / study_folder.STUDY):
            remedy = "the command that started the study writes it again"
            raise DamagedError(directory / study_folder.GRAPH, "it is missing", remedy)
        raise InputError(
            f"{directory} is not a study: it has no {study_folder.GRAPH}; name the directory of one"
        )
    trials = tuple(_trial(node, directory / study_folder.TRIALS / node.trial_id) for node in graph.nodes)
    return StudyStatus(directory, graph.title, graph.command, graph.jobs, trials, _left(trials, graph.jobs))


def newest(runs: str | os.PathLike = "runs") -> Path:
    """The study below `runs`, at most two folders down, whose graph.json is the newest.

    Raises:
        InputError: there is none.
    """
    runs = Path(runs)
    patterns = ("", "*/", "*/*/")
    found = [
        path for pattern in patterns for path in runs.glob(pattern + study_folder.GRAPH) if path.is_file()
    ]
    if not found:
        raise InputError(f"there is no study below {runs}: name its directory")
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent


class _Line(BaseModel):
    """Of a line of metrics.jsonl, what counts here."""

    model_config = ConfigDict(allow_inf_nan=False)

    epoch: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]


def _trial(node: study_folder.Node, directory: Path) -> TrialStatus:
    if record.is_finished(directory):
        result = record.read(directory).result
        # Where held-out images are there to choose by, the test images are not told.
        accuracy = None if result.data.val else result.accuracy
        return TrialStatus(node, "done", result.epochs, result.seconds, accuracy)
    integrity.check_unfinished(directory)
    line = _last_line(directory)
    return TrialStatus(node, _state(node, directory), line.epoch, line.seconds)


def _state(node: study_folder.Node, directory: Path) -> State:
    """Of a trial that is not done. What ran last is what counts: one that failed may be trying again."""
    if _is_locked(directory / record.LOCK):
        return "running"
    if node.error is not None:
        return "failed"
    return "interrupted" if (directory / record.CHECKPOINT).exists() else "waiting"


def _last_line(directory: Path) -> _Line:
    """Of the epochs that a checkpoint vouches for: what a kill left after them will be trained again."""
    remedy = "the command that started the study writes it again"
    path = directory / record.METRICS
    lines = checkpoints.metrics(path, directory / record.CHECKPOINT, remedy).splitlines()
    try:
        return _Line.model_validate(json.loads(lines[-1])) if lines else _Line(epoch=0, seconds=0)
    except (ValidationError, ValueError, RecursionError):
        raise DamagedError(path, "a line is no JSON object", remedy) from None


def _is_locked(path: Path) -> bool:
    """Whether a process of any machine that shares the files holds the lock, see `claiming.locked`.

    It is tried with a shared lock, on a file that is opened for reading only: several may look at once, nothing is
    created, and it is given back at once, so that a run that starts meanwhile hardly ever meets it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows, where a file that is locked cannot be read
        return _is_unreadable(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}): make it readable") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise InputError(
            f"cannot tell if {path} is locked ({error.strerror}): look from another machine"
        ) from None
    finally:
        os.close(descriptor)
    return False


def _is_unreadable(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    return False


def _left(trials: Sequence[TrialStatus], jobs: int) -> float | None:
    """Seconds until the last trial is done; None if no trial has done an epoch yet."""
    if not any(trial.open_epochs for trial in trials):
        return 0.0
    if not any(trial.epochs for trial in trials):
        return None
    own = {trial.node.trial_id: trial.open_epochs * _pace(trial.node, trials) for trial in trials}
    teachers = {trial.node.trial_id: trial.node.teacher for trial in trials}
    chains = [_chain(trial_id, own, teachers) for trial_id in own]
    return max(sum(own.values()) / max(jobs, 1), *chains)


def _pace(node: study_folder.Node, trials: Sequence[TrialStatus]) -> float:
    """Seconds per epoch, from those most like it."""
    same_model = [trial for trial in trials if trial.node.model == node.model]
    same_method = [trial for trial in same_model if trial.node.method == node.method]
    return next(pace for pace in map(_mean, (same_method, same_model, trials)) if pace is not None)


def _mean(trials: Iterable[TrialStatus]) -> float | None:
    begun = [trial for trial in trials if trial.epochs]
    return sum(t.seconds for t in begun) / sum(t.epochs for t in begun) if begun else None


def _chain(trial_id: str | None, own: dict[str, float], teachers: dict[str, str | None]) -> float:
    """The time of a trial and of all before it; a teacher from elsewhere is done."""
    total, seen = 0.0, set()
    while trial_id in own and trial_id not in seen:
        seen.add(trial_id)
        total += own[trial_id]
        trial_id = teachers[trial_id]
    return total
