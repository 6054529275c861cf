"""The last layers of a classifier, those that act on one vector per image, read from autograd's graph.

Linear layers, LayerNorm and whatever acts on each number alone: their derivatives are known, so that what changes of
one position make of all logits is one product of each layer (forward mode), for all classes together; and so is what
the logits of a few classes take from all channels (reverse mode).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from selftaught._inputs import as_float
from selftaught.saliency.transposes import FROZEN, dtype_of, shape_of

_EACH_ALONE = {FROZEN} | {
    f"{name}Backward0"
    for name in (
        *("Relu", "LeakyRelu", "Elu", "Gelu", "Silu", "Mish", "Tanh", "Sigmoid", "Softplus", "Threshold"),
        *("Hardtanh", "Hardswish", "Hardsigmoid", "Clamp", "ClampMin", "ClampMax", "PreluKernel"),
        *("Mul", "Div", "Add", "Sub", "Neg", "Abs", "Exp", "Log", "Sqrt", "Pow"),
        *("NativeDropout", "NativeBatchNorm", "ToCopy", "Clone", "Alias"),
    )
}


class Layer(Protocol):
    """The derivative of a layer, for some samples of the batch."""

    @property
    def width(self) -> int:
        """How many outputs it has."""

    def __call__(self, changes: Tensor, rows: slice) -> Tensor:
        """From changes of its input (b, inputs, P) to those of its output (b, outputs, P)."""

    def back(self, gradients: Tensor, rows: slice) -> Tensor:
        """From gradients at its output (b, K, outputs) to those at its input (b, K, inputs)."""


@dataclass(frozen=True)
class Product:
    """A linear layer with weights (outputs, inputs)."""

    weight: Tensor

    @property
    def width(self) -> int:
        """How many outputs it has."""
        return len(self.weight)

    def __call__(self, changes: Tensor, rows: slice) -> Tensor:
        """W · changes."""
        return self.weight.to(changes.dtype) @ changes

    def back(self, gradients: Tensor, rows: slice) -> Tensor:
        """Gradients · W."""
        return gradients @ self.weight.to(gradients.dtype)


@dataclass(frozen=True)
class Factors:
    """A layer that acts on each number alone, with derivatives (B, outputs)."""

    slope: Tensor

    @property
    def width(self) -> int:
        """How many outputs it has."""
        return self.slope.shape[1]

    def __call__(self, changes: Tensor, rows: slice) -> Tensor:
        """Each change times its derivative."""
        return changes * self.slope[rows, :, None].to(changes.dtype)

    def back(self, gradients: Tensor, rows: slice) -> Tensor:
        """Each gradient times the derivative."""
        return gradients * self.slope[rows, None].to(gradients.dtype)


@dataclass(frozen=True)
class Norm:
    """LayerNorm over a vector: γ · x̂ with x̂ = (x - mean) / deviation (Ba et al., 2016).

    Attributes:
        normed: x̂, (B, outputs).
        scale: one over the deviation, (B, 1).
        weight: γ, (outputs,), or None.
    """

    normed: Tensor
    scale: Tensor
    weight: Tensor | None

    @property
    def width(self) -> int:
        """How many outputs it has."""
        return self.normed.shape[1]

    def __call__(self, changes: Tensor, rows: slice) -> Tensor:
        """γ · (change - its mean - x̂ · mean of x̂ · change) / deviation."""
        normed = self.normed[rows, :, None].to(changes.dtype)
        own = changes - changes.mean(1, keepdim=True) - normed * (normed * changes).mean(1, keepdim=True)
        own = own * self.scale[rows, :, None].to(changes.dtype)
        return own if self.weight is None else own * self.weight[:, None].to(changes.dtype)

    def back(self, gradients: Tensor, rows: slice) -> Tensor:
        """The same from the other side: what lies before γ is symmetric."""
        normed = self.normed[rows, None].to(gradients.dtype)
        own = gradients if self.weight is None else gradients * self.weight.to(gradients.dtype)
        own = own - own.mean(2, keepdim=True) - normed * (normed * own).mean(2, keepdim=True)
        return own * self.scale[rows, None].to(gradients.dtype)


@dataclass(frozen=True)
class Chain:
    """What was read.

    Attributes:
        layers: from the logits back.
        entrance: where the vector that the first of them takes is found in the graph.
        width: how many numbers that vector has.
        dtype: of the vector.
    """

    layers: list[Layer]
    entrance: GradientEdge
    width: int
    dtype: torch.dtype

    @property
    def is_one_product(self) -> bool:
        """Whether there is one linear layer and, but for factors of its outputs, nothing else."""
        return not any(isinstance(layer, Norm) for layer in self.layers) and (
            sum(isinstance(layer, Product) for layer in self.layers) == 1
        )


def read(logits: Tensor, leads: Mapping[Any, bool], classes: Sequence[int]) -> Chain | None:
    """The layers between one vector per image and the logits of `classes`, down to the first linear layer or LayerNorm.

    Args:
        logits: (B, C), with its graph.
        leads: of every node of the graph whether it leads to what is to be explained.
        classes: the classes wanted; a range stands for all.

    Returns:
        None where the logits are not made by a linear layer and factors.
    """
    layers: list[Layer] = []
    found: Chain | None = None
    node: Any = logits.grad_fn
    number = logits.output_nr
    wanted: Sequence[int] | None = None if isinstance(classes, range) else classes
    while number == 0 and leads.get(node) and len(shape_of(node)) == 2:
        step = _derivative(node, leads, logits.shape[0])
        if step is None or (isinstance(step[0], Norm) and found is None):
            break
        layer, edge = step
        if wanted is not None:
            layer = _of_classes(layer, wanted)
            wanted = None if isinstance(layer, Product) else wanted
        layers.append(layer)
        node, number = node.next_functions[edge]
        if not isinstance(layer, Factors):
            width = layer.weight.shape[1] if isinstance(layer, Product) else layer.width
            dtype = node._input_metadata[number].dtype
            found = Chain(list(layers), GradientEdge(node, number), width, dtype)
    return found


def _derivative(node: Any, leads: Mapping[Any, bool], batch: int) -> tuple[Layer, int] | None:
    """A node's derivative, and the number of the edge that its input comes by; None if it is not known."""
    name = node.name()
    edges = [
        number
        for number, (parent, _) in enumerate(node.next_functions)
        if leads.get(parent) and not (name == FROZEN and number != 1)
    ]
    if len(edges) != 1 or shape_of(node)[0] != batch:
        return None
    (edge,) = edges
    try:
        if name in ("AddmmBackward0", "MmBackward0"):
            product = _product(node, edge)
            return None if product is None else (product, edge)
        if name == "NativeLayerNormBackward0":
            return None if edge else (_norm(node), edge)
        if name in _EACH_ALONE and not (name == "NativeBatchNormBackward0" and node._saved_training):
            slope = _slope(node, edge)
            return None if slope is None else (Factors(slope), edge)
    except (RuntimeError, AttributeError):
        pass  # something was overwritten, or is not kept: the graph itself says so to whoever differentiates it
    return None


def _product(node: Any, edge: int) -> Product | None:
    is_addmm = node.name() == "AddmmBackward0"
    if edge != (1 if is_addmm else 0) or getattr(node, "_saved_alpha", 1) != 1 or node._saved_mat2 is None:
        return None
    return Product(as_float(node._saved_mat2.detach()).t())


def _norm(node: Any) -> Norm:
    given, mean, scale = (
        as_float(t.detach()) for t in (node._saved_input, node._saved_result1, node._saved_result2)
    )
    weight = node._saved_weight
    return Norm((given - mean) * scale, scale, None if weight is None else as_float(weight.detach()))


def _slope(node: Any, edge: int) -> Tensor | None:
    if node.name() == FROZEN:  # one of our own, which is no function to be called
        return as_float(node.scale.expand(shape_of(node)))
    ones = torch.ones(shape_of(node), dtype=dtype_of(node), device=node._input_metadata[0].device)
    with torch.no_grad():
        grads = node(ones)
    slope = grads[edge] if isinstance(grads, tuple) else grads
    return None if slope is None or slope.shape != ones.shape else as_float(slope)


def _of_classes(layer: Layer, classes: Sequence[int]) -> Layer:
    wanted = list(classes)
    if isinstance(layer, Product):
        return Product(layer.weight[wanted])
    assert isinstance(layer, Factors)
    return Factors(layer.slope[:, wanted])
