"""The numbers of a result, computed again from predictions: without torch, and not with the trainer's own code.

How far they may be apart: sums are rounded differently (`ROUNDING`), of equal largest logits another one may be taken,
and a confidence that lies on the edge of a bin of the ECE, to rounding, may be counted in either.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

BINS = 15
"""Of the expected calibration error."""

ROUNDING = 1e-5
"""By how much NLL (relative to it, where it is above 1) and ECE may differ through rounding alone."""

MANY_CLASSES = 20
"""From so many classes on the top-5 accuracy is measured."""

_AT_ONCE = 2**21
"""Logits that are looked at in one go."""

_FLOAT32, _HALF = 5e-7, 2.0**-11
"""Relative roundings, of which the first is a few units in the last place."""


@dataclass(frozen=True)
class Judged:
    """What is known of each of N predictions.

    Attributes:
        right: bool (N,), whether the largest logit is the label's.
        nll: float64 (N,), nats.
        brier: float64 (N,), the sum of (p − y)² over the classes, in 0..2.
        confidence: float64 (N,), the largest probability.
        unsure: float64 (N,), by how much the confidence may be wrong.
        precision: of `nll`, relative.
        ties: how many have several largest logits.
    """

    right: np.ndarray
    nll: np.ndarray
    brier: np.ndarray
    confidence: np.ndarray
    unsure: np.ndarray
    precision: float = ROUNDING
    ties: int = 0


@dataclass(frozen=True)
class Scores:
    """Accuracy and ECE as fractions and NLL in nats, each with how far another computation may be from it."""

    accuracy: tuple[float, float]
    nll: tuple[float, float]
    ece: tuple[float, float]

    def differences(self, told: Mapping[str, float | None]) -> Iterator[str]:
        """What of the numbers that are `told` (None for one that is not) does not follow from the predictions."""
        return _differences(told, {name: getattr(self, name) for name in told})


@dataclass(frozen=True)
class ByClass:
    """What is known of C classes; the fractions each with how far another computation may be from it.

    Attributes:
        images: int64 (C,), those of each class.
        right: int64 (C,), how many of them are right.
        balanced_accuracy: the mean of the classes' accuracies.
        macro_f1: the mean of their F1.
        top5_accuracy: None for fewer than `MANY_CLASSES` classes.
    """

    images: np.ndarray
    right: np.ndarray
    balanced_accuracy: tuple[float, float]
    macro_f1: tuple[float, float]
    top5_accuracy: tuple[float, float] | None

    def differences(self, told: Mapping[str, float | None]) -> Iterator[str]:
        """As of `Scores`."""
        return _differences(told, {name: getattr(self, name) for name in told})


def _differences(
    told: Mapping[str, float | None], of_predictions: Mapping[str, tuple[float, float] | None]
) -> Iterator[str]:
    for name, value in told.items():
        known = of_predictions[name]
        if value is None:
            continue
        if known is None:
            yield f"it has {name}, which is not measured of so few classes"
        elif not abs(value - known[0]) <= known[1]:
            yield f"its {name} is {value:.6g}, of the predictions {known[0]:.6g}"


@np.errstate(all="ignore")  # records may hold numbers of any size
def judged(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> Judged:
    """What is known of each prediction, from logits float32 (N, C) that are divided by the temperature first."""
    parts = list(_parts(logits, labels, temperature))
    right, nll, brier, confidence, ties = (np.concatenate(of) for of in zip(*parts, strict=True))
    # What the trainer calls a confidence is a float32.
    return Judged(right, nll, brier, confidence, _FLOAT32 * confidence, ties=int(ties.sum()))


def _parts(logits: np.ndarray, labels: np.ndarray, temperature: float) -> Iterator[tuple[np.ndarray, ...]]:
    size = max(1, _AT_ONCE // logits.shape[1])
    for start in range(0, max(len(labels), 1), size):
        some = logits[start : start + size]
        of = labels[start : start + size, None]
        largest = some.max(axis=1, keepdims=True)
        ties = (some == largest).sum(axis=1) > 1
        right = some.argmax(axis=1) == of[:, 0]
        scaled = (some / np.float32(temperature)).astype(np.float64)
        p = scaled - scaled.max(axis=1, keepdims=True)
        log_true = np.take_along_axis(p, of, 1)[:, 0]
        np.exp(p, out=p)
        total = p.sum(axis=1)
        p /= total[:, None]
        true = np.take_along_axis(p, of, 1)[:, 0]
        brier = np.square(p).sum(axis=1) - 2 * true + 1
        yield right, np.log(total) - log_true, np.maximum(brier, 0), p.max(axis=1), ties


def by_class(logits: np.ndarray, labels: np.ndarray) -> ByClass:
    """What is known of the classes, from logits float32 (N, C) and labels int64 (N,), at least one."""
    count, classes = logits.shape
    predicted, tied, above, beside = (np.concatenate(of) for of in zip(*_ranks(logits, labels), strict=True))
    images, taken, right = (
        np.bincount(of, minlength=classes) for of in (labels, predicted, labels[predicted == labels])
    )
    there, either = images > 0, images + taken > 0
    # Of equal largest logits another one may be taken: an image of a class of n images is worth 1 / n of it, and of
    # F1 moves two classes by 1 at most, which may be counted or not.
    of_recall = (1 / images[labels[tied]]).sum() / there.sum()
    of_f1 = 4 * tied.sum() / max(1, there.sum())
    # One that equals the label's may come before it or after.
    sure, perhaps = above + beside < 5, above < 5
    return ByClass(
        images,
        right,
        (float((right[there] / images[there]).mean()), float(of_recall) + 1e-9),
        (float((2 * right[either] / (images + taken)[either]).mean()), float(of_f1) + 1e-9),
        (float(perhaps.mean()), float((perhaps & ~sure).sum() / count) + 1e-9)
        if classes >= MANY_CLASSES
        else None,
    )


def _ranks(logits: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Of parts of the images the predicted class, whether others have as large a logit, and how many logits are above
    the label's or beside it."""
    size = max(1, _AT_ONCE // logits.shape[1])
    for start in range(0, len(labels), size):
        some, of = logits[start : start + size], labels[start : start + size, None]
        tied = (some == some.max(axis=1, keepdims=True)).sum(axis=1) > 1
        true = np.take_along_axis(some, of, 1)
        yield some.argmax(axis=1), tied, (some > true).sum(axis=1), (some == true).sum(axis=1) - 1


def archived(right: np.ndarray, nll: np.ndarray, brier: np.ndarray, confidence: np.ndarray) -> Judged:
    """The same from what an archive keeps: bool (N,) and float16 (N,) each.

    Of a right prediction the confidence is exp(−NLL), which near 1 is known better than half precision can say.
    """
    nll, brier, confidence = (values.astype(np.float64) for values in (nll, brier, confidence))
    known = np.where(right, np.exp(-nll), confidence)
    unsure = np.where(right, known * (_HALF * nll + 2.0**-24), _HALF * confidence + 2.0**-24)
    return Judged(right, nll, brier, known, unsure + _FLOAT32 * known, _HALF)


def scores(of: Judged) -> Scores:
    """The means of predictions, of which there is at least one."""
    count, right = len(of.right), of.right.astype(np.float64)
    excess = right - of.confidence
    index = _bins(of.confidence)
    ece = np.abs(np.bincount(index, excess, BINS + 1)).sum() / count
    # One that may lie in the bin beside as well moves its own excess, out of one sum and into another.
    edge = _bins(of.confidence - of.unsure) != _bins(of.confidence + of.unsure)
    doubt = (of.unsure.sum() + 2 * np.abs(excess[edge]).sum()) / count
    nll = float(of.nll.mean())
    return Scores(
        (float(right.mean()), of.ties / count + 1e-9),
        (nll, of.precision * max(1.0, nll)),
        (float(ece), float(doubt) + ROUNDING),
    )


def _bins(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence: [b, b + 1) / BINS, and exactly 1 apart."""
    edges = np.linspace(0, 1, BINS + 1, dtype=np.float32)
    return np.clip(np.searchsorted(edges, confidence, side="right"), 1, BINS + 1) - 1
