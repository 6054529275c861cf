"""Would more photographs help? What the linear probe makes of a part of the training images and of all of them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selftaught.files.results import Record


@dataclass(frozen=True)
class Point:
    """The probe on so many training images: fractions, means over trials, with the lowest and the highest trial."""

    images: int
    accuracy: float
    lowest: float
    highest: float
    balanced_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class Learning:
    """The points from few images to all of them, at least two, over so many trials; each has twice the last one's."""

    points: tuple[Point, ...]
    trials: int


def another_doubling(shares: Sequence[float]) -> tuple[float, float]:
    """What one more doubling may bring, in points, by two rules of thumb; of accuracies in % after each doubling.

    By the one the mistakes go down by the factor that they last went down by, as where they follow a power of the
    number of images; by the other the gain shrinks again as it last did.

    >>> low, high = another_doubling([58, 66, 70])
    >>> round(low, 2), round(high, 2)
    (2.0, 3.53)
    >>> another_doubling([58, 60, 60])
    (0.0, 0.0)
    """
    before, last = shares[-2:]
    gain = last - before
    if gain <= 0:
        return 0.0, 0.0
    by_power = (100 - last) * gain / (100 - before)
    earlier = before - shares[-3] if len(shares) > 2 else gain
    by_gain = gain * min(1.0, gain / earlier) if earlier > 0 else gain
    return min(by_power, by_gain), max(by_power, by_gain)


def learning(records: Sequence[Record]) -> Learning | None:
    """The curve of the trials that measured one; None where fewer than two points are known.

    Trials with fewer or more points than most are left out.
    """
    runs = [run.result.learning for run in records if len(run.result.learning) > 1]
    if not runs:
        return None
    usual, _ = Counter(map(len, runs)).most_common(1)[0]
    runs = [points for points in runs if len(points) == usual]
    made = []
    for of in zip(*runs, strict=True):
        accuracies = [point.accuracy for point in of]
        balanced = [point.balanced_accuracy for point in of if point.balanced_accuracy is not None]
        made.append(
            Point(
                round(float(np.mean([point.images for point in of]))),
                float(np.mean(accuracies)),
                min(accuracies),
                max(accuracies),
                math.fsum(balanced) / len(balanced) if len(balanced) == len(of) else None,
                float(np.mean([point.seconds for point in of])),
            )
        )
    return Learning(tuple(made), len(runs))
