"""What a user sees while trials run: bars on a terminal, now and then a line in a log, or nothing."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from rich import progress as rich_progress
from rich.console import Console
from rich.text import Text

from selftaught.activities import Activity
from selftaught.cli import busy
from selftaught.events import (
    Again,
    Busy,
    Event,
    Finished,
    OnEvent,
    Outcome,
    Progress,
    Progressed,
    Started,
    Waits,
)
from selftaught.study.naming import names
from selftaught.study.trials import Trial

LINE_SECONDS = 10.0

STARTING = (Activity("starting"),)
"""A worker imports torch, and a run reads its data and makes its network, before the first step."""


class Display(OnEvent, Protocol):
    """A context in which it takes the events of a study's trials."""

    def __enter__(self) -> "Display": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def display(trials: Sequence[Trial], quiet: bool) -> Display:
    """Bars where stderr is a terminal, lines where it is not, nothing if `quiet`."""
    if quiet:
        return Silent()
    return Bars(trials) if sys.stderr.isatty() else Lines(trials)


class Silent:
    """Shows nothing."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __call__(self, event: Event, /) -> None:
        """Take an event."""


class Lines(Silent):
    """A line per trial about every ten seconds, one at its end, and one where it takes long to start."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.names = names(trials)
        self.starting: dict[int, busy.Lines] = {}
        self.printed: dict[int, float] = {}
        self.resumed: set[int] = set()
        self.waiting: dict[int, int] = {}

    def __call__(self, event: Event, /) -> None:
        """Take an event."""
        if isinstance(event, Waits):
            self.waiting[event.teacher] = self.waiting.get(event.teacher, 0) + 1
            return
        # All that wait are told of before anything starts: one line for each teacher, not for each student.
        for teacher, count in self.waiting.items():
            self.print(teacher, f"{count} {'trial waits' if count == 1 else 'trials wait'} for it")
        self.waiting.clear()
        self.watch(event)
        line = self.line(event)
        if line is not None:
            self.print(event.index, line)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self.starting:
            self.starting.popitem()[1].close()

    def watch(self, event: Event) -> None:
        """Look after a trial until its first step is taken, since nobody tells anything of it while it is started."""
        if isinstance(event, Started) and event.index not in self.starting:
            self.starting[event.index] = busy.Lines(f"{self.names[event.index]}: ")
        watch = self.starting.get(event.index)
        if watch is None:
            return
        if isinstance(event, Started | Busy):
            watch.hear(STARTING + (event.now if isinstance(event, Busy) else ()))
        else:
            self.starting.pop(event.index).close()

    def line(self, event: Event) -> str | None:
        """What to say of an event, if anything."""
        index, now = event.index, time.monotonic()
        match event:
            case Finished(outcome=outcome):
                return ending(outcome)
            case Again(reason=reason):
                self.resumed.discard(index)
                return reason
            case Started():
                self.printed[index] = now
            case Progressed(progress=progress) if progress.resumed_at and index not in self.resumed:
                self.resumed.add(index)
                return resumption(progress)
            case Progressed(progress=progress) if self.is_time(index, now):
                return f"{moment(progress)}, {progress.seconds_left:.0f} s left"
            case Busy(now=parts) if parts and index not in self.starting and self.is_time(index, now):
                return busy.described(parts)
        return None

    def is_time(self, index: int, now: float) -> bool:
        """Whether the trial's last line is long enough ago for another one, which is noted."""
        if now - self.printed.get(index, now) < LINE_SECONDS:
            return False
        self.printed[index] = now
        return True

    def print(self, index: int, text: str) -> None:
        """A line about a trial."""
        print(f"{self.names[index]}: {text}", file=sys.stderr, flush=True)


class Bars(Silent):
    """A bar per running trial and one for them all, which says how many wait for their teachers."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.names = names(trials)
        self.bars = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(bar_width=24),
            rich_progress.TaskProgressColumn(),
            rich_progress.TimeRemainingColumn(compact=True),
            rich_progress.TextColumn("{task.fields[moment]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self.done = [0.0] * len(trials)
        self.teachers: dict[int, int] = {}
        self.tasks: dict[int, rich_progress.TaskID] = {}
        self.overall = self.bars.add_task("all trials", total=len(trials), moment="", visible=len(trials) > 1)

    def __enter__(self) -> "Bars":
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def __call__(self, event: Event, /) -> None:
        """Take an event."""
        index = event.index
        match event:
            case Waits(teacher=teacher):
                self.teachers[index] = teacher
            case Finished(outcome=outcome):
                self.end(index, ending(outcome))
                self.done[index] = 1.0
            case Again(reason=reason):
                self.end(index, reason)
            case Busy(now=parts) if parts and index in self.tasks:
                self.bars.update(self.tasks[index], moment=busy.described(parts))
            case Started():
                self.tasks[index] = self.bars.add_task(self.names[index], total=None, moment="starting")
            case Progressed(progress=progress) if index in self.tasks:
                self.show(index, progress)
        self.bars.update(self.overall, completed=sum(self.done), moment=self.outlook())

    def end(self, index: int, text: str) -> None:
        """Replace a trial's bar, which it has only if it started, by a line."""
        if index in self.tasks:
            self.bars.remove_task(self.tasks.pop(index))
        self.bars.console.print(Text(f"{self.names[index]}: {text}"))

    def show(self, index: int, progress: Progress) -> None:
        """Move a trial's bar."""
        task = self.tasks[index]
        self.done[index] = progress.done / progress.total
        if self.bars.tasks[self.bars.task_ids.index(task)].total is None:
            if progress.resumed_at:
                self.bars.console.print(Text(f"{self.names[index]}: {resumption(progress)}"))
            # Its speed counts from here.
            self.bars.reset(task, total=progress.total, completed=progress.resumed_at)
        self.bars.update(task, completed=progress.done, moment=moment(progress))

    def outlook(self) -> str:
        """What is to come after the trials that are running."""
        waiting = sum(self.done[teacher] < 1.0 for teacher in self.teachers.values())
        return (
            f"{waiting} {'waits for its teacher' if waiting == 1 else 'wait for their teachers'}"
            if waiting
            else ""
        )


def resumption(progress: Progress) -> str:
    """Where a trial that was interrupted goes on."""
    return f"goes on from step {progress.resumed_at} of {progress.total}"


def moment(progress: Progress) -> str:
    """Where a trial is, in a few words."""
    epoch = min(progress.epoch + 1, progress.epochs)
    return (
        f"epoch {epoch}/{progress.epochs}, loss {progress.loss:.3f}, accuracy {100 * progress.accuracy:.1f} %, "
        f"{progress.images_per_second:.0f} images/s"
    )


def ending(outcome: Outcome) -> str:
    """How a trial ended, in a few words; where held-out images are there to choose by, the test images are not told."""
    if outcome.result is not None:
        result = outcome.result
        tested = "finished" if result.data.val else f"{100 * result.accuracy:.2f} % on the test images"
        return f"{tested} after {result.seconds:.0f} s of training"
    return "stopped and saved" if outcome.stopped else f"failed: {outcome.error}"
