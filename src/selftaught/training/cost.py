"""What a step of each method costs relative to plain training, on this machine."""

import itertools
import statistics
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import torch

from selftaught.activities import OnActivity, activity, nobody
from selftaught.files.config import RunConfig
from selftaught.training import memory, seeds, teachers
from selftaught.training.presets import data_of
from selftaught.training.recording import UNRECORDED
from selftaught.training.session import Session, start

WARM_UP_STEPS = 3


@dataclass(frozen=True)
class StepCost:
    """Of one method: the median seconds of an optimiser step, and the median of its ratios to plain training.

    Of a method that explains a share of its batches (`refresh`) both are of the mean over a `window` of steps.
    `memory` is the peak of what torch allocates for training with it, in bytes, weights and teachers included, and
    `relative_memory` its ratio to plain training's; None where they were not asked for.
    """

    method: str
    seconds: float
    relative: float
    memory: int | None = None
    relative_memory: float | None = None


def measure(
    configs: Sequence[RunConfig],
    steps: int = 60,
    seconds: float = 10.0,
    on_activity: OnActivity = nobody,
) -> list[StepCost]:
    """Cost of a step of each configuration against cross-entropy on the same model and batches.

    The methods take steps in turn, each on a fresh batch, so that whatever else the machine does meets all of
    them alike; each ratio compares neighbours in time, and its median is reported. Methods with a warm-up are
    measured after it, those that keep explanations once they have them. Data loading is not part of a step.

    Args:
        configs: one per method, equal in data, model and batch size.
        steps: measured steps per method; fewer, but at least 5 and the longest `window`, if `seconds` are over before.
        seconds: the time to spend on measuring, in all.
        on_activity: hears how far it has come.
    """
    plain = _plain(configs)
    others = [config for config in configs if config.method != plain.method]
    with (
        seeds.contained(plain.threads),
        ExitStack() as stack,
        activity(on_activity, "timing steps of each method") as doing,
    ):
        runners = [
            stack.enter_context(closing(Runner(config, on_activity=doing))) for config in (plain, *others)
        ]
        for _ in range(WARM_UP_STEPS):
            for runner in runners:
                runner.step()
        longest = max(window(config.refresh) for config in configs)
        steps, least = max(steps, longest), max(5, longest)
        rounds: list[list[float]] = []
        begun = time.perf_counter()
        while len(rounds) < steps and (len(rounds) < least or time.perf_counter() - begun < seconds):
            rounds.append(_round(runners, first=len(rounds) % len(runners)))
            doing.advance(len(rounds), steps)
    base, *times = zip(*rounds, strict=True)
    of_others = iter(times)
    return [_cost(c, base if c.method == plain.method else next(of_others), base) for c in configs]


@dataclass(frozen=True)
class Relative:
    """By trial id: the relative time of a step, or what went wrong with it."""

    times: dict[str, float]
    errors: dict[str, str]


def relative(
    configs: Sequence[RunConfig],
    steps: int = 60,
    seconds: float = 10.0,
    on_activity: OnActivity = nobody,
) -> Relative:
    """What `measure` finds of these configurations, one by one where not all of them can be measured together."""
    try:
        measured = measure(configs, steps=steps, seconds=seconds, on_activity=on_activity)
        return Relative({c.trial_id: m.relative for c, m in zip(configs, measured, strict=True)}, {})
    except Exception as error:  # memory for all of them at once, a network of the user's own
        message = f"{type(error).__name__}: {error}"
    # Past the handler: until its end the error keeps all that was in memory when it was raised.
    if len(configs) == 1:
        return Relative({}, {configs[0].trial_id: message})
    alone = [relative([config], steps, seconds, on_activity) for config in configs]
    return Relative(
        {trial: time for one in alone for trial, time in one.times.items()},
        {trial: error for one in alone for trial, error in one.errors.items()},
    )


def _cost(config: RunConfig, times: Sequence[float], base: Sequence[float]) -> StepCost:
    size = window(config.refresh)
    sums, base_sums = _sums(times, size), _sums(base, size)
    seconds = statistics.median(total / size for total in sums)
    ratios = (ours / theirs for ours, theirs in zip(sums, base_sums, strict=True))
    return StepCost(config.method, seconds, statistics.median(ratios))


def with_memory(
    costs: Sequence[StepCost], configs: Sequence[RunConfig], on_activity: OnActivity = nobody
) -> list[StepCost]:
    """The same, what `measure` found of these configurations, with the peak memory of each.

    Apart from the times, which they would disturb: on CPU memory is measured under torch's profiler.
    """
    plain = _plain(configs)
    with seeds.contained(plain.threads), activity(on_activity, "measuring memory", len(configs)) as doing:
        base, found = _peak(plain), []
        for config in configs:
            found.append(base if config.method == "ce" else _peak(config))
            doing.advance(len(found))
    return [
        replace(cost, memory=peak, relative_memory=peak / base)
        for cost, peak in zip(costs, found, strict=True)
    ]


def _plain(configs: Sequence[RunConfig]) -> RunConfig:
    return configs[0].model_copy(update={"method": "ce", "settings": {}})


def _peak(config: RunConfig) -> int:
    with ExitStack() as stack:

        def prepare() -> None:
            # What a recording holds on to does not count as allocated, though it takes as much.
            runners.append(stack.enter_context(closing(Runner(config, recorded=False))))
            runners[0].step()  # the optimiser's state is there from now on

        def steps() -> None:
            for _ in range(window(config.refresh)):
                runners[0].step()

        runners: list[Runner] = []
        return memory.peak(steps, config.device, prepare)


def window(refresh: float) -> int:
    """The fewest steps of which a share `refresh` is explained, to 2 %: with less the median step would be a plain one.

    >>> [window(refresh) for refresh in (1.0, 0.5, 0.3, 0.25, 0.1)]
    [1, 2, 10, 4, 10]
    """
    return next(n for n in itertools.count(1) if abs(round(refresh * n) - refresh * n) <= 0.02 * refresh * n)


def _sums(times: Sequence[float], size: int) -> list[float]:
    """Over windows of `size` steps; the last ones are left out where they make none."""
    return [sum(times[first : first + size]) for first in range(0, len(times) - size + 1, size)]


def _round(runners: Sequence["Runner"], first: int) -> list[float]:
    """A step of each, beginning with another one every time: who follows whom must not favour anyone."""
    order = [*range(first, len(runners)), *range(first)]
    times = {index: runners[index].step() for index in order}
    return [times[index] for index in range(len(runners))]


class Runner:
    """Endless steps of one method, as they are in epoch `epoch` (from 0); by default past its warm-up.

    The images of every step go by the same numbers: whoever keeps something of each knows them all after the first.
    Steps that a run records and replays are recorded from the start, unless `recorded` is false.
    """

    def __init__(
        self,
        config: RunConfig,
        epoch: int | None = None,
        recorded: bool = True,
        on_activity: OnActivity = nobody,
    ) -> None:
        images = data_of(config, on_activity=on_activity)
        teacher = teachers.untrained(config, images)
        self.session: Session = start(config, images, teacher, on_activity, recorded)
        self.session.train_mode()
        self.session.method.start_epoch(config.warmup if epoch is None else epoch)
        self._batches = self._endless()
        if self.session.recorder is not None:
            for _ in range(UNRECORDED + 1):
                self.step()

    def step(self) -> float:
        """Take one step; returns its seconds."""
        with self.session.stepping():
            x, y = next(self._batches)
            samples = torch.arange(len(y))
            self.wait()
            begun = time.perf_counter()
            self.session.step(x, y, samples)
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
