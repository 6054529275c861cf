"""What a run's files say, read as files from a stranger: shapes, types and ranges are checked, nothing is executed."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selftaught.errors import InputError
from selftaught.files import contents, tensors
from selftaught.files import scores as recomputed
from selftaught.files.answers import correct, has_answers
from selftaught.files.contents import PARTS, has_predictions, predictions, remedy
from selftaught.files.names import EXAMPLES, METRICS, RESULT
from selftaught.files.reading import DamagedError, exists
from selftaught.files.results import Record
from selftaught.files.scores import BINS

__all__ = [
    "BINS",
    "CURVES",
    "PARTS",
    "Classes",
    "Evidence",
    "Examples",
    "class_sizes",
    "classes",
    "correct",
    "examples",
    "gather",
    "has_answers",
    "has_predictions",
    "metrics",
    "predictions",
    "reliability_bins",
    "scores",
]

CURVES = ("loss", *(f"{part}_{name}" for name in ("accuracy", "nll", "ece") for part in ("train", "val")))
"""What is drawn of metrics.jsonl."""

_MOST_CLASSES = 1000
"""Of more classes no confusion matrix is made: it would not fit in memory, and nobody could read it."""

_HUGE = 1e300
"""Beyond it nothing can be drawn, and sums overflow."""


@dataclass(frozen=True)
class Examples:
    """Test images and what the model saw in them, n images, k kept classes of C.

    Attributes:
        images: uint8 (n, K, H, W), K is 1 or 3.
        index: int64 (n,), positions in the test part.
        labels: int64 (n,).
        probabilities: float32 (n, C).
        classes: int64 (n, k), the classes that the maps belong to.
        maps: float32 (n, k, h, w), signed.
        similarity: float32 (n, k), of each map to the true class's.
        names: what the n images are called, their files for example; None in older runs.
    """

    images: np.ndarray
    index: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    classes: np.ndarray
    maps: np.ndarray
    similarity: np.ndarray
    names: tuple[str, ...] | None = None

    def called(self, i: int) -> str:
        """The end of an image's path: the rest is nobody's business to whom the report is sent."""
        if self.names is None:
            return f"test image {self.index[i]}"
        return "/".join(Path(self.names[i]).parts[-2:])


@dataclass(frozen=True)
class Evidence:
    """What all trials of one method say together, C classes.

    Attributes:
        method: its key.
        records: its trials, by seed.
        reliability: (3, BINS) or None without predictions: predictions, right ones and the sum of their confidences
            in each bin of confidence, over all trials.
        scaled: the same after temperature scaling, None unless every trial has a temperature.
        outcomes: int64 (P, 3) or None: true class, predicted class and how many test images, over all trials, of the
            pairs of classes that occur, in the order of the classes.
        curves: name of `CURVES` -> (trials, epochs), nan where a trial has no value.
        examples: those of the first seed, None if it has none.
    """

    method: str
    records: tuple[Record, ...]
    reliability: np.ndarray | None
    scaled: np.ndarray | None
    outcomes: np.ndarray | None
    curves: dict[str, np.ndarray]
    examples: Examples | None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.records[0].result.data.classes

    @property
    def confusion(self) -> np.ndarray | None:
        """`outcomes` as int64 (C, C), a row per true and a column per predicted class; None beyond 1000 classes."""
        if self.outcomes is None or len(self.classes) > _MOST_CLASSES:
            return None
        matrix = np.zeros((len(self.classes),) * 2, np.int64)
        matrix[self.outcomes[:, 0], self.outcomes[:, 1]] = self.outcomes[:, 2]
        return matrix


def gather(method: str, records: Sequence[Record]) -> Evidence:
    """Read all files of a method's trials, one trial after another.

    Raises:
        InputError: no records, or a damaged file; its message names the file.
    """
    if not records:
        raise InputError(f"there is no finished trial of {method} to report on")
    records = sorted(records, key=lambda record: record.config.seed)
    reliability = scaled = outcomes = None
    if all(has_predictions(record) for record in records):
        calibrated = all(record.result.temperature is not None for record in records)
        reliability = np.zeros((3, BINS))
        scaled = np.zeros((3, BINS)) if calibrated else None
        pairs = []
        for record in records:
            logits, labels = predictions(record)
            pairs.append(np.stack([labels, logits.argmax(axis=1)], axis=1))
            reliability += reliability_bins(logits, labels)
            if scaled is not None:
                scaled += reliability_bins(logits / _temperature(record), labels)
        kinds, counts = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
        outcomes = np.column_stack([kinds, counts])
    curves = [metrics(record) for record in records]
    return Evidence(
        method=method,
        records=tuple(records),
        reliability=reliability,
        scaled=scaled,
        outcomes=outcomes,
        curves={name: table for name in CURVES if (table := _padded([c.get(name, []) for c in curves])).size},
        examples=examples(records[0]),
    )


def reliability_bins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Per bin of confidence the predictions, the right ones and the sum of their confidences: (3, BINS).

    The bins are those of `selftaught.training.metrics.ece`, except that a confidence of exactly 1 is in the last one.
    """
    confidence = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    edges = np.linspace(0, 1, BINS + 1, dtype=np.float32)
    index = np.minimum(np.searchsorted(edges, confidence, side="right"), BINS) - 1
    right = logits.argmax(axis=1) == labels
    return np.stack([np.bincount(index, weights, BINS) for weights in (None, right, confidence)])


@dataclass(frozen=True)
class Classes:
    """What is known of C classes; fractions are None, and the others empty, where nobody knows.

    `accuracies` and `images` have a value per class, and the accuracy of a class without test images is None.
    """

    balanced_accuracy: float | None
    macro_f1: float | None
    top5_accuracy: float | None
    accuracies: tuple[float | None, ...]
    images: tuple[int, ...]


def classes(record: Record) -> Classes:
    """What a run says of the classes; of an older record what its predictions, or its archive's numbers, make of it.

    Raises:
        DamagedError: an older record's predictions are damaged.
    """
    result = record.result
    if result.balanced_accuracy is None and result.data.test and has_predictions(record):
        found = recomputed.by_class(*predictions(record))
        right, images = found.right.tolist(), found.images.tolist()
        return Classes(
            found.balanced_accuracy[0],
            found.macro_f1[0],
            found.top5_accuracy and found.top5_accuracy[0],
            tuple(r / n if n else None for r, n in zip(right, images, strict=True)),
            tuple(images),
        )
    accuracies = result.per_class_accuracy
    known = [value for value in accuracies if value is not None]
    balanced = float(np.mean(known)) if known else None
    return Classes(
        balanced if result.balanced_accuracy is None else result.balanced_accuracy,
        result.macro_f1,
        result.top5_accuracy,
        accuracies,
        result.per_class_images,
    )


def class_sizes(records: Sequence[Record]) -> np.ndarray | None:
    """Test images of each class, int64 (C,), by a run that kept its predictions or says so; None where none does.

    Every trial has as many, also where it has test images of its own: those are chosen by class.
    """
    kept = next((run for run in records if has_predictions(run)), None)
    if kept is not None:
        return np.bincount(predictions(kept)[1], minlength=len(kept.result.data.classes))
    told = next((run.result.per_class_images for run in records if run.result.per_class_images), None)
    return None if told is None else np.array(told, dtype=np.int64)


def scores(record: Record, part: str = "test") -> tuple[float, float, float]:
    """Accuracy (a fraction), NLL (nats per image) and ECE (a fraction) of the last epoch on one of `PARTS`.

    Those that were not finite are nan.

    Raises:
        InputError: of held-out images, the run held none out or its metrics are damaged.
    """
    if part == "test":
        result = record.result
        return result.accuracy, result.nll, result.ece
    curves = metrics(record)
    accuracy, nll, ece = (curves.get(f"val_{name}", [math.nan])[-1] for name in ("accuracy", "nll", "ece"))
    if math.isnan(accuracy):
        raise InputError(
            f"{record.directory} has no accuracy on held-out images in its last epoch: train it again, with "
            "val_fraction above 0"
        )
    return accuracy, nll, ece


def metrics(record: Record) -> dict[str, list[float]]:
    """The run's `CURVES`, one finite value per epoch or nan; a curve that the run did not record is missing."""
    if not exists(record.directory / METRICS):
        return {}
    content = contents.content(record, METRICS)
    try:
        lines = [json.loads(line) for line in content.splitlines()][: record.config.epochs]
    except (ValueError, RecursionError):
        lines = [None]
    _check(record, METRICS, all(isinstance(line, dict) for line in lines), "a line is no JSON object")
    return {
        name: [_number(line.get(name)) for line in lines]
        for name in CURVES
        if any(math.isfinite(_number(line.get(name))) for line in lines)
    }


def examples(record: Record) -> Examples | None:
    """The run's explained test images, None if it kept none: no file, or one without tensors."""
    path, classes = record.directory / EXAMPLES, len(record.result.data.classes)
    if not exists(path):
        return None
    axes = {
        "images": (np.uint8, "nKHW"),
        "index": (np.int64, "n"),
        "labels": (np.int64, "n"),
        "probabilities": (np.float32, "nC"),
        "classes": (np.int64, "nk"),
        "maps": (np.float32, "nkhw"),
        "similarity": (np.float32, "nk"),
    }
    found = contents.arrays(record, EXAMPLES)
    if not found:  # of a model that cannot be explained
        return None
    checked = tensors.checked(path, found, axes, remedy(record.directory), C=classes)
    shown = Examples(**checked, names=_names(record, len(checked["index"])))
    if not len(shown.index):
        return None
    _check(record, EXAMPLES, shown.images.shape[1] in (1, 3), "images have neither one nor three channels")
    _check(record, EXAMPLES, shown.images.size > 0 and shown.maps.size > 0, "it holds empty pictures")
    for labels in (shown.labels, shown.classes):
        known = bool(((labels >= 0) & (labels < classes)).all())
        _check(record, EXAMPLES, known, f"a label is not one of {classes} classes")
    return shown


def _names(record: Record, count: int) -> tuple[str, ...] | None:
    """What the run called its examples, if it did."""
    path, content = record.directory / EXAMPLES, contents.content(record, EXAMPLES)
    text = tensors.header(path, content, remedy(record.directory)).metadata.get("names")
    if text is None:
        return None
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    whole = isinstance(names, list) and len(names) == count and all(isinstance(name, str) for name in names)
    _check(record, EXAMPLES, whole, "its names are not those of its images")
    return tuple(names)


def _temperature(record: Record) -> float:
    temperature = record.result.temperature or 0.0
    _check(record, RESULT, 1e-6 < temperature < 1e6, f"no temperature: {temperature}")
    return temperature


def _check(record: Record, name: str, holds: bool, reason: str) -> None:
    if not holds:
        raise DamagedError(record.directory / name, reason, remedy(record.directory))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < _HUGE else math.nan


def _padded(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Rows of different lengths as one array (rows, longest), filled up with nan."""
    table = np.full((len(rows), max(map(len, rows))), np.nan)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table
