"""Who runs the trials: this process, or several on this machine, or the machines of a cluster.

An executor is any function of the `Executor` signature; the others are in `processes` and `ray_cluster`. A trial is
a configuration, a directory and perhaps its teacher's directory, and nothing else, so it can be sent anywhere.
"""

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from selftaught.errors import SelftaughtError
from selftaught.events import Busy, OnEvent, Outcome, Progressed
from selftaught.files import record
from selftaught.study.queue import Queue
from selftaught.study.trials import Trial
from selftaught.training.run import Stopped, train

ERROR = "error.txt"

LOCK_SECONDS = 10.0
"""How long a trial waits for another process to be done with its directory."""


class Executor(Protocol):
    """Runs every trial, teachers before their students, and returns once nothing runs any more.

    Keeps going when one fails, and tries that one once more (`Queue` says when). After `should_stop` says yes no
    trial is started and the running ones are saved. Returns an outcome per trial, in order.
    """

    def __call__(
        self, trials: Sequence[Trial], on_event: OnEvent, should_stop: Callable[[], bool]
    ) -> list[Outcome]:
        """Run the trials."""


def in_this_process(
    trials: Sequence[Trial],
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    again: bool = True,
) -> list[Outcome]:
    """The trials one after another, here; what failed is tried once more, if `again`."""
    queue = Queue(trials, on_event, again)
    while not should_stop() and (index := queue.take()) is not None:
        queue.begin(index)
        queue.end(index, attempt(index, trials[index], on_event, should_stop))
    return queue.outcomes


def attempt(
    index: int,
    trial: Trial,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    patience: float = LOCK_SECONDS,
) -> Outcome:
    """Run one trial; whatever goes wrong becomes its outcome, so that the other trials go on.

    Where another process trains there its end is waited for, `patience` seconds at most: after a kill a worker may
    still be about to notice that it is an orphan. `on_event` hears, under the number `index`, how the trial gets on.
    """
    _wait_for_lock(trial.directory, patience, should_stop)
    more: dict[str, Any] = {} if trial.teacher is None else {"teacher": trial.teacher}
    if trial.keep_checkpoint:
        more["keep_checkpoint"] = True
    try:
        result = train(
            trial.config,
            trial.directory,
            lambda progress: on_event(Progressed(index, progress)),
            should_stop,
            on_activity=lambda now: on_event(Busy(index, now)),
            **more,
        )
    except Stopped:
        return Outcome(stopped=True)
    except SelftaughtError as error:
        return Outcome(error=str(error), foreseen=True)
    except Exception as error:
        return Outcome(error=f"{type(error).__name__}: {error}{_traceback(trial)}".replace("\n", " "))
    with suppress(OSError):
        (trial.directory / ERROR).unlink(missing_ok=True)  # of the first try, which does not matter any more
    return Outcome(result)


def _wait_for_lock(directory: Path, patience: float, should_stop: Callable[[], bool]) -> None:
    """Until nobody trains here; whoever holds the lock after that is no orphan, and the trial is refused."""
    until = time.monotonic() + patience
    path = directory / record.LOCK
    while path.is_file() and not path.is_symlink():
        with suppress(Timeout, OSError), FileLock(path, timeout=0):
            return
        if time.monotonic() >= until or should_stop():
            return
        time.sleep(0.1)


def _traceback(trial: Trial) -> str:
    """Put the traceback beside the trial, for whoever looks for the reason; says where, nothing if it has no room."""
    try:
        record.write(trial.directory / ERROR, traceback.format_exc().encode())
    except (SelftaughtError, OSError):
        return ""
    return f" (see {trial.directory / ERROR})"
