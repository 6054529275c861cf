"""One epoch of training."""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from selftaught.errors import ExplanationError, SelftaughtError
from selftaught.objectives import Step
from selftaught.training.session import Session

REPORT_SECONDS = 0.25
"""Losses are read from the device this often; reading one at every step would make a GPU wait for the CPU."""


class Stopped(SelftaughtError):  # noqa: N818  (not a mistake of anyone)
    """The run was asked to stop; it is saved and can be resumed."""


@dataclass
class Position:
    """How far a run has come, and the sums of the current epoch."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    images: int = 0
    seen: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Loss, its terms and the accuracy of the training steps, as means over the epoch's images so far."""
        return {name: total / self.seen for name, total in self.sums.items()} if self.seen else {}

    def next_epoch(self) -> None:
        """Forget the epoch's sums and go to the next."""
        self.epoch, self.step, self.seen, self.sums = self.epoch + 1, 0, 0, {}


class Meter:
    """Adds steps to a `Position` without making the device wait, and notices a loss that is not finite."""

    def __init__(self, position: Position) -> None:
        self.position = position
        self._pending: list[dict[str, torch.Tensor]] = []
        self._sizes: list[int] = []

    def add(self, step: Step, y: torch.Tensor) -> None:
        """Note one optimiser step."""
        terms = {f"loss_{name}": value for name, value in step.terms.items()}
        accuracy = (step.logits.argmax(1) == y).float().mean()
        self._pending.append({"loss": step.loss.detach(), **terms, "accuracy": accuracy})
        self._sizes.append(len(y))

    def flush(self) -> None:
        """Bring the position up to date; raises `SelftaughtError` at the first loss that is NaN or infinite."""
        position = self.position
        for values, size in zip(_read(self._pending), self._sizes, strict=True):
            position.step += 1
            if not math.isfinite(values["loss"]):
                where = f"epoch {position.epoch + 1}, step {position.step}"
                raise SelftaughtError(f"the loss became {values['loss']} in {where}: try a lower --lr")
            for name, value in values.items():
                position.sums[name] = position.sums.get(name, 0.0) + value * size
            position.seen += size
            position.images += size
        self._pending, self._sizes = [], []


def train_epoch(
    session: Session,
    position: Position,
    on_report: Callable[[], None],
    should_stop: Callable[[], bool],
) -> None:
    """Train from `position` to the end of its epoch; raises `Stopped`, with `position` exact, if asked to."""
    meter = Meter(position)
    session.model.train()
    session.objective.start_epoch(position.epoch)
    steps = enumerate(session.batches.epoch(position.epoch))
    reported = started = time.perf_counter()
    for index, (x, y) in itertools.islice(steps, position.step, None):
        session.optimizer.zero_grad()
        step = _step(session, meter, index, x, y)
        session.fabric.backward(step.loss)
        session.optimizer.step()
        meter.add(step, y)
        now = time.perf_counter()
        if now - reported >= REPORT_SECONDS:
            meter.flush()
            position.seconds, reported, started = position.seconds + now - started, now, now
            on_report()
        if should_stop():
            break
    meter.flush()
    position.seconds += time.perf_counter() - started
    if position.step < len(session.batches):
        raise Stopped("stopped")
    session.schedule.step()


def _step(session: Session, meter: Meter, index: int, x: torch.Tensor, y: torch.Tensor) -> Step:
    try:
        return session.objective.step(x, y)
    except ExplanationError as error:
        meter.flush()  # a loss that overflowed in the step before is the cause, and the better message
        where = f"epoch {meter.position.epoch + 1}, step {index + 1}"
        raise ExplanationError(f"{error} (in {where})") from error


def _read(pending: list[dict[str, torch.Tensor]]) -> list[dict[str, float]]:
    """Many device scalars with one transfer."""
    if not pending:
        return []
    flat: list[Any] = torch.stack([v.float() for values in pending for v in values.values()]).tolist()
    numbers = iter(flat)
    return [{name: next(numbers) for name in values} for values in pending]
