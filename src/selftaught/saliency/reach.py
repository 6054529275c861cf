"""Through which outputs of a forward pass everything goes, and which of their positions the logits depend on.

Both are questions about the network, not about the values that flow in it: a ReLU that is zero on a few samples, a
dropout that dropped the wrong units or a pooling that took other positions must not decide them.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.overrides import TorchFunctionMode

_LEAK = 0.1
_GATES = {
    *(
        "relu",
        "relu_",
        "relu6",
        "hardtanh",
        "hardtanh_",
        "hardswish",
        "hardsigmoid",
        "threshold",
        "threshold_",
    ),
    *("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_"),
    *("dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d"),
    *("alpha_dropout", "feature_alpha_dropout", "feature_dropout"),
}
_DROPOUTS = {name for name in _GATES if "dropout" in name}
_MAX_POOLS = {f"{kind}max_pool{axes}d" for kind in ("", "adaptive_") for axes in (1, 2, 3)}
_MAXIMA = {"amax", "max", "topk"}
_KNOWN = _GATES | _MAX_POOLS | _MAXIMA
_PRIME = 2**61 - 1


class _Leaky(torch.autograd.Function):
    """Identity on an output; a part of its gradient goes to what the output was made of, past the operation."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, source: Tensor) -> Tensor:
        return output.clone()  # a view could not be worked on in place

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, _LEAK * grad


class Leaks(TorchFunctionMode):
    """While on, operations that stop the gradient of some of their inputs let a little of it through.

    All values stay as they are. A position whose gradient is exactly zero then has no way to the logits at all.

    Args:
        on_dropout: called with the rate of every dropout that is active, if given.
    """

    def __init__(self, on_dropout: Callable[[float], None] | None = None) -> None:
        super().__init__()
        self._on_dropout = on_dropout

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name not in _KNOWN or not (args or "input" in kwargs):
            return func(*args, **kwargs)
        source, rest = (args[0], args[1:]) if args else (kwargs.pop("input"), ())
        if not (isinstance(source, Tensor) and source.is_floating_point() and source.requires_grad):
            return func(source, *rest, **kwargs)
        if name in _DROPOUTS and self._on_dropout is not None:
            self._on_dropout(_rate(rest, kwargs))
        if name in _GATES:
            return _gated(func, source, rest, kwargs)
        return _pooled(func, name, source, rest, kwargs)


def _rate(rest: Sequence[Any], kwargs: dict[str, Any]) -> float:
    """The rate of a call of a dropout without its first argument; 0 where it is not active."""
    rate, training = (*rest, None, None)[:2]
    rate = kwargs.get("p", 0.5) if rate is None else rate
    training = kwargs.get("training", True) if training is None else training
    return float(rate) if training else 0.0


def _gated(func: Callable[..., Any], source: Tensor, rest: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
    """The output of an operation on each element alone, in place where the operation was."""
    own = source.clone()  # the operation may overwrite it
    version = own._version
    output = func(own, *rest, **kwargs)
    if output is own and own._version == version:  # a dropout that is not active
        return source
    leaky = _Leaky.apply(output, source.clone())
    return source.copy_(leaky) if output is own else leaky


def _pooled(
    func: Callable[..., Any], name: str, source: Tensor, rest: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """The output of a maximum over positions, all of which lead to it."""
    output = func(source, *rest, **kwargs)
    values = output[0] if isinstance(output, tuple) else output
    if name in _MAX_POOLS:
        spread = None
        if source.dim() == values.dim() > 2 and source.shape[:2] == values.shape[:2]:
            mean = source.flatten(2).mean(2)
            spread = mean.view(*mean.shape, *[1] * (source.dim() - 2)).expand_as(values)
    else:
        place, otherwise = (1, -1) if name == "topk" else (0, None)
        dim = kwargs.get("dim", rest[place] if len(rest) > place else otherwise)
        over_axes = isinstance(dim, int | tuple | list)
        spread = source.mean(dim, keepdim=values.dim() == source.dim()) if over_axes else None
        spread = spread.expand_as(values) if spread is not None and name == "topk" else spread
    if spread is None or spread.shape != values.shape:
        return output
    leaky = _Leaky.apply(values, spread)
    return type(output)((leaky, *output[1:])) if isinstance(output, tuple) else leaky


class Graph:
    """The autograd graph from the logits back to the input.

    Args:
        logits: (B, C), with its graph.
        source: the input as a leaf that requires gradients; where it is no such tensor, embeddings are the sources.
    """

    def __init__(self, logits: Tensor, source: Tensor) -> None:
        self._end = (logits.grad_fn, logits.output_nr)
        order = _inputs_first(logits.grad_fn)
        draw = random.Random(0)
        weights = {node: [draw.randrange(1, _PRIME) for _ in node.next_functions] for node in order}
        self._to_source: dict[Any, int] = {}
        self._learned: dict[Any, bool] = {}
        for node in order:
            variable = getattr(node, "variable", None)
            is_source = variable is source or (
                not source.requires_grad and node.name() == "EmbeddingBackward0"
            )
            parents = [(weight, parent) for weight, (parent, _) in _edges(node, weights)]
            paths = sum(weight * self._to_source[parent] for weight, parent in parents) % _PRIME
            self._to_source[node] = 1 if is_source else paths
            is_weight = variable is not None and variable is not source and variable.dim() > 1
            self._learned[node] = is_weight or any(self._learned[parent] for _, parent in parents)
        self._from_end: dict[tuple[Any, int], int] = {self._end: 1}
        reached = dict.fromkeys(order, 0)
        reached[logits.grad_fn] = 1
        for node in reversed(order):
            for weight, (parent, number) in _edges(node, weights):
                ways = weight * reached[node]
                reached[parent] = (reached[parent] + ways) % _PRIME
                self._from_end[parent, number] = (self._from_end.get((parent, number), 0) + ways) % _PRIME

    def all_goes_through(self, edge: GradientEdge) -> bool:
        """Whether every way from the input to the logits leads through an output.

        Each connection of the graph has a random number, each way the product of its connections' numbers: the ways
        through the output add up to those of all ways, if and (but for a chance of 1 in 10^18) only if they are all.
        True of every output where no way leads back to the input at all, as after `torch.no_grad()`.
        """
        every = self._to_source[self._end[0]]
        through = self._from_end.get((edge.node, edge.output_nr), 0) * self._to_source.get(edge.node, 0)
        return every == 0 or through % _PRIME == every

    def is_learned(self, edge: GradientEdge) -> bool:
        """Whether weights went into an output."""
        return self._learned.get(edge.node, False)


def _edges(node: Any, weights: dict[Any, list[int]]) -> Iterable[tuple[int, tuple[Any, int]]]:
    return (
        (w, edge) for w, edge in zip(weights[node], node.next_functions, strict=True) if edge[0] is not None
    )


def _inputs_first(root: Any) -> list[Any]:
    """The nodes of the graph below `root`, each after those that it takes its inputs from."""
    order: list[Any] = []
    met = set()
    waiting = [(root, False)]
    while waiting:
        node, expanded = waiting.pop()
        if expanded:
            order.append(node)
        elif node is not None and node not in met:
            met.add(node)
            waiting.append((node, True))
            waiting += [(parent, False) for parent, _ in node.next_functions]
    return order
