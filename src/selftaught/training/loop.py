"""One epoch of training."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from selftaught.errors import ExplanationError, SelftaughtError
from selftaught.methods import Step
from selftaught.training.metrics import carried, excess
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
        """Loss, its terms, accuracy, NLL and ECE of the training steps, over the epoch's images so far.

        And, past the warm-up of methods with explanations, what their soft labels say (``soft_...``, see
        `selftaught.files.record.SoftLabels`).
        """
        if not self.seen:
            return {}
        means = {name: total / self.seen for name, total in self.sums.items()}
        return means | {"ece": sum(map(abs, self.excess)) / self.seen}

    def add(self, names: list[str], row: list[float], size: int) -> None:
        """Take in a step on `size` images: the means by these names, the loss first, and then each bin's excess.

        Raises:
            DivergedError: the loss is not finite.
        """
        self.step += 1
        if not math.isfinite(row[0]):
            raise diverged(f"the loss became {row[0]}", self)
        for name, value in zip(names, row, strict=False):
            self.sums[name] = self.sums.get(name, 0.0) + value * size
        excesses = row[len(names) :]
        so_far = self.excess or [0.0] * len(excesses)
        self.excess = [a + b for a, b in zip(so_far, excesses, strict=True)]
        self.seen += size
        self.images += size

    def spend(self, seconds: float) -> None:
        """Count time that training took."""
        self.seconds += seconds

    def next_epoch(self) -> None:
        """Forget the epoch's sums and go to the next."""
        self.epoch, self.step, self.seen, self.sums, self.excess = self.epoch + 1, 0, 0, {}, []

    def __str__(self) -> str:
        if self.epoch and not self.step:
            return f"after epoch {self.epoch}"
        return f"in epoch {self.epoch + 1}, step {self.step}"


class Meter:
    """Adds steps to a `Position` without making the device wait, and notices a loss that is not finite.

    A step is only kept; the numbers of many are worked out together, for a dozen small operations each time would
    cost a small network more than a percent. Each number is that of its own step, however many are taken together.
    """

    KEPT = 1 << 20
    """Logits are kept until there are so many: a few megabytes."""

    def __init__(self, position: Position) -> None:
        self.position = position
        self._waiting: list[_Waiting] = []
        self._measured: list[_Measured] = []

    def add(self, step: Step, y: torch.Tensor) -> None:
        """Note one optimiser step; its tensors and the labels must not be overwritten by the next."""
        losses = {"loss": step.loss, **{f"loss_{name}": value for name, value in step.terms.items()}}
        waiting = _Waiting(losses, step.logits, y, step.similarities)
        if self._waiting and self._waiting[-1].kind() != waiting.kind():
            self._measure()
        self._waiting.append(waiting)
        if len(self._waiting) * step.logits.numel() >= self.KEPT:
            self._measure()

    def _measure(self) -> None:
        """Work out the numbers of the steps that wait, on their device."""
        if self._waiting:
            self._measured.append(_measure(self._waiting))
            self._waiting = []

    def flush(self) -> None:
        """Bring the position up to date; raises `SelftaughtError` at the first loss that is NaN or infinite."""
        self._measure()
        if not self._measured:
            return
        # Many numbers with one transfer.
        numbers = iter(torch.cat([measured.table.flatten() for measured in self._measured]).tolist())
        for measured in self._measured:
            steps, length = measured.table.shape
            for _ in range(steps):
                self.position.add(measured.names, list(itertools.islice(numbers, length)), measured.size)
        self._measured = []


@dataclass(frozen=True)
class _Waiting:
    """A step whose numbers are not worked out yet."""

    losses: dict[str, torch.Tensor]
    logits: torch.Tensor
    labels: torch.Tensor
    similarities: torch.Tensor | None

    def kind(self) -> tuple[Any, ...]:
        """What steps must have in common to be worked out together."""
        return self.logits.shape, self.losses.keys(), self.similarities is None


@dataclass(frozen=True)
class _Measured:
    """Steps of one batch size: a row each of the named means and then the excess of each bin."""

    names: list[str]
    size: int
    table: torch.Tensor


@torch.no_grad()
def _measure(steps: list[_Waiting]) -> _Measured:
    """The numbers of S steps of one kind."""
    losses = torch.stack([value.double() for step in steps for value in step.losses.values()])
    logits = torch.stack([step.logits for step in steps])
    labels = torch.stack([step.labels for step in steps])
    nll = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none").view_as(labels)
    of_samples = {"accuracy": logits.argmax(-1) == labels, "nll": nll}
    alike = [step.similarities for step in steps if step.similarities is not None]
    if alike:
        said = carried(torch.cat(alike), labels.flatten())
        of_samples |= {f"soft_{name}": value.view_as(labels) for name, value in said.items()}
    means = torch.stack([value.double().mean(1) for value in of_samples.values()], dim=1)
    table = torch.cat([losses.view(len(steps), -1), means, excess(logits, labels)], dim=1)
    return _Measured([*steps[0].losses, *of_samples], labels.shape[1], table)


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
    session.method.start_epoch(position.epoch)
    clock = _Clock(position)
    reported = time.perf_counter()
    samples = session.batches.samples(position.epoch, position.step)
    views = (
        session.batches.views(position.epoch, position.step)
        if session.method.needs_view
        else [None] * len(samples)
    )
    with session.stepping():
        # Closed at once when stopped early: whoever decodes ahead must not be left to the garbage collector.
        with closing(session.batches.epoch(position.epoch, position.step)) as batches:
            taken = zip(batches, samples, views, strict=True)
            for number, ((x, y), index, view) in enumerate(taken, position.step + 1):
                with _placed(meter, f"in epoch {position.epoch + 1}, step {number}"):
                    step = session.step(x, y, index, view)
                session.schedule.step()
                meter.add(step, y)
                if time.perf_counter() - reported >= REPORT_SECONDS:
                    _catch_up(session, meter, clock)
                    reported = time.perf_counter()
                    on_report()
                if save.is_due():
                    _catch_up(session, meter, clock)
                    save()
                    clock.skip()
                if should_stop():
                    break
        _catch_up(session, meter, clock)
    if position.step < len(session.batches):
        raise Stopped("stopped")


def _catch_up(session: Session, meter: Meter, clock: "_Clock") -> None:
    """Wait for the device and have the position say how far it is; what went wrong unnoticed is raised."""
    meter.flush()
    with _placed(meter, f"by epoch {meter.position.epoch + 1}, step {meter.position.step}"):
        session.method.settle()
    clock.read()


class _Clock:
    """Adds the time that passes to a position's seconds."""

    def __init__(self, position: Position) -> None:
        self.position = position
        self.skip()

    def read(self) -> None:
        before = self.last
        self.skip()
        self.position.spend(self.last - before)

    def skip(self) -> None:
        """What has passed since the last reading does not count."""
        self.last = time.perf_counter()


@contextmanager
def _placed(meter: Meter, where: str) -> Iterator[None]:
    """Say of what goes wrong with an explanation where it was noticed."""
    try:
        yield
    except ExplanationError as error:
        meter.flush()  # a loss that overflowed in the step before is the cause, and the better message
        raise ExplanationError(f"{error} ({where})") from error


def diverged(what: str, position: Position) -> DivergedError:
    """The error for numbers that are no longer finite."""
    return DivergedError(f"{what} {position}: try a lower --lr")
