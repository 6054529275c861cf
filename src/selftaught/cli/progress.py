"""What a user sees while trials run: bars on a terminal, now and then a line in a log, or nothing."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from rich import progress as rich_progress
from rich.console import Console
from rich.text import Text

from selftaught.study.executor import Event, Outcome
from selftaught.study.plan import Trial
from selftaught.training.presets import ON_DECODING
from selftaught.training.progress import Progress

LINE_SECONDS = 10.0


@contextmanager
def reading_shown(quiet: bool) -> Iterator[None]:
    """While inside, pictures that are being decoded are counted: a bar on a terminal, else a line now and then."""
    terminal = sys.stderr.isatty()
    bar = rich_progress.Progress(
        *rich_progress.Progress.get_default_columns(),
        rich_progress.MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=quiet or not terminal,
    )
    task = bar.add_task("reading images", total=None, visible=False)
    printed = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal printed
        bar.update(task, completed=done, total=total, visible=True)
        if not (quiet or terminal) and time.monotonic() - printed >= LINE_SECONDS:
            printed = time.monotonic()
            print(f"reading images: {done} of {total}", file=sys.stderr, flush=True)

    token = ON_DECODING.set(tell)
    try:
        with bar:
            yield
    finally:
        ON_DECODING.reset(token)


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
    """A line per trial about every ten seconds and one at its end."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.trials = trials
        self.printed: dict[int, float] = {}
        self.resumed: set[int] = set()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        label, now = name(self.trials[event.index]), time.monotonic()
        if event.outcome is not None:
            print(f"{label}: {ending(event.outcome)}", file=sys.stderr, flush=True)
        elif event.progress is None:
            self.printed[event.index] = now
        elif event.progress.resumed_at and event.index not in self.resumed:
            self.resumed.add(event.index)
            print(f"{label}: {resumption(event.progress)}", file=sys.stderr, flush=True)
        elif now - self.printed[event.index] >= LINE_SECONDS:
            self.printed[event.index] = now
            left = event.progress.seconds_left
            print(f"{label}: {moment(event.progress)}, {left:.0f} s left", file=sys.stderr, flush=True)


class Bars(Silent):
    """A bar per running trial and one for them all."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.trials = trials
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
        self.tasks: dict[int, rich_progress.TaskID] = {}
        self.overall = self.bars.add_task("all trials", total=len(trials), moment="", visible=len(trials) > 1)

    def __enter__(self) -> "Bars":
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        label = name(self.trials[event.index])
        if event.outcome is not None:
            self.bars.remove_task(self.tasks.pop(event.index))
            self.done[event.index] = 1.0
            self.bars.console.print(Text(f"{label}: {ending(event.outcome)}"))
        elif event.progress is None:
            self.tasks[event.index] = self.bars.add_task(label, total=None, moment="starting")
        else:
            p, task = event.progress, self.tasks[event.index]
            self.done[event.index] = p.done / p.total
            if self.bars.tasks[self.bars.task_ids.index(task)].total is None:
                if p.resumed_at:
                    self.bars.console.print(Text(f"{label}: {resumption(p)}"))
                self.bars.reset(task, total=p.total, completed=p.resumed_at)  # speed counts from here
            self.bars.update(task, completed=p.done, moment=moment(p))
        self.bars.update(self.overall, completed=sum(self.done))
        if all(done == 1.0 for done in self.done):
            self.bars.update(self.overall, moment="timing a step of each method")


def name(trial: Trial) -> str:
    """How a trial is called on screen."""
    return f"{trial.config.method} seed {trial.config.seed}"


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
    """How a trial ended, in a few words."""
    if outcome.result is not None:
        result = outcome.result
        return f"{100 * result.accuracy:.2f} % on the test images after {result.seconds:.0f} s of training"
    return "stopped and saved" if outcome.stopped else f"failed: {outcome.error}"
