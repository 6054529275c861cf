"""What a user sees while trials run: bars on a terminal, now and then a line in a log, or nothing."""

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from rich import progress as rich_progress
from rich.console import Console
from rich.text import Text

from selftaught.activities import Activity, Now, listening
from selftaught.cli import busy
from selftaught.study.executor import Event, Outcome
from selftaught.study.naming import names
from selftaught.study.trials import Trial
from selftaught.training.progress import Progress

LINE_SECONDS = 10.0

STARTING = (Activity("starting"),)
"""A worker imports torch, and a run reads its data and makes its network, before the first step."""


class Display(Protocol):
    """A context in which it takes the executor's events."""

    def __enter__(self) -> "Display": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, event: Event) -> None:
        """Take an event."""


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

    def __call__(self, event: Event) -> None:
        """Take an event."""


class Lines(Silent):
    """A line per trial about every ten seconds, one at its end, and one where it takes long to start."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.names = names(trials)
        self.starting: dict[int, busy.Lines] = {}
        self.printed: dict[int, float] = {}
        self.resumed: set[int] = set()
        self.waiting: dict[int, int] = {}

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if event.waits_for is not None:
            self.waiting[event.waits_for] = self.waiting.get(event.waits_for, 0) + 1
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
        begins = event == Event(event.index)
        if begins and event.index not in self.starting:
            self.starting[event.index] = busy.Lines(f"{self.names[event.index]}: ")
        watch = self.starting.get(event.index)
        if watch is None:
            return
        if begins or event.now is not None:
            watch.hear(STARTING + (event.now or ()))
        else:
            self.starting.pop(event.index).close()

    def line(self, event: Event) -> str | None:
        """What to say of an event, if anything."""
        now, progress = time.monotonic(), event.progress
        if event.outcome is not None:
            return ending(event.outcome)
        if event.again is not None:
            self.resumed.discard(event.index)
            return event.again
        if progress is None:
            return self.line_of(event.index, event.now, now)
        if progress.resumed_at and event.index not in self.resumed:
            self.resumed.add(event.index)
            return resumption(progress)
        if now - self.printed.get(event.index, now) >= LINE_SECONDS:
            self.printed[event.index] = now
            return f"{moment(progress)}, {progress.seconds_left:.0f} s left"
        return None

    def line_of(self, index: int, busy_with: Now | None, now: float) -> str | None:
        """What to say of a trial that starts, or of what it is busy with beside its steps."""
        if busy_with is None:
            self.printed[index] = now
        elif busy_with and index not in self.starting and now - self.printed.get(index, now) >= LINE_SECONDS:
            self.printed[index] = now
            return busy.described(busy_with)
        return None

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
        self.listening: AbstractContextManager[None] = listening(self.hear)

    def __enter__(self) -> "Bars":
        self.bars.start()
        self.listening.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.listening.__exit__(kind, error, trace)
        self.bars.stop()

    def hear(self, now: Now) -> None:
        """Say what is done beside the trials, such as the timing of steps after them."""
        self.bars.update(self.overall, visible=True, moment=busy.described(now) or self.outlook())

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if event.waits_for is not None:
            self.teachers[event.index] = event.waits_for
        elif event.outcome is not None:
            self.end(event.index, ending(event.outcome))
            self.done[event.index] = 1.0
        elif event.again is not None:
            self.end(event.index, event.again)
        elif event.now is not None:
            if event.now and event.index in self.tasks:
                self.bars.update(self.tasks[event.index], moment=busy.described(event.now))
        elif event.progress is None:
            self.tasks[event.index] = self.bars.add_task(
                self.names[event.index], total=None, moment="starting"
            )
        elif event.index in self.tasks:
            self.show(event.index, event.progress)
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
