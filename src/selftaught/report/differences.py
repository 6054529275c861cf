"""What the methods of a comparison are compared with, and what their differences allow to say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selftaught.files.catalogue import PROBE
from selftaught.statistics.paired import Interval, Test, holm, paired_test, resampled_test

LEVEL = 0.05
"""Corrected p-values below it are called a difference."""

CLEAR = ("better", "worse")
"""The verdicts that call it one."""

Correct = Mapping[str, Mapping[int, np.ndarray]]
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
    """The accuracy of `method` minus that of `base`, fractions, with its 95 % interval over `pairs` seeds.

    The interval is not corrected. `p` is, after Holm, for all comparisons that are `planned`; None for one seed.
    """

    method: str
    base: str
    pairs: int
    interval: Interval
    p: float | None

    @property
    def verdict(self) -> str:
        """What can be said: "better", "worse", "no clear difference" or "one seed: no verdict"."""
        return verdict(self.interval.estimate, self.p)


def planned(methods: Sequence[str], baseline: str) -> list[tuple[str, str]]:
    """What is compared with what: every method with the baseline, and LE with all others, its controls among them.

    The linear probe is none of them: nobody asked for its row, which must not make the answers to what was asked any
    harder. What it differs by is a question of its own.

    >>> planned(["ce", "ls", "le-uniform", "le"], "ce")
    [('ls', 'ce'), ('le-uniform', 'ce'), ('le', 'ce'), ('le', 'ls'), ('le', 'le-uniform')]
    >>> planned(["ce", "le", "probe"], "ce")
    [('le', 'ce')]
    """
    others = [method for method in methods if method not in (baseline, PROBE)]
    of_le = [("le", base) for base in others if base != "le"] if "le" in others else []
    return [*((method, baseline) for method in others), *of_le]


def differences(
    correct: Correct, pairs: Sequence[tuple[str, str]], test_to_train: float | None = None
) -> list[Difference]:
    """Those of the planned `pairs` that have common seeds, in their order.

    P-values are corrected for all pairs: one that cannot be compared yet counts as well, with p = 1, so that what is
    run later can make a verdict clear and never takes one back.

    Args:
        correct: of every method.
        pairs: methods with what they are compared with.
        test_to_train: the number of test images over that of training images, where every seed has its own split.
    """
    found = list(_tested(correct, pairs, test_to_train))
    p_values = holm([1.0 if test is None or test.p is None else test.p for _, test in found])
    return [
        Difference(method, base, seeds, test.interval, None if test.p is None else p)
        for (method, base), (seeds, test), p in zip(pairs, found, p_values, strict=True)
        if test is not None
    ]


def _tested(
    correct: Correct, pairs: Sequence[tuple[str, str]], test_to_train: float | None
) -> Iterator[tuple[int, Test | None]]:
    """For each pair the number of common seeds, and the test over them."""
    for method, base in pairs:
        ours, theirs = correct[method], correct[base]
        by_seed = [ours[seed].astype(float) - theirs[seed] for seed in ours if seed in theirs]
        if test_to_train is not None and len(by_seed) > 1:
            yield len(by_seed), resampled_test(by_seed, test_to_train)
        else:
            yield len(by_seed), paired_test(by_seed, np.zeros_like(by_seed)) if by_seed else None
