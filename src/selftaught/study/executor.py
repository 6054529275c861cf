"""Who runs the trials: this process, or several on this machine.

An executor is any function of the `Executor` signature; one that sends trials to other machines fits in as well,
because a trial is a configuration and a directory and nothing else.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from selftaught.errors import SelftaughtError
from selftaught.study.plan import Trial
from selftaught.training import record
from selftaught.training.progress import Progress
from selftaught.training.record import Result
from selftaught.training.run import Stopped, train

ERROR = "error.txt"


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: with a `result`, or stopped (saved, to be resumed), or failed with a one-line `error`.

    `foreseen` errors say what to do about them; the others are somebody's mistake in the code.
    """

    result: Result | None = None
    stopped: bool = False
    error: str | None = None
    foreseen: bool = False


@dataclass(frozen=True)
class Event:
    """Something that happened to trial number `index`: it started (both None), went on, or ended."""

    index: int
    progress: Progress | None = None
    outcome: Outcome | None = None


class Executor(Protocol):
    """Runs every trial, keeps going when one fails, and returns once nothing runs any more.

    After `should_stop` says yes no trial is started and the running ones are saved. Returns an outcome per
    trial, in order.
    """

    def __call__(
        self, trials: Sequence[Trial], on_event: Callable[[Event], None], should_stop: Callable[[], bool]
    ) -> list[Outcome]:
        """Run the trials."""


def in_this_process(
    trials: Sequence[Trial], on_event: Callable[[Event], None], should_stop: Callable[[], bool]
) -> list[Outcome]:
    """The trials one after another, here."""
    outcomes = []
    for index, trial in enumerate(trials):
        outcome = Outcome(stopped=True)
        if not should_stop():
            on_event(Event(index))
            outcome = attempt(trial, lambda p, i=index: on_event(Event(i, progress=p)), should_stop)  # type: ignore[misc]
            on_event(Event(index, outcome=outcome))
        outcomes.append(outcome)
    return outcomes


def attempt(
    trial: Trial, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]
) -> Outcome:
    """Run one trial; whatever goes wrong becomes its outcome, so that the other trials go on."""
    try:
        return Outcome(train(trial.config, trial.directory, on_progress, should_stop))
    except Stopped:
        return Outcome(stopped=True)
    except SelftaughtError as error:
        return Outcome(error=str(error), foreseen=True)
    except Exception as error:
        # Not foreseen, so the line alone would not help whoever looks for the reason.
        record.write(trial.directory / ERROR, traceback.format_exc().encode())
        return Outcome(
            error=f"{type(error).__name__}: {error} (see {trial.directory / ERROR})".replace("\n", " ")
        )
