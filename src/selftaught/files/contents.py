"""What lies in a finished run's folder, each file as the result says that it was written."""

from pathlib import Path

import numpy as np

from selftaught.files import tensors
from selftaught.files.names import ANSWERS, PREDICTIONS
from selftaught.files.reading import DamagedError, read_bytes
from selftaught.files.results import Record
from selftaught.files.sealing import sha256

PARTS = {"test": "", "held-out": "val_"}
"""The images that a network is judged on, with what the tensors of their predictions are prefixed by."""


def remedy(directory: Path) -> str:
    """What to do about a run in which something is damaged."""
    if (directory / ANSWERS).exists() and not (directory / PREDICTIONS).exists():
        return "put back what was archived, or archive the study again"
    return f"remove {directory}, and the command that made it trains it again"


def content(run: Record, name: str) -> bytes:
    """A file of the run.

    Raises:
        DamagedError: it is missing, or not what the result says.
    """
    path = run.directory / name
    found = read_bytes(path, remedy=remedy(run.directory))
    told = run.result.sha256.get(name)
    if told and sha256(found, name) != told:
        raise DamagedError(path, "it is not what the run wrote", remedy(run.directory))
    return found


def arrays(run: Record, name: str) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file of the run.

    Raises:
        DamagedError: it is missing, not what the result says, or no such file.
    """
    return tensors.arrays(run.directory / name, content(run, name), remedy(run.directory))


def size(run: Record, part: str) -> int:
    """How many images one of `PARTS` has."""
    return run.result.data.test if part == "test" else run.result.data.val


def has_predictions(run: Record) -> bool:
    """Whether the run kept its predictions."""
    return (run.directory / PREDICTIONS).exists()


def predictions(run: Record, part: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """Logits, float32 (N, C), and labels, int64 (N,), of the images of one of `PARTS`.

    Raises:
        DamagedError: the file is missing, not what the run wrote, or no predictions.
    """
    path, classes = run.directory / PREDICTIONS, len(run.result.data.classes)
    logits, labels = (PARTS[part] + name for name in ("logits", "labels"))
    axes: dict[str, tuple[type, str]] = {logits: (np.float32, "NC"), labels: (np.int64, "N")}
    found = tensors.checked(
        path, arrays(run, PREDICTIONS), axes, remedy(run.directory), C=classes, N=size(run, part)
    )
    if not ((found[labels] >= 0) & (found[labels] < classes)).all():
        raise DamagedError(path, f"a label is not one of {classes} classes", remedy(run.directory))
    return found[logits], found[labels]
