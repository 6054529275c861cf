"""How a run's explanations come about: the same few test images are explained at several epochs (Figure 1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from selftaught.files.config import RunConfig
from selftaught.files.trace import STORED_SIDE

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.data import ImageData
    from selftaught.training.trained import TrainedModel


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
        "maps": explanations.shrunk(maps, STORED_SIDE),
        "similarity": similarity,
    }


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
