"""How a run's explanations came about: the same few test images explained at several epochs (Figure 1).

Nothing here imports torch before a network is explained, so that figures can be drawn from records alone.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save

from selftaught.files import contents, record
from selftaught.files.config import RunConfig
from selftaught.files.contents import remedy
from selftaught.files.names import TRACE
from selftaught.files.reading import DamagedError, exists

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.data import ImageData
    from selftaught.training.trained import TrainedModel

_STORED_SIDE = 32
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


def epochs(config: RunConfig) -> tuple[int, ...]:
    """The epochs, from 1, after which a run is looked at: the first, the last of the warm-up, half of all, the last.

    None for a method that does not learn from explanations.
    """
    if "saliency" not in config.settings:
        return ()
    return tuple(sorted({1, config.warmup or 1, config.epochs // 2 or 1, config.epochs}))


def snapshot(trained: "TrainedModel", images: "ImageData", count: int = 4) -> dict[str, "Tensor"]:
    """Explain the first test image of `count` classes, spread evenly over all of them, as the run itself explains.

    To be called between two epochs: the network's modes, buffers and gradients and all random states are left as
    found, and nothing that happens here stops the run.

    Args:
        trained: the network in any mode, on one device with its preprocessing.
        images: the run's data.
        count: at most so many images.

    Returns:
        What a `Snapshot` holds, as tensors on the CPU. Empty where there is nothing to show: the network cannot be
        explained, all of its maps are zero, or something is not finite.
    """
    from selftaught.training import explanations

    index = _first_of_classes(images.test_labels, count)
    shown, labels = images.test_images[index], images.test_labels[index]
    classes = _explained(labels, images.num_classes, explanations.MOST_CLASSES)
    try:
        with _left_as_found(trained):
            probabilities = explanations.probabilities_of(trained, shown)
            maps, similarity = explanations.maps_and_similarity(
                trained, shown, classes.expand(len(shown), -1), labels
            )
    except Exception:
        # A network of the user's own may raise anything: its run is worth more than these pictures.
        return {}
    if not all(value.isfinite().all() for value in (probabilities, maps, similarity)):
        return {}
    return {
        "images": shown,
        "index": index,
        "labels": labels,
        "probabilities": probabilities,
        "classes": classes,
        "maps": explanations.shrunk(maps, _STORED_SIDE),
        "similarity": similarity,
    }


def pack(snapshots: Mapping[int, Mapping[str, "Tensor"]]) -> bytes:
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


def _first_of_classes(labels: "Tensor", count: int) -> "Tensor":
    """Positions of the first sample of each of `count` classes, spread evenly over those that have any."""
    import torch

    present = labels.unique()
    if len(present) > count:
        present = present[torch.linspace(0, len(present) - 1, count).round().long()]
    return torch.tensor([int((labels == label).nonzero()[0]) for label in present], dtype=torch.int64)


def _explained(labels: "Tensor", classes: int, most: int) -> "Tensor":
    """The classes to explain, ascending: the labels', then the first ones, up to `most`; the same at every epoch."""
    import torch

    order = dict.fromkeys([*labels.tolist(), *range(classes)])
    return torch.tensor(sorted(list(order)[: max(most, len(labels))]), dtype=torch.int64)


@contextmanager
def _left_as_found(trained: "TrainedModel") -> Iterator[None]:
    """Eval mode while inside; each module's own mode, the buffers and the random states come back after."""
    from selftaught.saliency.preserve import preserved_buffers, preserved_rng

    modes = [(module, module.training) for module in trained.modules()]
    try:
        with preserved_rng(trained.mean.device), preserved_buffers(trained):
            trained.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


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
    _check(run, max(kept.maps.shape[2:]) <= _STORED_SIDE, "a map is larger than any run stores")
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
