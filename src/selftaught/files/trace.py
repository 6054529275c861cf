"""A run's explanations of the same few test images at several epochs (Figure 1), as they lie in its folder."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from safetensors.numpy import save

from selftaught.files import contents, record
from selftaught.files.contents import remedy
from selftaught.files.names import TRACE
from selftaught.files.reading import DamagedError, exists


class _Tensor(Protocol):
    """A tensor on the CPU, of whatever library."""

    def numpy(self) -> np.ndarray: ...


STORED_SIDE = 32
"""No side of a stored map is longer: a map per epoch, image and class has to stay small."""

_AXES: dict[str, tuple[type, str]] = {
    "images": (np.uint8, "nKHW"),
    "index": (np.int64, "n"),
    "labels": (np.int64, "n"),
    "probabilities": (np.float32, "nC"),
    "classes": (np.int64, "k"),
    "maps": (np.float32, "nkhw"),
    "similarity": (np.float32, "nk"),
}
"""Type and axes of what a snapshot holds; a letter stands for one size in the whole file."""


@dataclass(frozen=True)
class Snapshot:
    """What the network saw in n test images after one epoch; the images are those of every epoch.

    Attributes:
        images: uint8 (n, K, H, W), K is 1 or 3.
        index: int64 (n,), positions in the test part.
        labels: int64 (n,), each of another class.
        probabilities: float32 (n, C).
        classes: int64 (k,), the classes explained: all C, or ten of them, the n labels included, where C is larger.
        maps: float32 (n, k, h, w), signed, input channels summed, no side above 32.
        similarity: float32 (n, k), of each map to the true class's.
    """

    images: np.ndarray
    index: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    classes: np.ndarray
    maps: np.ndarray
    similarity: np.ndarray


def pack(snapshots: Mapping[int, Mapping[str, _Tensor]]) -> bytes:
    """The content of `TRACE`: snapshots by epoch; equal snapshots make equal bytes."""
    return save(
        {
            f"e{epoch}.{name}": np.ascontiguousarray(value.numpy())
            for epoch in sorted(snapshots)
            for name, value in sorted(snapshots[epoch].items())
        }
    )


def read(run_directory: str | os.PathLike) -> dict[int, Snapshot]:
    """A finished run's snapshots by epoch, in order; none where it kept none.

    The file is read as one from a stranger: types, shapes and ranges are checked, nothing is executed.

    Raises:
        InputError: the directory is no finished run, or the file is damaged; the message names it.
    """
    run = record.read(run_directory)
    if not exists(run.directory / TRACE):
        return {}
    found: dict[int, dict[str, np.ndarray]] = {}
    for name, tensor in contents.arrays(run, TRACE).items():
        parts = re.fullmatch(r"e([1-9][0-9]{0,8})\.([a-z]+)", name)
        if parts is None:
            raise _damaged(run, f"{name[:40]!a} is no tensor of an epoch")
        found.setdefault(int(parts[1]), {})[parts[2]] = tensor
    sizes = {"C": len(run.result.data.classes)}
    snapshots = {epoch: _checked(run, found[epoch], sizes) for epoch in sorted(found)}
    _check(run, all(epoch <= run.config.epochs for epoch in snapshots), "an epoch is not one of the run's")
    first = next(iter(snapshots.values()), None)
    for other in snapshots.values():
        same = (
            np.array_equal(getattr(first, name), getattr(other, name))
            for name in ("images", "index", "labels", "classes")
        )
        _check(run, all(same), "its epochs show different images")
    return snapshots


def _checked(run: record.Record, tensors: Mapping[str, np.ndarray], sizes: dict[str, int]) -> Snapshot:
    """A snapshot of tensors with the right types and axes; `sizes` of letters are filled in and compared."""
    _check(run, set(tensors) == set(_AXES), "an epoch has not what belongs to it")
    for name, (dtype, letters) in _AXES.items():
        array = tensors[name]
        _check(run, array.dtype == dtype, f"{name} is {array.dtype} instead of {dtype.__name__}")
        fits = array.ndim == len(letters) and all(
            sizes.setdefault(letter, size) == size for letter, size in zip(letters, array.shape, strict=True)
        )
        _check(run, fits, f"{name} has the wrong shape {array.shape}")
        _check(run, bool(np.isfinite(array).all()) and array.size > 0, f"{name} is empty or not finite")
    kept = Snapshot(**{name: tensors[name] for name in _AXES})
    _check(run, kept.images.shape[1] in (1, 3), "images have neither one nor three channels")
    _check(run, max(kept.maps.shape[2:]) <= STORED_SIDE, "a map is larger than any run stores")
    _check(run, _within(kept.probabilities, 0, 1), "a probability is not between 0 and 1")
    _check(run, _within(kept.similarity, -1, 1), "a similarity is not between -1 and 1")
    _check(run, bool(np.isin(kept.labels, kept.classes).all()), "a label is not among its classes")
    known = _within(kept.classes, 0, sizes["C"] - 1) and bool((np.diff(kept.classes) > 0).all())
    _check(run, known and kept.index.min() >= 0, f"its classes are not some of the {sizes['C']}, in order")
    return kept


def _within(values: np.ndarray, low: float, high: float) -> bool:
    return bool((values >= low - 1e-5).all() and (values <= high + 1e-5).all())


def _check(run: record.Record, holds: bool, reason: str) -> None:
    if not holds:
        raise _damaged(run, reason)


def _damaged(run: record.Record, reason: str) -> DamagedError:
    return DamagedError(run.directory / TRACE, reason, remedy(run.directory))


@dataclass(frozen=True)
class ExplainedImage:
    """One image's explanation: C classes, of which k are explained.

    Attributes:
        name: what the image is called.
        image: uint8 (H, W) or (H, W, 3).
        classes: (k,) int64, the classes explained: all of them in their order; where that is too many the reference
            class, the predicted one and the most probable others, in this order.
        maps: (k, h, w) float32, signed; several input channels are summed.
        similarity: (k,) float32, of each map to the reference class's.
        probabilities: (C,) float32.
        reference: the true class where it is known, else the predicted one; always among `classes`.
        truth: the true class, or None.
    """

    name: str
    image: np.ndarray
    classes: np.ndarray
    maps: np.ndarray
    similarity: np.ndarray
    probabilities: np.ndarray
    reference: int
    truth: int | None

    @property
    def prediction(self) -> int:
        """The most probable class."""
        return int(self.probabilities.argmax())
