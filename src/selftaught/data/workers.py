"""Work on many pictures, spread over processes, with the results in order.

How many processes there are is ``$SELFTAUGHT_WORKERS``, by default one per usable core, at most four; with 0 all the
work is done in the calling process.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

import joblib
import torch
from torch.utils.data import DataLoader, Dataset

from selftaught.errors import InputError, SelftaughtError

Item = TypeVar("Item")
Value = TypeVar("Value")

_MOST = 4
_PATIENCE = 1.0
"""Seconds of work in this process before others are started: small jobs are done by then."""


def count() -> int:
    """How many worker processes are used; InputError where ``$SELFTAUGHT_WORKERS`` is no whole number from 0 on."""
    asked = os.environ.get("SELFTAUGHT_WORKERS")
    if asked is None:
        return min(_MOST, joblib.cpu_count())  # by affinity and the container's quota
    if not asked.isdecimal():
        raise InputError(f"SELFTAUGHT_WORKERS is {asked!r} but should be a number of processes, 0 or more")
    return int(asked)


def ordered(task: Callable[[Item], Value], items: Sequence[Item]) -> Iterator[Value]:
    """`task` of each item, in order, by processes that work ahead and end with this iterator.

    Neither the processes nor what they hand over (NumPy arrays, through pipes) need shared memory, which containers
    are short of. The global RNG is left alone. Whoever stops early should close the iterator (`contextlib.closing`):
    left to the garbage collector, the processes may live on for seconds.

    Raises:
        InputError: that of the first item whose task raised one.
        SelftaughtError: a process was killed.
    """
    workers = min(count(), len(items))
    if not workers:
        yield from map(task, items)
        return
    loader = DataLoader(
        _Tasks(task, items),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_begin,
        # Else starting would draw from the global RNG, and a streamed run would differ from one in memory.
        generator=torch.Generator(),
        # Spawned processes would import torch anew in each epoch; these touch no GPU.
        multiprocessing_context="fork" if sys.platform == "linux" else None,
    )
    with _interrupts_blocked():
        results = iter(loader)
    try:
        for _ in items:
            result = next(results)
            if isinstance(result, Exception):
                raise result
            yield result
    except RuntimeError as error:  # the loader's, where one of its processes is gone
        raise SelftaughtError(
            "a worker process that decodes pictures was killed, out of memory? try SELFTAUGHT_WORKERS=1"
        ) from error.with_traceback(None)
    finally:
        del results  # ends the processes now; whoever keeps an error's traceback would keep them as well


def patient(task: Callable[[Item], Value], items: Sequence[Item]) -> Iterator[Value]:
    """As `ordered`, but what takes a moment is done in this process."""
    started = time.monotonic()
    for done, item in enumerate(items, 1):
        yield task(item)
        if time.monotonic() - started > _PATIENCE:
            yield from ordered(task, items[done:])
            return


class _Tasks(Dataset, Generic[Item, Value]):
    """The items as a data set whose samples are the task's results, or the error that it raised."""

    def __init__(self, task: Callable[[Item], Value], items: Sequence[Item]) -> None:
        self.task, self.items = task, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Value | Exception:
        try:
            return self.task(self.items[index])
        except InputError as error:  # the loader would wrap it into a traceback
            return error


def _as_it_is(value: Any) -> Any:
    return value


def _begin(_: int) -> None:
    """A worker's first act: see to it that it ends with its parent, also where that one is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C, which reaches the whole group: the parent decides."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
