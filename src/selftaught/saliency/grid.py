"""Where in the picture the tokens of a transformer come from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.nn.modules.conv import _ConvNd

from selftaught.saliency.layers import Record

_LOOKED_AT = 4
"""How many outputs are asked where their tokens come from: after the first attention none of them can tell."""


@dataclass(frozen=True)
class Grid:
    """Tokens in the order of a picture's cells, row by row, between others that belong to no cell.

    Attributes:
        shape: how many cells there are along each axis of the picture.
        before: how many class, distillation or register tokens come first.
        after: how many come last.
    """

    shape: tuple[int, ...]
    before: int
    after: int


def find(records: Sequence[Record], source: Tensor) -> Grid | None:
    """The grid of the last record's tokens (B, N, D); None where it is not known.

    The first output with as many tokens is looked at, before attention has mixed them: which token is made of which
    cell of the patch embedding, or of which pixels, is read off gradients. Later stages that merge 2x2 tokens keep the
    picture's proportions.

    Args:
        records: what the modules returned, up to the layer.
        source: the input that they were made with, a leaf.
    """
    batch, count = records[-1].output.shape[:2]
    as_many = [
        (index, record)
        for index, record in enumerate(records)
        if record.edge is not None and record.output.dim() == 3 and record.output.shape[:2] == (batch, count)
    ]
    for index, record in as_many[:_LOOKED_AT]:
        found = _of_cells(records[:index], record, source)
        if found:
            return found
    return _merged(records, count)


def _of_cells(before: Sequence[Record], tokens: Record, source: Tensor) -> Grid | None:
    count = tokens.output.shape[1]
    for earlier in reversed(before):
        cells = math.prod(earlier.output.shape[2:])
        embeds = isinstance(earlier.module, _ConvNd) and earlier.output.dim() == source.dim()
        if embeds and earlier.edge is not None and cells <= count < 2 * cells:
            return _read_off(tokens, earlier.edge, tuple(earlier.output.shape[2:]))
    if not source.requires_grad:
        return None
    return _read_off(tokens, source, tuple(source.shape[2:]))


def _read_off(tokens: Record, cells: GradientEdge | Tensor, shape: tuple[int, ...]) -> Grid | None:
    """The grid, from the number of the token that each cell goes into; cells of one token are one cell."""
    numbers = _numbers(tokens, cells, shape)
    if numbers is None:
        return None
    for axis in range(len(shape)):
        numbers = _without_repeats(numbers, axis)
    first, used = int(numbers.min()), numbers.numel()
    in_order = torch.arange(first, first + used, device=numbers.device).view(numbers.shape)
    if first < 1 or used < 2 or not torch.equal(numbers, in_order):
        return None
    return Grid(tuple(numbers.shape), first - 1, tokens.output.shape[1] - used - first + 1)


def _numbers(tokens: Record, cells: Any, shape: tuple[int, ...]) -> Tensor | None:
    """The number of each cell's token, counted from 1, a binary digit for each backward pass; 0 for none."""
    _, count, width = tokens.output.shape
    assert tokens.edge is not None
    output = tokens.output
    every = torch.arange(1, count + 1, device=output.device)
    features = torch.arange(1, width + 1, device=output.device).cos().to(output.dtype)
    numbers = torch.zeros(shape, dtype=torch.int64, device=output.device)
    for digit in range(count.bit_length()):
        cotangent = ((every >> digit) & 1).to(output.dtype)[None, :, None] * features
        found: tuple[Any, ...] = torch.autograd.grad(
            [tokens.edge], [cells], [cotangent.expand_as(output)], retain_graph=True, allow_unused=True
        )
        if found[0] is None:
            return None
        numbers += (found[0].flatten(0, 1) != 0).any(0).long() << digit
    return numbers


def _without_repeats(numbers: Tensor, axis: int) -> Tensor:
    """One of each run of equal slices along an axis."""
    slices = numbers.movedim(axis, 0)
    keep = [0] + [i for i in range(1, len(slices)) if not torch.equal(slices[i], slices[i - 1])]
    return slices[keep].movedim(0, axis)


def _merged(records: Sequence[Record], count: int) -> Grid | None:
    """The grid after 2x2 tokens, or 4x4, ..., of the patch embedding's grid have become one.

    As many tokens as there are cells have been read off before, and were not in their order.
    """
    for record in records:
        if isinstance(record.module, _ConvNd) and record.output.dim() > 3:
            shape = tuple(record.output.shape[2:])
            break
    else:
        return None
    if math.prod(shape) <= count:
        return None
    while math.prod(shape) > count and all(length % 2 == 0 for length in shape):
        shape = tuple(length // 2 for length in shape)
    return Grid(shape, 0, 0) if math.prod(shape) == count > 1 else None
