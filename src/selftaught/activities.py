"""What is being done just now, told to whoever shows it: the command line, or a program that uses the package.

What takes long says so where it is done, and knows nothing of who listens::

    with activity("computing features", total=len(images)) as advance:
        for done, batch in enumerate(batches, 1):
            ...
            advance(done)

Activities may lie in one another. Nobody need listen.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Protocol

_SECONDS = 0.1
"""A listener hears no more often than this how far an activity has come."""


@dataclass(frozen=True)
class Activity:
    """Something that takes its time: `done` of `total` parts, if it is known to have parts."""

    what: str
    done: int = 0
    total: int | None = None

    def __str__(self) -> str:
        """In words.

        >>> print(Activity("writing the report"), Activity("reading images", 640, 1906), sep="; ")
        writing the report; reading images: 640 of 1,906
        """
        return self.what if self.total is None else f"{self.what}: {self.done:,} of {self.total:,}"


Now = tuple[Activity, ...]
"""What is being done, each activity inside the one before it; empty where there is nothing to tell."""

Listener = Callable[[Now], None]
"""Hears what is being done whenever that changes, in the thread that does it."""


class Advance(Protocol):
    """Takes how much of an activity is done, and of how much where that was not known at its beginning."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Tell it."""


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_now: ContextVar[Now] = ContextVar("now", default=())


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """While inside, `listener` hears of the activities that begin here, and nobody else does."""
    before, token = _now.get(), _listener.set(listener)
    _now.set(())
    try:
        yield
    finally:
        _now.set(before)
        _listener.reset(token)


@contextmanager
def activity(what: str, total: int | None = None) -> Iterator[Advance]:
    """Say that `what` is being done while inside; what it yields takes how many of its `total` parts are done."""
    above, found, told = _now.get(), Activity(what, 0, total), time.monotonic()

    def advance(done: int, total: int | None = None) -> None:
        nonlocal found, told
        found = replace(found, done=done, total=found.total if total is None else total)
        if time.monotonic() - told >= _SECONDS:
            told = time.monotonic()
            _tell((*above, found))

    _tell((*above, found))
    try:
        yield advance
    finally:
        _tell(above)


def _tell(now: Now) -> None:
    _now.set(now)
    listener = _listener.get()
    if listener is not None:
        listener(now)
