"""What a step of each method costs relative to plain training, on this machine."""

import itertools
import statistics
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import torch

from selftaught.training import seeds, teachers
from selftaught.training.config import RunConfig
from selftaught.training.presets import data_of
from selftaught.training.session import Session, start

WARM_UP_STEPS = 3


@dataclass(frozen=True)
class StepCost:
    """Of one method: the median seconds of an optimiser step, and the median of its ratios to plain training."""

    method: str
    seconds: float
    relative: float


def measure(configs: Sequence[RunConfig], steps: int = 60, seconds: float = 10.0) -> list[StepCost]:
    """Cost of a step of each configuration against cross-entropy on the same model and batches.

    The methods take steps in turn, each on a fresh batch, so that whatever else the machine does meets all of
    them alike; each ratio compares neighbours in time, and its median is reported. Methods with a warm-up are
    measured after it. Data loading is not part of a step.

    Args:
        configs: one per method, equal in data, model and batch size.
        steps: measured steps per method; fewer, but at least 5, if `seconds` are over before.
        seconds: the time to spend on measuring, in all.
    """
    plain = configs[0].model_copy(update={"method": "ce", "settings": {}})
    with seeds.contained(plain.threads), ExitStack() as stack:
        runners = [stack.enter_context(closing(Runner(config))) for config in (plain, *configs)]
        for _ in range(WARM_UP_STEPS):
            for runner in runners:
                runner.step()
        rounds: list[list[float]] = []
        begun = time.perf_counter()
        while len(rounds) < steps and (len(rounds) < 5 or time.perf_counter() - begun < seconds):
            rounds.append(_round(runners, first=len(rounds) % len(runners)))
    base, *others = zip(*rounds, strict=True)
    return [
        StepCost(
            config.method,
            statistics.median(times),
            # Plain training is the unit; two medians of it would differ by noise.
            1.0
            if config.method == "ce"
            else statistics.median(t / b for t, b in zip(times, base, strict=True)),
        )
        for config, times in zip(configs, others, strict=True)
    ]


def _round(runners: Sequence["Runner"], first: int) -> list[float]:
    """A step of each, beginning with another one every time: who follows whom must not favour anyone."""
    order = [*range(first, len(runners)), *range(first)]
    times = {index: runners[index].step() for index in order}
    return [times[index] for index in range(len(runners))]


class Runner:
    """Endless steps of one method, as they are in epoch `epoch` (from 0); by default past its warm-up."""

    def __init__(self, config: RunConfig, epoch: int | None = None) -> None:
        images = data_of(config)
        self.session: Session = start(config, images, teachers.untrained(config, images))
        self.session.train_mode()
        self.session.objective.start_epoch(config.warmup if epoch is None else epoch)
        self._batches = self._endless()

    def step(self) -> float:
        """Take one step; returns its seconds."""
        x, y = next(self._batches)
        session = self.session
        self.wait()
        begun = time.perf_counter()
        session.optimizer.zero_grad()
        session.fabric.backward(session.objective.step(x, y).loss)
        session.optimizer.step()
        self.wait()
        return time.perf_counter() - begun

    def _endless(self) -> Generator[tuple[torch.Tensor, torch.Tensor], None, None]:
        for epoch in itertools.count():
            yield from self.session.batches.epoch(epoch)

    def close(self) -> None:
        """End whoever prepares batches."""
        self._batches.close()

    def wait(self) -> None:
        """Until the device is done."""
        if self.session.fabric.device.type == "cuda":
            torch.cuda.synchronize(self.session.fabric.device)
