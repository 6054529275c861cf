"""Trials in several processes of this machine.

Each worker has a pipe of its own and shares no lock with the others, so one that is killed (out of memory, say)
takes only its own trial with it.
"""

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait

from selftaught.study.executor import Event, Executor, Outcome, attempt
from selftaught.study.plan import Trial
from selftaught.training.progress import Progress

POLL_SECONDS = 0.2
STOP = "stop"


def in_processes(jobs: int) -> Executor:
    """An executor with up to `jobs` worker processes, each training one trial at a time."""

    def run(
        trials: Sequence[Trial], on_event: Callable[[Event], None], should_stop: Callable[[], bool]
    ) -> list[Outcome]:
        return _Pool(trials, on_event, should_stop).run(min(jobs, len(trials)))

    return run


class _Pool:
    """The parent's side: hands out trials and passes on what the workers say."""

    def __init__(
        self, trials: Sequence[Trial], on_event: Callable[[Event], None], should_stop: Callable[[], bool]
    ) -> None:
        self.trials, self.on_event, self.should_stop = trials, on_event, should_stop
        self.waiting = list(range(len(trials)))
        self.outcomes = [Outcome(stopped=True)] * len(trials)
        self.workers: dict[Connection, _Worker] = {}
        self.leaving: list[_Worker] = []

    def run(self, jobs: int) -> list[Outcome]:
        try:
            for _ in range(jobs):
                self.hire()
            stopping = False
            while self.workers:
                for connection in wait(list(self.workers), timeout=POLL_SECONDS):
                    self.hear(self.workers[connection])  # type: ignore[index]
                if not stopping and self.should_stop():
                    stopping = True
                    self.waiting.clear()
                    for worker in self.workers.values():
                        worker.tell_to_stop()
        finally:
            for worker in self.workers.values():
                worker.process.terminate()
            for worker in (*self.workers.values(), *self.leaving):
                worker.process.join()
        return self.outcomes

    def hire(self) -> None:
        """Start a worker on the next trial."""
        worker = _Worker()
        self.workers[worker.connection] = worker
        self.give_work(worker)

    def give_work(self, worker: "_Worker") -> None:
        """The next trial, or the door."""
        if not self.waiting:
            del self.workers[worker.connection]
            worker.connection.close()
            self.leaving.append(worker)
            return
        worker.index = self.waiting.pop(0)
        self.on_event(Event(worker.index))
        worker.start(self.trials[worker.index])

    def hear(self, worker: "_Worker") -> None:
        """Pass on one message of a worker; replace one that died."""
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self.bury(worker)
            return
        if isinstance(message, Progress):
            self.on_event(Event(worker.index, progress=message))
        else:
            self.end(worker.index, message)
            self.give_work(worker)

    def bury(self, worker: "_Worker") -> None:
        """A worker is gone without a word: its trial failed, the others go on."""
        worker.process.join()
        del self.workers[worker.connection]
        code = worker.process.exitcode
        self.end(
            worker.index, Outcome(error=f"its process died (exit code {code}); out of memory? try --jobs 1")
        )
        if self.waiting:
            self.hire()

    def end(self, index: int, outcome: Outcome) -> None:
        self.outcomes[index] = outcome
        self.on_event(Event(index, outcome=outcome))


class _Worker:
    """One worker process as the parent sees it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,))
        self.index = -1
        with _interrupts_ignored():
            self.process.start()
        theirs.close()

    def start(self, trial: Trial) -> None:
        self._send(trial)

    def tell_to_stop(self) -> None:
        self._send(STOP)

    def _send(self, message: object) -> None:
        with suppress(OSError):  # it died: the next `hear` finds out
            self.connection.send(message)


def _work(connection: Connection) -> None:
    """A worker's life: trials from the parent until it hangs up."""
    sys.stdout = sys.stderr  # whatever a network of the user's own prints: stdout is for the parent's result
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return
        if not isinstance(message, Trial):
            continue  # a "stop" that crossed with the end of the last trial
        outcome = attempt(message, partial(_tell, connection), lambda: _asked_to_stop(connection))
        _tell(connection, outcome)


def _tell(connection: Connection, message: object) -> None:
    with suppress(OSError):  # the parent is gone: `_asked_to_stop` or the next `recv` notices
        connection.send(message)


def _asked_to_stop(connection: Connection) -> bool:
    """Whether the parent said stop, or is gone. Leaves the message unread, so the answer stays yes."""
    try:
        return connection.poll()
    except OSError:
        return True


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A child inherits that SIGINT is ignored, and so is never interrupted while it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
