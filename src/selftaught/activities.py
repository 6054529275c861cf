"""What is being done just now, told to whoever wants to show it: the command line, or a user's own program.

What takes long takes a function and calls it, and knows nothing of who listens; nobody need::

    with activity(on_activity, "computing features", total=len(images)) as doing:
        for done, batch in enumerate(batches, 1):
            read(batch, on_activity=doing)  # what is done inside
            doing.advance(done)
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType

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

OnActivity = Callable[[Now], None]
"""Hears what is being done whenever that changes, in the thread that does it."""


def nobody(now: Now) -> None:
    """An `OnActivity` that does not listen."""


class activity:  # noqa: N801 (used like a function)
    """Tells that `what` is being done while inside.

    As a function it is the `on_activity` of what is done inside this activity.
    """

    def __init__(self, on_activity: OnActivity, what: str, total: int | None = None) -> None:
        self._tell, self._now, self._told = on_activity, Activity(what, 0, total), time.monotonic()

    def __enter__(self) -> "activity":
        self(())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell(())

    def advance(self, done: int, total: int | None = None) -> None:
        """Tell how much is done, and of how much where that was not known at the beginning."""
        self._now = replace(self._now, done=done, total=self._now.total if total is None else total)
        if time.monotonic() - self._told >= _SECONDS:
            self._told = time.monotonic()
            self(())

    def __call__(self, inside: Now) -> None:
        """Tell what is done inside."""
        self._tell((self._now, *inside))
