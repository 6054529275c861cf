"""How the trials of a study get on, as named events; `on_event` takes each, wherever the trials run."""

from dataclasses import dataclass, field
from typing import Protocol

from selftaught.activities import Now
from selftaught.files.results import Result


@dataclass(frozen=True)
class Progress:
    """A moment of a run: `epoch` and `step` count what is done, `loss` and `accuracy` are means over the epoch so far.

    `seconds` of training are those of this session, which began after `resumed_at` steps. `metrics` is the line of
    metrics.jsonl at the end of an epoch and empty in between.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds: float
    resumed_at: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Steps done over all epochs."""
        return self.epoch * self.steps + self.step

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps

    @property
    def seconds_left(self) -> float:
        """Training time still to come at this session's speed."""
        return self.seconds * (self.total - self.done) / max(self.done - self.resumed_at, 1)


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
class Waits:
    """Trial number `index` cannot start before trial number `teacher` has ended."""

    index: int
    teacher: int


@dataclass(frozen=True)
class Started:
    """Trial number `index` starts, perhaps not for the first time; `name` is its method and seed."""

    index: int
    name: str = field(default="", compare=False)


@dataclass(frozen=True)
class Busy:
    """What trial number `index` is busy with beside its steps; an empty `now` means that it is over."""

    index: int
    now: Now


@dataclass(frozen=True)
class Progressed:
    """Trial number `index` has taken steps."""

    index: int
    progress: Progress


@dataclass(frozen=True)
class Again:
    """Trial number `index` broke off for this `reason` and will start once more."""

    index: int
    reason: str


@dataclass(frozen=True)
class Finished:
    """Trial number `index` has ended, one way or another; it may not have started."""

    index: int
    outcome: Outcome


Event = Waits | Started | Busy | Progressed | Again | Finished
"""What happens to a trial; `index` is its number among those that are run."""


class OnEvent(Protocol):
    """Hears of every event of a study's trials."""

    def __call__(self, event: Event, /) -> None:
        """Take an event."""


def unheard(event: Event) -> None:
    """An `OnEvent` that does not listen."""
