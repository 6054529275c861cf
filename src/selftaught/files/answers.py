"""What an archive keeps of a run's predictions: small enough for git, enough for every interval and loss.

answers.safetensors holds for each part of the data ("test", "held-out") with N images

- `PART`, uint8 (⌈N/8⌉,): which images the run got right, a bit for each, the first in the highest bit;
- `PART.nll`, `PART.brier`, `PART.confidence`, float16 (N,): of each image the negative log-likelihood in nats, the
  Brier score (the sum of squared differences over the classes, in 0..2) and the confidence, the largest probability;

and as its metadata `labels`, the SHA-256 of each part's labels: "test=...". Archives of older versions hold the bits
alone.
"""

from dataclasses import dataclass

import numpy as np
from safetensors.numpy import save

from selftaught.files import scores, tensors
from selftaught.files.contents import PARTS, arrays, content, has_predictions, predictions, remedy, size
from selftaught.files.names import ANSWERS
from selftaught.files.results import Record
from selftaught.files.sealing import sha256

_LARGEST = 65504.0
"""The largest number in half precision."""

_VALUES = ("nll", "brier", "confidence")

_LABELS = "labels"


@dataclass(frozen=True)
class Answers:
    """Which of N images a run got right, bool (N,), and float16 (N,) each of the others; None in older archives."""

    right: np.ndarray
    nll: np.ndarray | None = None
    brier: np.ndarray | None = None
    confidence: np.ndarray | None = None

    def scores(self) -> scores.Scores:
        """Accuracy, and where there are values NLL and ECE."""
        zeros = np.zeros(len(self.right), np.float16)
        values = (zeros if value is None else value for value in (self.nll, self.brier, self.confidence))
        return scores.scores(scores.archived(self.right, *values))


def has_answers(run: Record) -> bool:
    """Whether it is known which images the run got right."""
    return has_predictions(run) or (run.directory / ANSWERS).exists()


def read(run: Record, part: str = "test") -> Answers:
    """What an archive says of one of `PARTS`.

    Raises:
        DamagedError: the file is missing, not what was written, or no answers.
    """
    count, values = size(run, part), [f"{part}.{name}" for name in _VALUES]
    found = arrays(run, ANSWERS)
    axes: dict[str, tuple[type, str]] = {part: (np.uint8, "n")}
    if any(name in found for name in values):
        axes |= dict.fromkeys(values, (np.float16, "N"))
    checked = tensors.checked(
        run.directory / ANSWERS, found, axes, remedy(run.directory), n=-(-count // 8), N=count
    )
    right = np.unpackbits(checked[part], count=count).astype(bool)
    return Answers(right, *(checked.get(name) for name in values))


def correct(run: Record, part: str = "test") -> np.ndarray:
    """Which images of one of `PARTS` the last epoch's model got right: bool (N,)."""
    if not has_predictions(run):
        return read(run, part).right
    logits, labels = predictions(run, part)
    return logits.argmax(axis=1) == labels


def pack(run: Record) -> bytes:
    """The file of a run: of its predictions, else what it has already."""
    if not has_predictions(run):
        return content(run, ANSWERS)
    found: dict[str, np.ndarray] = {}
    digests: dict[str, str] = {}
    for part in PARTS:
        if size(run, part):
            logits, labels = predictions(run, part)
            of = scores.judged(logits, labels)
            found[part] = np.packbits(of.right)
            for name in _VALUES:
                found[f"{part}.{name}"] = np.minimum(getattr(of, name), _LARGEST).astype(np.float16)
            digests[part] = _digest(labels)
    # One entry: of several the order is never the same, and neither would be the bytes.
    return save(found, {_LABELS: " ".join(f"{part}={digest}" for part, digest in digests.items())})


def labels_digest(run: Record, part: str) -> str | None:
    """The digest of a part's labels; None where the run kept neither them nor that."""
    if has_predictions(run):
        return _digest(predictions(run, part)[1])
    if not has_answers(run):
        return None
    header = tensors.header(run.directory / ANSWERS, content(run, ANSWERS), remedy(run.directory))
    kept = (entry.partition("=") for entry in header.metadata.get(_LABELS, "").split())
    return next((digest for name, _, digest in kept if name == part), None)


def _digest(labels: np.ndarray) -> str:
    return sha256(np.ascontiguousarray(labels, "<i8").tobytes())
