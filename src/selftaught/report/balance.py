"""Where accuracy alone misleads: uneven classes, and classes that a network never names rightly."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from selftaught.files.evidence import Classes

UNEVEN = 3.0
"""Classes are uneven where the largest has more than so many times the images of the smallest."""

_NAMED = 3
"""Classes that are never found are named up to so many."""


def extremes(sizes: Sequence[int] | np.ndarray | None) -> tuple[int, int] | None:
    """The largest and the smallest class of uneven ones; None where they are not, or where nobody knows.

    Classes without images do not count: nothing can be right or wrong about them.

    >>> extremes([52, 12, 0, 40]), extremes([3, 1]), extremes(None)
    ((0, 1), None, None)
    """
    there = [] if sizes is None else [k for k, images in enumerate(sizes) if images > 0]
    if sizes is None or not there:
        return None
    largest, smallest = (choose(there, key=lambda k: sizes[k]) for choose in (max, min))
    return (largest, smallest) if sizes[largest] > UNEVEN * sizes[smallest] else None


def uneven(sizes: Sequence[int] | np.ndarray, names: Sequence[str]) -> dict[str, Any] | None:
    """The names and sizes of the largest and the smallest class; None where they are not uneven."""
    found = extremes(sizes)
    if found is None:
        return None
    most, fewest = ((names[k], int(sizes[k])) for k in found)
    return {"most": most, "fewest": fewest, "total": int(sum(sizes))}


def of_classes(found: Mapping[str, Iterable[Classes]], names: Sequence[str]) -> dict[str, Any]:
    """Whether classes are uneven, and which have test images of which some trial finds none, by which methods."""
    trials = {method: list(of) for method, of in found.items()}
    sizes = next((one.images for of in trials.values() for one in of if one.images), None)
    lost: dict[int, list[str]] = {}
    for method, of in trials.items():
        for k in sorted({k for one in of for k, value in enumerate(one.accuracies) if value == 0}):
            lost.setdefault(k, []).append(method)
    order = sorted(lost, key=lambda k: (-len(lost[k]), k))  # those that most methods lose first
    named = [(names[k], lost[k]) for k in order[:_NAMED]]
    return {
        "uneven": uneven(sizes, names) if sizes else None,
        "lost": {"named": named, "more": len(order) - len(named)} if lost else None,
    }


def misleads(found: Iterable[Classes]) -> bool:
    """Whether accuracy alone would mislead: uneven classes, or some of which a trial finds no image."""
    trials = list(found)
    sizes = next((one.images for one in trials if one.images), None)
    return extremes(sizes) is not None or any(value == 0 for one in trials for value in one.accuracies)
