"""Each image's gradient weighted by its class, whatever the method."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def balanced(labels: Tensor, classes: int) -> Tensor:
    """The weight of an image of each class, N / (C · its images), float32 (C,); 0 for classes without images."""
    counts = torch.bincount(labels.cpu(), minlength=classes).float()
    present = int((counts > 0).sum())
    return torch.where(counts > 0, len(labels) / (present * counts.clamp(min=1)), 0.0)


class ClassWeights:
    """Weighs what flows back into each image's logits in the loss's own backward, so that each class counts the same.

    A method's loss is a mean over the images of the batch: with its gradient weighted like this it is the gradient of
    the weighted mean, for all that is computed from the logits. What is computed from features (at, the warm-up of hint
    and fsp) is not weighted. Explanations, which flow back through the logits too, stay as they are.

    Args:
        labels: int64 (N,), of all training images, on the networks' device.
        classes: C.
        networks: those whose logits' gradients are weighted.
    """

    def __init__(self, labels: Tensor, classes: int, networks: Iterable[nn.Module]) -> None:
        self._by_class = balanced(labels, classes).to(labels.device)
        self._of_batch: Tensor | None = None
        for network in networks:
            network.register_forward_hook(self._weigh)

    @contextmanager
    def of(self, y: Tensor) -> Iterator[None]:
        """While inside, gradients of a batch with labels y (B,) are weighted."""
        self._of_batch = self._by_class[y]
        try:
            yield
        finally:
            self._of_batch = None

    def _weigh(self, _network: nn.Module, _inputs: Any, logits: Tensor) -> None:
        if logits.requires_grad:
            logits.register_hook(
                lambda flow: flow if self._of_batch is None else flow * self._of_batch[:, None]
            )
