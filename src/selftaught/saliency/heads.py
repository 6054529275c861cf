"""Grad-CAM's weights: the spatial mean of each logit's gradient at a layer's output (Selvaraju et al., 2017).

Four ways to the same numbers, from the cheapest to the most general. Each takes what one forward pass captured
and returns (1 or B, K, channels) weights for the K classes asked for, or None where it cannot apply.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selftaught._inputs import as_float
from selftaught.errors import DegenerateMapsError, ExplanationError
from selftaught.saliency.backward import ExplanationRules, class_gradients
from selftaught.saliency.capture import Capture


@dataclass(frozen=True)
class Head:
    """What a forward pass recorded about the part of the model between the layer and the logits.

    Attributes:
        captured: the layer's output, the classifier's input and the logits.
        rules: the explanation's backward rules, recorded in the same pass.
        channel_dim: where the layer's output keeps its channels, 1 or -1.
        classifier_weight: (C, features) of the linear layer that makes the logits, or None.
        chunk_size: how many classes to differentiate at once (general head).
        vectorized: whether a chunk goes through one batched backward (general head).
    """

    captured: Capture
    rules: ExplanationRules
    channel_dim: int
    classifier_weight: Tensor | None
    chunk_size: int | None
    vectorized: bool

    def channels_first(self, tensor: Tensor) -> Tensor:
        """`tensor` in the layout of the layer's output, as (B, channels, *spatial)."""
        return tensor if self.channel_dim == 1 else tensor.movedim(-1, 1)

    def spatial_mean(self, grad: Tensor) -> Tensor:
        """(B, channels) means of a gradient in the layout of the layer's output."""
        return as_float(self.channels_first(grad).flatten(2)).mean(-1)


def not_finite(saliency: str) -> DegenerateMapsError:
    """The error for maps with NaN or infinite values."""
    return DegenerateMapsError(
        f"the {saliency} maps are not finite, the model overflows: lower the learning rate, or use float32 or "
        "bfloat16 instead of float16"
    )


def require_graph(activation: Tensor) -> None:
    """Refuse a layer that gradients cannot be taken at.

    Raises:
        ExplanationError: it runs without recording.
    """
    if not activation.requires_grad:
        raise ExplanationError(
            "the layer runs under torch.no_grad() inside the model, so no gradient reaches it: freeze parameters with "
            "requires_grad_(False) instead, or give a layer= that is recorded"
        )


def _of_classes(weight: Tensor, classes: Sequence[int]) -> Tensor:
    """The rows of a classifier's weight that make the logits of `classes`; a range stands for all of them."""
    weight = as_float(weight.detach())
    return weight if isinstance(classes, range) else weight[list(classes)]


def linear(head: Head, classes: Sequence[int]) -> Tensor | None:
    """Pooling or flattening, then one linear layer: the weights are the layer's own, summed over its positions."""
    weight = head.classifier_weight
    activation = head.channels_first(head.captured.activation)
    channels, positions = activation.shape[1], activation[0, 0].numel()
    if weight is None or weight.shape[1] % channels:
        return None
    weight = _of_classes(weight, classes)
    if weight.shape[1] != channels:
        weight = weight.unflatten(1, (channels, -1)).sum(-1)
    return weight[None] / positions


def channel_wise(head: Head, classes: Sequence[int]) -> Tensor | None:
    """Whatever acts on each channel alone before the classifier: one backward of the pooled sum serves all."""
    weight, pooled, activation = head.classifier_weight, head.captured.pooled, head.captured.activation
    channels = head.channels_first(activation).shape[1]
    if weight is None or pooled is None or pooled.shape != (activation.shape[0], channels):
        return None
    require_graph(activation)
    with head.rules.explaining():
        (grad,) = torch.autograd.grad(
            pooled, activation, torch.ones_like(pooled), retain_graph=True, materialize_grads=True
        )
    slope = head.spatial_mean(grad)
    return slope[:, None] * _of_classes(weight, classes)


def general(head: Head, classes: Sequence[int]) -> Tensor:
    """One vector-Jacobian product of the head for each class, batched where that is faster."""
    assert head.captured.end is not None
    return _mean_gradients(head, head.captured.end, classes)


def by_feature(head: Head, classes: Sequence[int]) -> Tensor | None:
    """The chain rule, where the classifier has fewer inputs than outputs: one product of the head for each input."""
    weight, pooled = head.classifier_weight, head.captured.pooled
    if weight is None or pooled is None or pooled.dim() != 2 or not pooled.requires_grad:
        return None
    if weight.shape[1] >= weight.shape[0]:
        return None
    return _of_classes(weight, classes) @ _mean_gradients(head, pooled, range(pooled.shape[1]))


def _mean_gradients(head: Head, output: Tensor, columns: Sequence[int]) -> Tensor:
    """(B, k, channels): the spatial means of the gradients of k columns of `output` (B, n) at the layer."""
    require_graph(head.captured.activation)
    with head.rules.explaining():
        chunks = class_gradients(
            output,
            head.captured.activation,
            columns,
            chunk_size=head.chunk_size,
            vectorized=head.vectorized,
        )
        return torch.stack([head.spatial_mean(grad) for chunk in chunks for grad in chunk], dim=1)


#: From the cheapest to the most general; `general` is always right.
HEADS = {"linear": linear, "channel-wise": channel_wise, "by-feature": by_feature, "general": general}
