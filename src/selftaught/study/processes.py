"""Trials in several processes of this machine.

Each worker has a pipe of its own and shares no lock with the others, so one that is killed (out of memory, say)
takes only its own trial with it. On a machine with several GPUs each worker sees one of them.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait

import torch

from selftaught import _streams
from selftaught.events import OnEvent, Outcome
from selftaught.study.executor import Executor, attempt
from selftaught.study.queue import Queue
from selftaught.study.trials import Trial

POLL_SECONDS = 0.2
STOP = "stop"
AWAKE = "awake"
"""What a worker says once it can hear: importing torch takes seconds."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


def in_processes(jobs: int) -> Executor:
    """An executor with up to `jobs` worker processes, each training one trial at a time.

    With n GPUs, of those that ``CUDA_VISIBLE_DEVICES`` allows, worker k sees the GPU number k mod n only.
    """

    def run(trials: Sequence[Trial], on_event: OnEvent, should_stop: Callable[[], bool]) -> list[Outcome]:
        return _Pool(trials, on_event, should_stop).run(min(jobs, len(trials)))

    return run


def gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` may be for a process with one GPU; found without starting CUDA in this one."""
    allowed = os.environ.get(VISIBLE)
    if allowed is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    return [name.strip() for name in allowed.split(",") if name.strip()]


class _Pool:
    """The parent's side: hands out trials and passes on what the workers say."""

    def __init__(self, trials: Sequence[Trial], on_event: OnEvent, should_stop: Callable[[], bool]) -> None:
        self.trials, self.on_event, self.should_stop = trials, on_event, should_stop
        self.queue = Queue(trials, on_event)
        self.gpus = gpus() if any(trial.config.device == "cuda" for trial in trials) else []
        self.workers: dict[Connection, _Worker] = {}
        self.leaving: list[_Worker] = []

    def run(self, jobs: int) -> list[Outcome]:
        try:
            self.share_out(jobs)
            while self.workers:
                for connection in wait(list(self.workers), timeout=POLL_SECONDS):
                    self.hear(self.workers[connection])  # type: ignore[index]
                if not self.queue.stopped and self.should_stop():
                    self.stop()
                self.share_out(jobs)
        finally:
            for worker in self.workers.values():
                worker.process.terminate()
            for worker in (*self.workers.values(), *self.leaving):
                worker.process.join()
        return self.queue.outcomes

    def stop(self) -> None:
        """Have what runs saved. Who is not awake yet has nothing to save, and is not waited for."""
        self.queue.stop()
        for worker in list(self.workers.values()):
            if worker.awake:
                worker.tell_to_stop()
                continue
            assert worker.index is not None
            worker.process.terminate()
            self.dismiss(worker)
            self.queue.end(worker.index, Outcome(stopped=True))

    def share_out(self, jobs: int) -> None:
        """Give what is ready to who is idle, hire where there is more, let go whom nothing waits for."""
        idle = [worker for worker in self.workers.values() if worker.index is None]
        while (idle or len(self.workers) < jobs) and (index := self.queue.take()) is not None:
            worker = idle.pop(0) if idle else self.hire()
            self.queue.begin(index)
            worker.start(index, self.trials[index])
        if not self.queue.waiting:
            for worker in idle:
                self.dismiss(worker)

    def hire(self) -> "_Worker":
        """A new worker, on the first free place."""
        taken = {worker.place for worker in self.workers.values()}
        place = min(set(range(len(taken) + 1)) - taken)
        worker = _Worker(place, self.gpus[place % len(self.gpus)] if self.gpus else None)
        self.workers[worker.connection] = worker
        return worker

    def dismiss(self, worker: "_Worker") -> None:
        """Hang up: it ends by itself."""
        del self.workers[worker.connection]
        worker.connection.close()
        self.leaving.append(worker)

    def hear(self, worker: "_Worker") -> None:
        """Pass on one message of a worker, unless it died."""
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self.bury(worker)
            return
        if message == AWAKE:
            worker.awake = True
            return
        if not isinstance(message, Outcome):
            self.on_event(message)
            return
        assert worker.index is not None
        index, worker.index = worker.index, None
        if message.error is not None and not message.foreseen:
            self.dismiss(worker)  # after some errors of CUDA whatever a process tries fails as well
        self.queue.end(index, message)

    def bury(self, worker: "_Worker") -> None:
        """A worker is gone without a word: its trial failed, the others go on."""
        worker.process.join()
        del self.workers[worker.connection]
        code = worker.process.exitcode
        if worker.index is not None:
            error = f"its process died (exit code {code}); out of memory? try --jobs 1"
            self.queue.end(worker.index, Outcome(error=error))


class _Worker:
    """One worker process as the parent sees it; `index` is the trial that it is at, None when it has none.

    `awake` once it has said so.
    """

    def __init__(self, place: int, gpu: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, gpu))
        self.index: int | None = None
        self.awake = False
        self.place = place
        with _interrupts_ignored():
            self.process.start()
        theirs.close()

    def start(self, index: int, trial: Trial) -> None:
        self.index = index
        self._send((index, trial))

    def tell_to_stop(self) -> None:
        self._send(STOP)

    def _send(self, message: object) -> None:
        with suppress(OSError):  # it died: the next `hear` finds out
            self.connection.send(message)


def _work(connection: Connection, gpu: str | None) -> None:
    """A worker's life: trials from the parent until it hangs up."""
    _streams.prepare()
    sys.stdout = sys.stderr  # whatever a network of the user's own prints: stdout is for the parent's result
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    if gpu is not None:
        os.environ[VISIBLE] = gpu  # in time: importing torch does not look at the GPUs yet
    _tell(connection, AWAKE)
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return
        if message == STOP:
            continue  # which crossed with the end of the last trial
        tell = partial(_tell, connection)
        index, trial = message
        tell(attempt(index, trial, tell, lambda: _asked_to_stop(connection)))


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
