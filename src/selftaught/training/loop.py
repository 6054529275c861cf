"""One epoch of training."""

import itertools
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from selftaught.errors import ExplanationError, SelftaughtError
from selftaught.objectives import Step
from selftaught.training.metrics import excess
from selftaught.training.session import Session

REPORT_SECONDS = 0.25
"""Losses are read from the device this often; reading one at every step would make a GPU wait for the CPU."""


class Stopped(SelftaughtError):  # noqa: N818  (not a mistake of anyone)
    """The run was asked to stop; it is saved and can be resumed."""


class DivergedError(SelftaughtError):
    """The loss, the weights or the predictions are no longer finite numbers."""


@dataclass
class Position:
    """How far a run has come, and the sums of the current epoch."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    images: int = 0
    seen: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    excess: list[float] = field(default_factory=list)

    def means(self) -> dict[str, float]:
        """Loss, its terms, accuracy, NLL and ECE of the training steps, over the epoch's images so far."""
        if not self.seen:
            return {}
        means = {name: total / self.seen for name, total in self.sums.items()}
        return means | {"ece": sum(map(abs, self.excess)) / self.seen}

    def next_epoch(self) -> None:
        """Forget the epoch's sums and go to the next."""
        self.epoch, self.step, self.seen, self.sums, self.excess = self.epoch + 1, 0, 0, {}, []

    def __str__(self) -> str:
        if self.epoch and not self.step:
            return f"after epoch {self.epoch}"
        return f"in epoch {self.epoch + 1}, step {self.step}"


class Meter:
    """Adds steps to a `Position` without making the device wait, and notices a loss that is not finite."""

    def __init__(self, position: Position) -> None:
        self.position = position
        self._names: list[list[str]] = []
        self._pending: list[torch.Tensor] = []
        self._sizes: list[int] = []

    @torch.no_grad()
    def add(self, step: Step, y: torch.Tensor) -> None:
        """Note one optimiser step."""
        means = {
            "loss": step.loss.detach(),
            **{f"loss_{name}": value for name, value in step.terms.items()},
            "accuracy": (step.logits.argmax(1) == y).double().mean(),
            "nll": F.cross_entropy(step.logits.float(), y),
        }
        self._names.append(list(means))
        scalars = torch.stack([value.double() for value in means.values()])
        self._pending.append(torch.cat([scalars, excess(step.logits, y)]))
        self._sizes.append(len(y))

    def flush(self) -> None:
        """Bring the position up to date; raises `SelftaughtError` at the first loss that is NaN or infinite."""
        if not self._pending:
            return
        # Many numbers with one transfer.
        numbers = iter(torch.cat(self._pending).tolist())
        lengths = [len(values) for values in self._pending]
        rows = [list(itertools.islice(numbers, length)) for length in lengths]
        position = self.position
        for names, row, size in zip(self._names, rows, self._sizes, strict=True):
            position.step += 1
            if not math.isfinite(row[0]):
                raise diverged(f"the loss became {row[0]}", position)
            for name, value in zip(names, row, strict=False):
                position.sums[name] = position.sums.get(name, 0.0) + value * size
            excesses = row[len(names) :]
            so_far = position.excess or [0.0] * len(excesses)
            position.excess = [a + b for a, b in zip(so_far, excesses, strict=True)]
            position.seen += size
            position.images += size
        self._names, self._pending, self._sizes = [], [], []


class Autosave:
    """Saves now and then: often enough that a kill costs little, rarely enough that saving costs little.

    The first time soon, since a run that is killed is often killed early; then at growing intervals, up to `seconds`
    or twenty times what saving takes.

    Args:
        save: writes the run's state.
        seconds: the longest interval where saving is quick.
    """

    FIRST = 2.0

    def __init__(self, save: Callable[[], None], seconds: float) -> None:
        self.save, self.seconds = save, seconds
        self.pause = min(self.FIRST, seconds)
        self.last = time.perf_counter()

    def is_due(self) -> bool:
        """Whether it is time."""
        return time.perf_counter() - self.last >= self.pause

    def __call__(self) -> None:
        """Save now."""
        begun = time.perf_counter()
        self.save()
        self.last = time.perf_counter()
        self.pause = max(min(2 * self.pause, self.seconds), 20 * (self.last - begun))


def train_epoch(
    session: Session,
    position: Position,
    on_report: Callable[[], None],
    should_stop: Callable[[], bool],
    save: Autosave,
) -> None:
    """Train from `position` to the end of its epoch; raises `Stopped`, with `position` exact, if asked to."""
    meter = Meter(position)
    session.train_mode()
    session.objective.start_epoch(position.epoch)
    clock = _Clock(position)
    reported = time.perf_counter()
    # Closed at once when stopped early: whoever decodes ahead must not be left to the garbage collector.
    with closing(session.batches.epoch(position.epoch, position.step)) as batches:
        for index, (x, y) in enumerate(batches, position.step):
            session.optimizer.zero_grad()
            step = _step(session, meter, index, x, y)
            session.fabric.backward(step.loss)
            session.optimizer.step()
            session.schedule.step()
            meter.add(step, y)
            if time.perf_counter() - reported >= REPORT_SECONDS:
                meter.flush()
                clock.read()
                reported = time.perf_counter()
                on_report()
            if save.is_due():
                meter.flush()
                clock.read()
                save()
                clock.skip()
            if should_stop():
                break
    meter.flush()
    clock.read()
    if position.step < len(session.batches):
        raise Stopped("stopped")


class _Clock:
    """Adds the time that passes to a position's seconds."""

    def __init__(self, position: Position) -> None:
        self.position = position
        self.skip()

    def read(self) -> None:
        before = self.last
        self.skip()
        self.position.seconds += self.last - before

    def skip(self) -> None:
        """What has passed since the last reading does not count."""
        self.last = time.perf_counter()


def _step(session: Session, meter: Meter, index: int, x: torch.Tensor, y: torch.Tensor) -> Step:
    try:
        return session.objective.step(x, y)
    except ExplanationError as error:
        meter.flush()  # a loss that overflowed in the step before is the cause, and the better message
        where = f"epoch {meter.position.epoch + 1}, step {index + 1}"
        raise ExplanationError(f"{error} (in {where})") from error


def diverged(what: str, position: Position) -> DivergedError:
    """The error for numbers that are no longer finite."""
    return DivergedError(f"{what} {position}: try a lower --lr")
