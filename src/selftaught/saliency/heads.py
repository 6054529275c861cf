"""Grad-CAM's weights: the spatial mean of each logit's gradient at a layer's output (Selvaraju et al., 2017).

Five ways to the same numbers, from the cheapest to the most general. Each takes what one forward pass captured and
returns how K logits change with the layer's channels, or None where it cannot apply. All but the general one are
shortcuts, which hold for some networks and batches only: `error` says whether one holds on this batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught._inputs import as_float
from selftaught.errors import DegenerateMapsError, ExplanationError
from selftaught.saliency.backward import ExplanationRules, class_gradients
from selftaught.saliency.capture import Capture
from selftaught.saliency.chain import Chain, Layer, Product, read
from selftaught.saliency.jacobian import leads_to

_ROUNDINGS = 64
"""How many roundings a shortcut may be off in float32 or float64, of what it adds up: 8e-6 in float32."""

_COARSE_ROUNDINGS = 4
"""The same in lower precision, where the general form is not more exact."""

_PRODUCTS = {"highest": 0.0, "high": 2**-10, "medium": 2**-7}
"""The rounding of products of float32 numbers, by `torch.get_float32_matmul_precision()`."""


class Form(Protocol):
    """How the logits of K classes change with the layer's channels, averaged over its positions.

    Attributes:
        width: the most numbers for each position that `maps` makes on the way.
        of_logits: whether the logits would be `maps` of the layer's mean output, but for a constant.
    """

    @property
    def of_logits(self) -> bool:
        """See above."""

    @property
    def width(self) -> int:
        """See above."""

    def maps(self, fields: Tensor, rows: slice) -> Tensor:
        """Σ_c α_kc · field_c: (b, K, P) from fields (b, channels, P) of some samples."""


@dataclass(frozen=True)
class Weights:
    """The weights α themselves, (1 or B, K, channels)."""

    alpha: Tensor
    of_logits: bool = False

    @property
    def width(self) -> int:
        """The classes."""
        return self.alpha.shape[1]

    def maps(self, fields: Tensor, rows: slice) -> Tensor:
        """Σ_c α_kc · field_c."""
        return (self.alpha if len(self.alpha) == 1 else self.alpha[rows]) @ fields


@dataclass(frozen=True)
class Changes:
    """The weights as what the last layers make of changes of their input.

    With fewer positions than classes α is never made: each position's changes go forward through the layers. Else the
    classes' gradients go back through them.

    Attributes:
        entrance: (1 or B, channels), how that input changes with the layer's channels.
        layers: the last layers, from the logits back.
    """

    of_logits: ClassVar[bool] = False
    entrance: Tensor
    layers: list[Layer]

    @property
    def width(self) -> int:
        """The widest layer."""
        return max(layer.width for layer in self.layers)

    def maps(self, fields: Tensor, rows: slice) -> Tensor:
        """Σ_c α_kc · field_c, layer by layer."""
        entrance = (self.entrance if len(self.entrance) == 1 else self.entrance[rows]).to(fields.dtype)
        classes = self.layers[0].width
        if fields.shape[2] < classes:
            changes = fields * entrance[:, :, None]
            for layer in reversed(self.layers):
                changes = layer(changes, rows)
            return changes
        gradients = torch.eye(classes, dtype=fields.dtype, device=fields.device)[None]
        for layer in self.layers:
            gradients = layer.back(gradients, rows)
        return (gradients * entrance[:, None]) @ fields


@dataclass(frozen=True)
class Head:
    """What a forward pass recorded about the part of the model between the layer and the logits.

    Attributes:
        captured: the layer's output, the classifier's input and the logits.
        rules: the explanation's backward rules, recorded in the same pass.
        channel_dim: where the layer's output keeps its channels, 1 or -1.
        picture: which positions of tokens (B, channels, N) are those of the picture; all by default.
        is_open: whether the graph between the layer and the logits is there; not in compiled code.
        weight: (C, features) of the linear layer that makes the logits, or None.
        bias: (C,) of the same, or None.
        scale: what the model multiplies the linear layer's outputs by.
        chunk_size: how many classes to differentiate at once (general head).
        vectorized: whether a chunk goes through one batched backward (general head).
    """

    captured: Capture
    rules: ExplanationRules
    channel_dim: int
    picture: slice
    is_open: bool
    weight: Tensor | None
    bias: Tensor | None
    scale: float
    chunk_size: int | None
    vectorized: bool

    @property
    def activation(self) -> Tensor:
        """The layer's output as (B, channels, *spatial), of tokens those of the picture."""
        return self._of_picture(self.captured.activation)

    @property
    def positions(self) -> int:
        """How many positions it has."""
        return self.activation[0, 0].numel()

    @property
    def logits(self) -> Tensor:
        """The module's own logits, to be differentiated, where they were kept."""
        return self.captured.logits if self.captured.end is None else self.captured.end

    @property
    def has_graph(self) -> bool:
        """Whether the logits can be differentiated at the layer."""
        return self.is_open and self.logits.requires_grad and self.captured.activation.requires_grad

    def over_positions(self, grad: Tensor) -> Tensor:
        """(B, channels, positions) of a gradient in the layout of the layer's output."""
        return as_float(self._of_picture(grad).flatten(2))

    def _of_picture(self, tensor: Tensor) -> Tensor:
        first = tensor if self.channel_dim == 1 else tensor.movedim(-1, 1)
        return first if self.picture == slice(None) else first[:, :, self.picture]


def not_finite(saliency: str) -> DegenerateMapsError:
    """The error for maps with NaN or infinite values."""
    return DegenerateMapsError(
        f"the {saliency} maps are not finite, the model overflows: lower the learning rate, or use float32 or "
        "bfloat16 instead of float16"
    )


def no_graph() -> ExplanationError:
    """The error for a layer that gradients cannot be taken at."""
    return ExplanationError(
        "the layer runs under torch.no_grad() inside the model, so no gradient reaches it: freeze parameters with "
        "requires_grad_(False) instead, or give a layer= that is recorded"
    )


def linear(head: Head, classes: Sequence[int]) -> Form | None:
    """Pooling or flattening, then one linear layer: the weights are the layer's own, summed over its positions."""
    weight = _per_cell(head, classes)
    return (
        None
        if weight is None
        else Weights(weight.sum(-1)[None] * (head.scale / head.positions), of_logits=True)
    )


def channel_wise(head: Head, classes: Sequence[int]) -> Form | None:
    """Whatever acts on each channel alone before one linear layer: one backward of the pooled sum serves all."""
    chain = _chain(head, classes)
    return _changes(head, chain) if chain is not None and chain.is_one_product else None


def mlp(head: Head, classes: Sequence[int]) -> Form | None:
    """Pooling or flattening, then several layers on one vector per image: a product of each for all classes."""
    chain = _chain(head, classes)
    return None if chain is None or chain.is_one_product else _changes(head, chain)


def by_feature(head: Head, classes: Sequence[int]) -> Form | None:
    """The chain rule, where the classifier has fewer inputs than outputs: one product of the head for each input."""
    weight, pooled = head.weight, head.captured.pooled
    if weight is None or pooled is None or pooled.dim() != 2 or not pooled.requires_grad:
        return None
    if weight.shape[1] >= len(classes):
        return None
    of_features = mean_gradients(head, pooled, range(pooled.shape[1]))
    return Weights(head.scale * _of_classes(weight, classes) @ of_features)


def general(head: Head, classes: Sequence[int]) -> Form:
    """One vector-Jacobian product of the head for each class, batched where that is faster."""
    return Weights(mean_gradients(head, head.logits, classes))


HEADS: dict[str, Callable[[Head, Sequence[int]], Form | None]] = {
    "linear": linear,
    "channel-wise": channel_wise,
    "mlp": mlp,
    "by-feature": by_feature,
    "general": general,
}
"""From the cheapest to the most general; `general` is always right."""


def error(head: Head, form: Form, classes: Sequence[int]) -> Tensor:
    """How far a form is off on this batch, relative to what it adds up, at the worst sample; a scalar.

    Looked at are two numbers per sample, that only the true weights give: what a generic combination of the K logits
    makes of the layer's mean output, and of a generic field as large as its output. That costs one backward pass of the
    head. Of a linear head the logits themselves are compared with W · mean(A) + b as well, class by class; where there
    is no graph, as in compiled code, they alone.
    """
    if not head.has_graph:
        return _error_of_logits(head, torch.inf)
    found = _error_of_combination(head, form, classes)
    return torch.maximum(found, _error_of_logits(head, 0.0)) if form.of_logits else found


def _error_of_combination(head: Head, form: Form, classes: Sequence[int]) -> Tensor:
    activation = head.activation.detach().flatten(2)
    direction = cotangent = _wave(len(classes), as_float(activation))
    if not isinstance(classes, range):
        cotangent = torch.zeros_like(head.logits[0], dtype=direction.dtype)
        cotangent.index_add_(0, torch.tensor(list(classes), device=cotangent.device), direction)
    cotangent = cotangent.to(head.logits.dtype)
    with head.rules.explaining():
        (grad,) = torch.autograd.grad(
            head.logits,
            head.captured.activation,
            cotangent.expand_as(head.logits),
            retain_graph=True,
            materialize_grads=True,
        )
    with torch.no_grad():
        gradient, given = head.over_positions(grad), as_float(activation)
        size = given.abs().mean(2)  # a tenth of the time of a norm along the positions
        fields = torch.stack([given.mean(2), size * _wave(size.shape[1], size)], 2)
        expected = (gradient.mean(2)[:, :, None] * fields).sum(1)
        terms = gradient.abs().mean(2) * size
        found = (form.maps(fields, slice(None)) * direction[:, None]).sum(1)
        # Roundings of many terms add up as their squares do.
        return _worst(found - expected, torch.linalg.vector_norm(terms, dim=1, keepdim=True) + expected.abs())


def rounding(head: Head) -> float:
    """The relative rounding of what computes the logits from the layer's output."""
    dtypes = (head.captured.precision, head.captured.activation.dtype, head.logits.dtype)
    eps = max(torch.finfo(dtype).eps for dtype in dtypes if dtype is not None)
    return (
        eps
        if head.logits.dtype == torch.float64
        else max(eps, _PRODUCTS[torch.get_float32_matmul_precision()])
    )


def tolerance(head: Head) -> float:
    """The largest `error` that rounding explains."""
    eps = rounding(head)
    return (_ROUNDINGS if is_fine(eps) else _COARSE_ROUNDINGS) * eps


def is_fine(eps: float) -> bool:
    """Whether a rounding is that of float32 or less."""
    return eps <= torch.finfo(torch.float32).eps


def mean_gradients(head: Head, output: Tensor, columns: Sequence[int]) -> Tensor:
    """(B, k, channels): the spatial means of the gradients of k columns of `output` (B, n) at the layer."""
    if not (output.requires_grad and head.captured.activation.requires_grad):
        raise no_graph()
    with head.rules.explaining():
        chunks = class_gradients(
            output,
            head.captured.activation,
            columns,
            chunk_size=head.chunk_size,
            vectorized=head.vectorized,
        )
        return torch.stack([head.over_positions(grad).mean(2) for chunk in chunks for grad in chunk], dim=1)


def _of_classes(weight: Tensor, classes: Sequence[int]) -> Tensor:
    """The rows of a classifier's weight that make the logits of `classes`; a range stands for all of them."""
    weight = as_float(weight.detach())
    return weight if isinstance(classes, range) else weight[list(classes)]


def _per_cell(head: Head, classes: Sequence[int]) -> Tensor | None:
    """(K, channels, cells): the classifier's weights for each cell that pooling left of a channel; None if none are."""
    channels = head.activation.shape[1]
    if head.weight is None or head.weight.shape[1] % channels:
        return None
    return _cells(_of_classes(head.weight, classes), channels, head.channel_dim)


def _cells(weight: Tensor, channels: int, channel_dim: int) -> Tensor:
    if channel_dim == 1:
        return weight.unflatten(1, (channels, -1))
    return weight.unflatten(1, (-1, channels)).transpose(1, 2)


def _chain(head: Head, classes: Sequence[int]) -> Chain | None:
    if not head.has_graph:
        return None
    with head.rules.explaining():
        return read(head.logits, leads_to(head.logits.grad_fn, head.captured.activation), classes)


def _changes(head: Head, chain: Chain) -> Form | None:
    """The chain's layers, and how the vector that they take changes with the layer's channels."""
    channels, activation = head.activation.shape[1], head.captured.activation
    if chain.width == channels:
        ones = torch.ones(len(activation), channels, dtype=chain.dtype, device=activation.device)
        with head.rules.explaining():
            (grad,) = torch.autograd.grad(
                [chain.entrance], activation, [ones], retain_graph=True, materialize_grads=True
            )
        return Changes(head.over_positions(grad).mean(2), chain.layers)
    last = chain.layers[-1]
    if chain.width % channels or not isinstance(last, Product):
        return None
    # Every cell that pooling left of a channel, or every position, changes with it alike.
    merged = Product(_cells(last.weight, channels, head.channel_dim).sum(-1))
    entrance = torch.full_like(merged.weight[:1], 1 / head.positions)
    return Changes(entrance, [*chain.layers[:-1], merged])


def _error_of_logits(head: Head, otherwise: float) -> Tensor:
    """How far the logits are from W · mean(A) + b, relative to what is added up; `otherwise` where unknown."""
    logits, activation = as_float(head.logits.detach()), as_float(head.activation.detach())
    cells = _per_cell(head, range(logits.shape[1]))
    if cells is None or cells.shape[2] not in (1, head.positions):
        return torch.full_like(logits[0, 0], otherwise)
    features = activation.flatten(2) if cells.shape[2] > 1 else activation.flatten(2).mean(2, keepdim=True)
    weight, features = cells.flatten(1), features.flatten(1)
    bias = None if head.bias is None else as_float(head.bias.detach())
    found = F.linear(features, weight, bias) * head.scale
    squares = F.linear(features.square(), weight.square(), None if bias is None else bias.square())
    return _worst(found - logits, squares.sqrt() * abs(head.scale) + logits.abs())


def _worst(off: Tensor, added: Tensor) -> Tensor:
    """The largest |off| / added; NaN where one of them is."""
    return (off.abs() / added.clamp_min(torch.finfo(added.dtype).tiny)).amax()


def _wave(count: int, like: Tensor) -> Tensor:
    """Generic numbers, the same ones each time: no random state moves."""
    return torch.arange(1, count + 1, device=like.device, dtype=torch.float32).cos_().to(like.dtype)
