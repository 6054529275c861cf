"""What each operation does to gradients on their way back, where it is linear around a batch.

One class per kind of autograd node; `RULES` says which knows which.
"""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FROZEN = "_FrozenStatisticsBackward"
ENTRANCE = "_EntranceBackward"
"""The two kinds of node that `selftaught.saliency.backward` adds; an explanation leaves by their second edge."""

Backward = Callable[[Tensor, bool], tuple[Tensor, bool]]
"""From the gradient at a node's output, and whether it may be overwritten, to the same for the node's input."""


class Unsupported(Exception):  # noqa: N818  (not a mistake of anyone)
    """The graph holds what this module does not know."""


class Rule(ABC):
    """How gradients pass one node of the graph, backwards.

    Args:
        node: an autograd node.
        guided: pass only positive gradients through ReLUs.

    Attributes:
        edges: which of the node's inputs receive the gradient.
    """

    edges: tuple[int, ...] = (0,)

    def __init__(self, node: Any, guided: bool) -> None:
        self.node = node

    @abstractmethod
    def on(self, samples: slice) -> Backward:
        """The rule for these samples, for gradients (outputs · samples, ...) of any number of outputs."""


class Same(Rule):
    """Copies and aliases."""

    def on(self, samples: slice) -> Backward:  # noqa: D102
        return lambda grad, own: (grad, own)


class Add(Same):
    """A sum passes its gradient to both."""

    edges = (0, 1)

    def __init__(self, node: Any, guided: bool) -> None:
        super().__init__(node, guided)
        require(node._saved_alpha == 1)
        shapes = {shape_of(parent) for parent, _ in node.next_functions if parent is not None}
        require(shapes == {shape_of(node)})


class View(Rule):
    """Another shape of each sample."""

    def __init__(self, node: Any, guided: bool) -> None:
        super().__init__(node, guided)
        self.shape = tuple(node._saved_self_sym_sizes)[1:]

    def on(self, samples: slice) -> Backward:  # noqa: D102
        return lambda grad, own: (grad.reshape(len(grad), *self.shape), own)


class Restride(Same):
    """What adaptive average pooling does to (B, channels, 1, 1) in channels_last: nothing that has a derivative."""

    def __init__(self, node: Any, guided: bool) -> None:
        super().__init__(node, guided)
        size, stride = tuple(node._saved_size), tuple(node._saved_stride)
        source = shape_of(node.next_functions[0][0])
        require(not node._saved_storage_offset and size == source and math.prod(size[2:]) == 1)
        require(stride[:2] == (size[1], 1))


class Mean(Rule):
    """The mean over axes other than the batch's."""

    def __init__(self, node: Any, guided: bool) -> None:
        super().__init__(node, guided)
        self.shape = tuple(node._saved_self_sym_sizes)
        # Negative axes are stored as unsigned numbers.
        signed = ((dim + 2**63) % 2**64 - 2**63 for dim in node._saved_dim)
        self.dims = sorted(dim % len(self.shape) for dim in signed)
        require(bool(self.dims) and 0 not in self.dims)
        self.count = math.prod(self.shape[dim] for dim in self.dims)

    def on(self, samples: slice) -> Backward:  # noqa: D102
        def backward(grad: Tensor, own: bool) -> tuple[Tensor, bool]:
            if not self.node._saved_keepdim:
                for dim in self.dims:
                    grad = grad.unsqueeze(dim)
            return (grad / self.count).expand(-1, *self.shape[1:]), False

        return backward


class Linear(Rule):
    """input @ matrix, with or without a bias."""

    def __init__(self, node: Any, guided: bool) -> None:
        super().__init__(node, guided)
        self.edges = (len(node.next_functions) - 2,)
        require(getattr(node, "_saved_alpha", 1) == 1 and node._saved_mat2 is not None)
        self.transposed = node._saved_mat2.detach().t()

    def on(self, samples: slice) -> Backward:  # noqa: D102
        return lambda grad, own: (grad @ self.transposed, True)


class FirstLinear(Rule):
    """A linear layer that `selftaught.saliency.backward._Entrance` follows."""

    edges = (1,)

    def on(self, samples: slice) -> Backward:  # noqa: D102
        return lambda grad, own: (grad @ self.node.weight.detach(), True)


class Convolution(Rule):
    """A convolution, and the constant scale of each channel that a BatchNorm after it applies."""

    def __init__(self, node: Any, guided: bool, scale: Tensor | None = None) -> None:
        super().__init__(node, guided)
        edge, layer = (1, node.layer) if node.name() == ENTRANCE else (0, node)
        self.edges = (edge,)
        weight = layer._saved_weight.detach()
        require(weight.dim() == 4 and not layer._saved_transposed)
        if scale is not None:
            weight = weight * scale.view(-1, 1, 1, 1)
        smaller, larger = (shape_of(n)[2:] for n in (node, node.next_functions[edge][0]))
        self.back = _transposed(layer, weight, smaller, larger)

    def on(self, samples: slice) -> Backward:  # noqa: D102
        return lambda grad, own: (self.back(grad), True)


def first_layer(node: Any, guided: bool) -> Rule:
    """The rule of a layer that `selftaught.saliency.backward._Entrance` follows."""
    require(node.weight.dtype == dtype_of(node))
    return FirstLinear(node, guided) if len(node.shape) == 2 else Convolution(node, guided)


class Times(Rule):
    """Element-wise multiplication by something constant (dropout's mask)."""

    def __init__(self, node: Any, guided: bool) -> None:
        super().__init__(node, guided)
        require(node._saved_other is not None and node.next_functions[0][0] is not None)
        self.factor: Tensor = node._saved_other.detach()
        require(tuple(self.factor.shape) == shape_of(node) == shape_of(node.next_functions[0][0]))

    def on(self, samples: slice) -> Backward:  # noqa: D102
        factor = self.factor[samples]
        return lambda grad, own: (_times(grad, factor, own), True)


class Relu(Rule):
    """ReLU: a mask; for guided backpropagation only what is positive passes."""

    def __init__(self, node: Any, guided: bool) -> None:
        super().__init__(node, guided)
        self.result: Tensor = node._saved_result.detach()
        self.guided = guided

    def on(self, samples: slice) -> Backward:  # noqa: D102
        mask = self.result[samples].sign()

        def backward(grad: Tensor, own: bool) -> tuple[Tensor, bool]:
            if self.guided:
                grad, own = (grad.clamp_min_(0) if own else grad.clamp_min(0)), True
            return _times(grad, mask, own), True

        return backward


class Scale(Rule):
    """A BatchNorm with constant statistics that follows no convolution: a factor for each channel."""

    def __init__(self, node: Any, guided: bool, scale: Tensor, edge: int) -> None:
        super().__init__(node, guided)
        self.edges = (edge,)
        self.scale = scale.reshape(1, -1, *[1] * (len(shape_of(node)) - 2))

    def on(self, samples: slice) -> Backward:  # noqa: D102
        return lambda grad, own: (grad.mul_(self.scale) if own else grad * self.scale, True)


class MaxPool(Rule):
    """Max-pooling sends the gradient to where the largest value was."""

    def __init__(self, node: Any, guided: bool) -> None:
        super().__init__(node, guided)
        self.options = [
            node._saved_kernel_size,
            node._saved_stride,
            node._saved_padding,
            node._saved_dilation,
            node._saved_ceil_mode,
        ]

    def on(self, samples: slice) -> Backward:  # noqa: D102
        source, where = self.node._saved_self.detach()[samples], self.node._saved_result1[samples]

        def backward(grad: Tensor, own: bool) -> tuple[Tensor, bool]:
            parts = [
                torch.ops.aten.max_pool2d_with_indices_backward(part, source, *self.options, where)
                for part in grad.split(len(source))
            ]
            return (parts[0] if len(parts) == 1 else torch.cat(parts)), True

        return backward


RULES: dict[str, Callable[[Any, bool], Rule]] = {
    ENTRANCE: first_layer,
    "CloneBackward0": Same,
    "AliasBackward0": Same,
    "AddBackward0": Add,
    "ViewBackward0": View,
    "UnsafeViewBackward0": View,
    "ReshapeAliasBackward0": View,
    "AsStridedBackward1": Restride,
    "MeanBackward1": Mean,
    "AddmmBackward0": Linear,
    "MmBackward0": Linear,
    "ConvolutionBackward0": Convolution,
    "MulBackward0": Times,
    "ReluBackward0": Relu,
    "MaxPool2DWithIndicesBackward0": MaxPool,
}


def require(condition: bool) -> None:
    """Leave what is not as expected to autograd.

    Raises:
        Unsupported: it is not.
    """
    if not condition:
        raise Unsupported


def shape_of(node: Any) -> tuple[int, ...]:
    """The shape of what a node computed in the forward pass."""
    return tuple(node._input_metadata[0].shape)


def dtype_of(node: Any) -> torch.dtype:
    """The dtype of what a node computed in the forward pass."""
    dtype: torch.dtype = node._input_metadata[0].dtype
    return dtype


def _times(grad: Tensor, factor: Tensor, own: bool) -> Tensor:
    """Gradients (outputs · n, ...) times a factor (n, ...) that all outputs share."""
    if len(grad) != len(factor):
        several = grad.unflatten(0, (-1, len(factor)))
        return (several.mul_(factor) if own else several * factor).flatten(0, 1)
    return grad.mul_(factor) if own else grad * factor


def _transposed(
    layer: Any, weight: Tensor, smaller: Sequence[int], larger: Sequence[int]
) -> Callable[[Tensor], Tensor]:
    """From the gradient at a convolution's output, of spatial size `smaller`, to that at its input, `larger`."""
    stride, padding, dilation = layer._saved_stride, layer._saved_padding, layer._saved_dilation
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if tuple(stride) == (1, 1) and layer._saved_groups == 1 and all(map(operator.ge, reach, padding)):
        # The same as the transposed convolution below, and what processors are best at.
        flipped = _like(weight.flip(2, 3).transpose(0, 1), weight)
        around = [r - p for r, p in zip(reach, padding, strict=True)]
        return partial(F.conv2d, weight=flipped, padding=around, dilation=dilation)
    left_over = [
        n - ((m - 1) * s - 2 * p + r + 1)
        for n, m, s, p, r in zip(larger, smaller, stride, padding, reach, strict=True)
    ]
    return partial(
        F.conv_transpose2d,
        weight=_like(weight, weight),
        stride=stride,
        padding=padding,
        output_padding=left_over,
        groups=layer._saved_groups,
        dilation=dilation,
    )


def _like(weight: Tensor, original: Tensor) -> Tensor:
    """A weight in the memory format of the one that it was made of."""
    last = original.is_contiguous(memory_format=torch.channels_last)
    return weight.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def constant_scale(node: Any) -> Tensor | None:
    """Of a BatchNorm with constant statistics: the factor of each channel."""
    if node.name() == FROZEN:
        scale: Tensor = node.scale.flatten()
        return scale
    if node.name() == "NativeBatchNormBackward0" and not node._saved_training:
        scale = (node._saved_running_var + node._saved_eps).rsqrt()
        return scale if node._saved_weight is None else scale * node._saved_weight.detach()
    return None
