"""What a run will take, from a few measured steps."""

import itertools
import sys
import time
from contextlib import closing
from dataclasses import dataclass

import psutil
import torch

from selftaught.files.config import RunConfig
from selftaught.methods import Method
from selftaught.training import seeds
from selftaught.training.cost import Runner, window

LEAST_STEPS, MOST_STEPS = 3, 40
"""Measured steps, after one that is not."""

EVALUATED = 4
"""Batches that are evaluated; with them whoever decodes is started, as it is for each evaluation."""

LONGEST = 5.0
"""Seconds after which fewer steps have to do."""


@dataclass(frozen=True)
class Estimate:
    """Of one run: `seconds` from its first step to its end, `memory` in bytes at its peak, of the GPU if it uses one.

    `explained` says which layer Grad-CAM will explain, None where nothing or no layer is explained.
    """

    seconds: float
    memory: int
    explained: str | None


def estimate(config: RunConfig) -> Estimate:
    """Take a few steps as configured and reckon up.

    The machine is taken to go on as fast as it was; a first look at memory counts everything that this process holds.
    """
    with seeds.contained(config.threads):
        first = _first_seconds(config)
        with closing(Runner(config)) as runner:
            step = _seconds(runner)
            session, images = runner.session, runner.session.images
            epochs = sum(first) + (config.epochs - len(first)) * step
            evaluated = (
                config.epochs * len(images.val_labels) + len(images.val_labels) + len(images.test_labels)
            )
            if config.head == "probe":
                evaluated += len(images.train_labels)
            if session.method.head_only:
                epochs = 0.0
            seconds = len(session.batches) * epochs + evaluated * _seconds_per_evaluated_image(runner)
            return Estimate(seconds, _memory(config), _explained(session.method))


def _explained(method: Method) -> str | None:
    """The layer that Grad-CAM explains, in a few words."""
    plan = method.plan
    if plan is None:
        return None
    doubt = f"; {plan.note}" if plan.note else ""
    return f"{plan.layer} ({plan.head} head{doubt})"


def _first_seconds(config: RunConfig) -> list[float]:
    """Seconds of a step in each of the epochs that are not like the others.

    Those of the warm-up, and the first one past it where explanations are kept: in it every image is explained.
    """
    first: list[float] = []
    if config.warmup:
        with closing(Runner(config, epoch=0)) as runner:
            first += config.warmup * [_seconds(runner)]
    if config.refresh < 1:
        exact = config.model_copy(update={"settings": config.settings | {"refresh": 1.0}})
        with closing(Runner(exact, recorded=False)) as runner:
            first.append(_seconds(runner))
    return first


def _seconds(runner: Runner) -> float:
    """Seconds from one step to the next, whatever they are spent on.

    The first step, which prepares much, does not count, and of the others not the slowest one: it may have waited for
    something that is done once, such as a process that decodes to be started, and a run is not made of that.
    """
    runner.step()
    size = window(runner.session.config.refresh)
    stamps = [time.perf_counter()]

    def goes_on() -> bool:
        steps, elapsed = len(stamps) - 1, stamps[-1] - stamps[0]
        return (
            steps < 2
            or steps % size > 0  # the steps of a window are not alike
            or (steps < LEAST_STEPS and elapsed < LONGEST)
            # Some more where steps are quick: who decodes ahead has to be caught up with.
            or (steps < MOST_STEPS and elapsed < 1.0)
        )

    while goes_on():
        runner.step()
        stamps.append(time.perf_counter())
    ends = stamps[::size]
    windows = sorted(after - before for before, after in itertools.pairwise(ends))
    counted = windows[:-1] or windows
    return sum(counted) / (size * len(counted))


@torch.no_grad()
def _seconds_per_evaluated_image(runner: Runner) -> float:
    session = runner.session
    session.model.eval()
    begun, seen = time.perf_counter(), 0
    batches = session.evaluation_batches(session.images.test_images, session.images.test_labels)
    with closing(batches.epoch(0)) as few:
        for x, y in itertools.islice(few, EVALUATED):
            session.model(x)
            seen += len(y)
    runner.wait()
    return (time.perf_counter() - begun) / seen


def _memory(config: RunConfig) -> int:
    if config.device == "cuda":
        return torch.cuda.max_memory_reserved()  # with what recorded steps hold on to
    try:
        import resource
    except ImportError:  # not on Windows
        return int(psutil.Process().memory_info().rss)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
