"""Gradients of many outputs with respect to the input on a CPU, without a call of autograd's engine for each.

Around one batch, a network of convolutions, linear layers, ReLUs, frozen BatchNorms, additions and pools is a linear
map, a different one for each sample, and autograd's graph holds all of it. Here that graph is read once for a batch and
run backwards for a few samples and outputs at a time, so few that what they need stays in the processor's cache; the
scale of a BatchNorm becomes part of the convolution before it, and a mask is made once for all outputs. The arithmetic
is autograd's but for its order. Graphs with anything else in them are left to autograd.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from selftaught.saliency.transposes import (
    ENTRANCE,
    FROZEN,
    RULES,
    Backward,
    Convolution,
    Rule,
    Same,
    Scale,
    Unsupported,
    constant_scale,
    dtype_of,
    require,
    shape_of,
)

PIECE_BYTES = 2**22
"""How large the largest gradient of a piece may be: a few of them and the masks stay in the cache (measured)."""


class Jacobian:
    """The graph between `outputs` and `target`, ready to be run backwards piece by piece.

    Args:
        outputs: (B, R), the R outputs to differentiate; float32 or float64 on the CPU.
        target: (B, ...), what to differentiate by: a leaf, or what an operation of the graph returned.
        guided: pass only positive gradients through ReLUs.

    Raises:
        Unsupported: the graph holds an operation, a shape or a dtype that is not known here.
    """

    def __init__(self, outputs: Tensor, target: Tensor, guided: bool = False) -> None:
        require(target.device.type == "cpu" and target.dtype in (torch.float32, torch.float64))
        self.outputs, self.target = outputs, target
        self.nodes = _on_the_way(outputs, target)
        members = set(self.nodes)
        inputs = {
            node: {edge: parent for edge, parent in _inputs(node).items() if parent in members}
            for node in self.nodes[:-1]
        }
        readers = Counter(parent for parents in inputs.values() for parent in parents.values())
        self.rules: dict[Any, Rule] = {}
        for node, parents in inputs.items():
            # A first axis that is the samples' throughout: no operation below mixes them then.
            require(dtype_of(node) == target.dtype and shape_of(node)[0] == len(target))
            if node not in self.rules:
                self.rules |= _rules(node, parents, guided, readers)
            require(set(parents) <= set(self.rules[node].edges))
            self.rules[node].edges = tuple(parents)

    def __call__(self, columns: Sequence[int], most: int | None = None) -> Tensor:
        """The gradients of the outputs in `columns`, (B, K, *shape of one input), at most `most` outputs at a time."""
        shape = self.target.shape
        result = self.target.new_empty(shape[0], len(columns), *shape[1:])
        samples, outputs = self._sizes(len(columns), most)
        for begin in range(0, shape[0], samples):
            piece = slice(begin, min(begin + samples, shape[0]))
            backwards = {node: rule.on(piece) for node, rule in self.rules.items()}
            for first in range(0, len(columns), outputs):
                chosen = columns[first : first + outputs]
                found = self._backward(backwards, self._cotangents(piece, chosen))
                result[piece, first : first + outputs] = found.unflatten(0, (len(chosen), -1)).transpose(0, 1)
        return result

    def _sizes(self, columns: int, most: int | None) -> tuple[int, int]:
        """Samples and outputs of a piece, shared out evenly."""
        largest = max(math.prod(shape_of(node)[1:]) for node in self.nodes) * self.target.element_size()
        count = len(self.target)
        samples = _even(count, PIECE_BYTES // largest)
        outputs = _even(columns, min(most or columns, PIECE_BYTES // (samples * largest)))
        return samples, outputs

    def _cotangents(self, samples: slice, columns: Sequence[int]) -> Tensor:
        one_hot = self.target.new_zeros(len(columns), self.outputs.shape[1])
        one_hot[range(len(columns)), columns] = 1
        return one_hot.repeat_interleave(samples.stop - samples.start, 0)

    def _backward(self, backwards: dict[Any, Backward], cotangents: Tensor) -> Tensor:
        waiting: dict[Any, tuple[Tensor, bool]] = {self.nodes[0]: (cotangents, True)}
        for node in self.nodes[:-1]:
            grad, own = backwards[node](*waiting.pop(node))
            edges = self.rules[node].edges
            for edge in edges:
                parent = node.next_functions[edge][0]
                new = (grad, own and len(edges) == 1)
                waiting[parent] = _added(waiting[parent], new) if parent in waiting else new
        return waiting[self.nodes[-1]][0]


def final_linear(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
    """The features (B, F), with their graph, and the weights (C, F) of the linear layer that made the logits.

    None where another operation did, where `target` reaches the logits past the features, and where they are not at
    hand: a frozen layer does not keep them.
    """
    node: Any = logits.grad_fn
    if node is None or node.name() not in ("AddmmBackward0", "MmBackward0"):
        return None
    features = node._saved_mat1 if node.name() == "AddmmBackward0" else node._saved_self
    if features is None or features.dtype != logits.dtype or getattr(node, "_saved_alpha", 1) != 1:
        return None
    others = [parent for parent, _ in node.next_functions if parent is not features.grad_fn]
    if any(any(leads_to(parent, target).values()) for parent in others):
        return None
    return features, node._saved_mat2.detach().t()


def _rules(node: Any, parents: dict[int, Any], guided: bool, readers: Mapping[Any, int]) -> dict[Any, Rule]:
    """The rule of a node, and of the convolution before it if the two are one operation."""
    scale = constant_scale(node)
    if scale is None:
        require(node.name() in RULES)
        return {node: RULES[node.name()](node, guided)}
    edge, parent = next(iter(parents.items()))
    convolves = parent.name() == "ConvolutionBackward0" or (
        parent.name() == ENTRANCE and len(parent.shape) > 2
    )
    if convolves and readers[parent] == 1:
        merged = Same(node, guided)
        merged.edges = (edge,)
        return {node: merged, parent: Convolution(parent, guided, scale)}
    return {node: Scale(node, guided, scale, edge)}


def _inputs(node: Any) -> dict[int, Any]:
    """Where an explanation's gradient goes from a node, by the number of the edge."""
    edges = [1] if node.name() in (FROZEN, ENTRANCE) else range(len(node.next_functions))
    return {edge: node.next_functions[edge][0] for edge in edges if node.next_functions[edge][0] is not None}


def _on_the_way(outputs: Tensor, target: Tensor) -> list[Any]:
    """The nodes on paths from `outputs` back to `target`, each before its inputs; the last one is the target's."""
    leads = leads_to(outputs.grad_fn, target)
    order = [node for node in reversed(leads) if leads[node]]
    require(bool(order) and _is_end(order[-1], target))
    return order


def leads_to(root: Any, target: Tensor) -> dict[Any, bool]:
    """Of every node of the graph below `root`, inputs first: whether an explanation reaches `target` through it."""
    leads: dict[Any, bool] = {}
    met = set()
    waiting = [(root, False)]
    while waiting:
        node, expanded = waiting.pop()
        if expanded:
            leads[node] = _is_end(node, target) or any(leads[parent] for parent in _inputs(node).values())
        elif node is not None and node not in met:
            met.add(node)
            waiting.append((node, True))
            if not _is_end(node, target):
                waiting += [(parent, False) for parent in _inputs(node).values()]
    return leads


def _is_end(node: Any, target: Tensor) -> bool:
    return node is target.grad_fn if target.grad_fn is not None else getattr(node, "variable", None) is target


def _added(sum_so_far: tuple[Tensor, bool], new: tuple[Tensor, bool]) -> tuple[Tensor, bool]:
    """The sum of two gradients, in one of the two tensors where it may be overwritten."""
    (a, own_a), (b, own_b) = sum_so_far, new
    if own_a:
        return a.add_(b), True
    return (b.add_(a) if own_b else a + b), True


def _even(count: int, most: int) -> int:
    """The size of the fewest equal parts of `count` that are no larger than `most`, but for the last."""
    return math.ceil(count / math.ceil(count / max(1, most)))


__all__ = ["Jacobian", "Unsupported", "final_linear", "leads_to"]
