"""What the differences between methods allow to say: right and wrong answers by seed in, verdicts out."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from selftaught.statistics.paired import Interval, Test, holm, paired_test, resampled_test

LEVEL = 0.05
"""Corrected p-values below it are called a difference."""

CLEAR = ("better", "worse")
"""The verdicts that call it one."""

Name = TypeVar("Name", bound=Hashable)

Right = Mapping[Name, Mapping[int, np.ndarray]]
"""By method and seed, which test images the trial got right (N,); a trial without predictions is missing."""


def verdict(gain: float, p: float | None) -> str:
    """What a corrected p-value, None for one seed, allows to say of a gain.

    >>> verdict(0.2, 0.04), verdict(-0.2, 0.04), verdict(0.2, 0.06), verdict(0.2, None)
    ('better', 'worse', 'no clear difference', 'one seed: no verdict')
    """
    if p is None:
        return "one seed: no verdict"  # its interval knows nothing of other seeds
    if p >= LEVEL:
        return "no clear difference"
    return "better" if gain > 0 else "worse"


@dataclass(frozen=True)
class Difference:
    """The accuracy of one method minus that of another, fractions, with its 95 % interval over `pairs` seeds.

    The interval is not corrected. `p` is, after Holm, over the `among` questions that were asked; `p_alone` is the
    p-value before correction. Both are None for one seed. `verdict` is "better", "worse", "no clear difference" or
    "one seed: no verdict".
    """

    interval: Interval
    pairs: int
    p: float | None
    p_alone: float | None
    among: int
    verdict: str

    @property
    def is_clear(self) -> bool:
        """Whether the verdict calls it a difference."""
        return self.verdict in CLEAR

    def of_errors(self) -> "Difference":
        """The same difference in the share of wrong answers, where lower is better; the verdict stays."""
        estimate, low, high = (0.0 - value for value in self.interval)
        return replace(self, interval=Interval(estimate, high, low))


def differences(
    right: Right[Name], questions: Sequence[tuple[Name, Name]], test_to_train: float | None = None
) -> list[Difference | None]:
    """The answers to the questions, in their order; None where the two methods have no seed in common.

    Trials are paired by seed and test images by position. P-values are corrected after Holm over all questions: one
    that cannot be answered yet counts as well, with p = 1, so that what is run later can make a verdict clear and
    never takes one back.

    Args:
        right: the answers of every method that is asked about.
        questions: methods with what they are compared with.
        test_to_train: the number of test images over that of training images, where every seed has its own split.
    """
    found = list(_tested(right, questions, test_to_train))
    corrected = holm([1.0 if test is None or test.p is None else test.p for _, test in found])
    made: list[Difference | None] = []
    for (pairs, test), p_holm in zip(found, corrected, strict=True):
        if test is None:
            made.append(None)
            continue
        p = None if test.p is None else p_holm
        made.append(Difference(test.interval, pairs, p, test.p, len(questions), verdict(test.estimate, p)))
    return made


def _tested(
    right: Right[Name], questions: Sequence[tuple[Name, Name]], test_to_train: float | None
) -> Iterator[tuple[int, Test | None]]:
    """For each question the number of common seeds, and the test over them."""
    for method, base in questions:
        ours, theirs = right[method], right[base]
        by_seed = [ours[seed].astype(float) - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
        if test_to_train is not None and len(by_seed) > 1:
            yield len(by_seed), resampled_test(by_seed, test_to_train)
        else:
            yield len(by_seed), paired_test(by_seed, np.zeros_like(by_seed)) if by_seed else None
