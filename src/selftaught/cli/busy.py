"""What a command is busy with before and after its trials run: a bar on a terminal, else a line for what takes long.

Nothing here imports torch: that it is being imported is one of the things to say.
"""

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any

from selftaught.activities import Activity, Now, activity

PATIENCE = 2.0
"""Seconds that something may take before a line says what it is."""

LINE_SECONDS = 10.0
"""Seconds after which a line says how far it has come."""

_BAR_PATIENCE = 0.4
_TICK = 0.1


_shown: list["_Watch"] = []
"""What shows on the process's stderr what takes long, if anything does."""


@contextmanager
def shown(quiet: bool) -> Iterator[None]:
    """While inside, stderr shows what `hear` is told and takes long; nothing if `quiet`."""
    if quiet:
        yield
        return
    with _Bar() if sys.stderr.isatty() else Lines() as watch:
        _shown.append(watch)
        try:
            yield
        finally:
            _shown.remove(watch)


def hear(now: Now) -> None:
    """The `on_activity` of all commands."""
    if _shown:
        _shown[-1].hear(now)


def loading() -> AbstractContextManager[Any]:
    """Where a command imports what it is made of."""
    return activity(hear, "loading PyTorch")


def described(now: Now) -> str:
    """What is being done, in a line.

    >>> described((Activity("trying a first step", 1, 4), Activity("reading images", 64, 300)))
    'trying a first step: 1 of 4; reading images: 64 of 300'
    """
    return "; ".join(map(str, now))


class _Watch(ABC):
    """Hears what is being done and looks at it again and again, in a thread that is there once there is something."""

    def __init__(self) -> None:
        self.now: Now = ()
        self.since: list[float] = []
        self.lock = threading.RLock()
        self.over = threading.Event()
        self.thread: threading.Thread | None = None

    def __enter__(self) -> "_Watch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop looking."""
        self.hear(())
        self.over.set()
        if self.thread is not None:
            self.thread.join()

    def hear(self, now: Now) -> None:
        """Take what is being done from now on."""
        with self.lock:
            pairs = zip(self.now, now, strict=False)
            same = next((i for i, (old, new) in enumerate(pairs) if old.what != new.what), None)
            if same is None:
                same = min(len(self.now), len(now))
            self.since = self.since[:same] + [time.monotonic()] * (len(now) - same)
            self.now = now
            if not now:
                self.idle()
            elif self.thread is None:
                self.thread = threading.Thread(target=self._look_again_and_again, daemon=True)
                self.thread.start()

    def _look_again_and_again(self) -> None:
        while not self.over.wait(_TICK):
            with self.lock:
                if self.now:
                    self.look(time.monotonic())

    @abstractmethod
    def look(self, time: float) -> None:
        """Show what is being done, if it has taken long enough by now."""

    @abstractmethod
    def idle(self) -> None:
        """Nothing is being done any more."""


class Lines(_Watch):
    """A line for everything that has taken `PATIENCE` seconds, and one more about every `LINE_SECONDS`.

    `prefix` stands before each.
    """

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self.prefix = prefix
        self.printed = -LINE_SECONDS
        self.said: set[tuple[str, ...]] = set()

    def look(self, time: float) -> None:
        """See `_Watch`."""
        if time - max(self.printed, self.since[0]) < PATIENCE:
            return
        names = tuple(part.what for part in self.now)
        # What lies inside gets a line only if it takes long itself: the outer one has said what is going on.
        new = names not in self.said and (not self.said or time - self.since[-1] >= PATIENCE)
        if new or time - self.printed >= LINE_SECONDS:
            self.printed = time
            self.said.add(names)
            print(self.prefix + described(self.now), file=sys.stderr, flush=True)

    def idle(self) -> None:
        """See `_Watch`."""
        self.said.clear()


class _Bar(_Watch):
    """One bar, which is there only while something takes long, so that whatever else is printed finds an empty line."""

    def __init__(self) -> None:
        # Here, and not in the thread: two threads that import at the same time may wait for each other.
        from rich import progress
        from rich.console import Console

        super().__init__()
        self.parts = progress
        self.console = Console(stderr=True)
        self.bar: progress.Progress | None = None

    def look(self, time: float) -> None:
        """See `_Watch`."""
        if time - self.since[0] < _BAR_PATIENCE:
            return
        if self.bar is None:
            self.bar = self._started()
        *_, counted = [part for part in self.now if part.total is not None] or [Activity("")]
        [task] = self.bar.task_ids
        name = "; ".join(part.what for part in self.now)
        self.bar.update(
            task, description=name, completed=counted.done, total=counted.total, count=_count(counted)
        )

    def idle(self) -> None:
        """See `_Watch`."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _started(self) -> Any:
        bar = self.parts.Progress(
            self.parts.SpinnerColumn(),
            self.parts.TextColumn("{task.description}", markup=False),
            self.parts.BarColumn(bar_width=24),
            self.parts.TextColumn("{task.fields[count]}"),
            self.parts.TimeElapsedColumn(),
            console=self.console,
            transient=True,
            redirect_stdout=False,  # which is for the result
        )
        bar.add_task("", total=None, count="")
        bar.start()
        return bar


def _count(part: Activity) -> str:
    return "" if part.total is None else f"{part.done:,}/{part.total:,}"
