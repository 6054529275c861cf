"""Where accuracy alone misleads: uneven classes, and classes that a network never names rightly."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from selftaught.errors import shown
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
    if sizes is None:
        return None
    there = [k for k, images in enumerate(sizes) if images > 0]
    if not there:
        return None
    largest, smallest = (choose(there, key=lambda k: sizes[k]) for choose in (max, min))
    return (largest, smallest) if sizes[largest] > UNEVEN * sizes[smallest] else None


def described(sizes: Sequence[int] | np.ndarray, names: Sequence[str], part: str) -> str | None:
    """How uneven classes are, in words; None where they are not.

    >>> described([52, 12, 40], ["t-shirt", "hat", "bag"], "test")
    't-shirt has 52 of 104 test images, hat 12'
    """
    found = extremes(sizes)
    if found is None:
        return None
    largest, smallest = found
    total = int(sum(sizes))
    return (
        f"{shown(names[largest])} has {sizes[largest]:,} of {total:,} {part} images, "
        f"{shown(names[smallest])} {sizes[smallest]:,}"
    )


def remark(found: Mapping[str, Iterable[Classes]], names: Sequence[str]) -> str | None:
    """Why accuracy alone would mislead, in one sentence; None where it does not.

    Args:
        found: what the trials of each method say of the classes.
        names: of the classes.
    """
    trials = {method: list(of) for method, of in found.items()}
    sizes = next((one.images for of in trials.values() for one in of if one.images), None)
    uneven = described(sizes, names, "test") if sizes else None
    lost = _never_found(trials, names)
    if uneven:
        also = f"; no image of {lost} is found in some trial" if lost else ""
        return (
            f"{uneven}{also}: accuracy mostly says how the frequent classes fare, balanced accuracy counts all classes "
            "alike, so look at both."
        )
    if lost:
        return (
            f"No image of {lost} is found in some trial: accuracy alone hides that, so look at balanced accuracy and "
            "macro F1 as well, which count all classes alike."
        )
    return None


def _never_found(trials: Mapping[str, Sequence[Classes]], names: Sequence[str]) -> str | None:
    """Which classes have test images of which some trial finds none, and by which methods."""
    lost: dict[int, list[str]] = {}
    for method, of in trials.items():
        for k in sorted({k for one in of for k, value in enumerate(one.accuracies) if value == 0}):
            lost.setdefault(k, []).append(method)
    if not lost:
        return None
    # Those that most methods lose first.
    order = sorted(lost, key=lambda k: (-len(lost[k]), k))
    named = [f"{shown(names[k])} ({', '.join(lost[k])})" for k in order[:_NAMED]]
    more = len(order) - len(named)
    also = [f"{more} more class{'es' if more > 1 else ''}"] if more else []
    texts = [*named, *also]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
