"""Which layer's output Grad-CAM explains when it is not told."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from selftaught.errors import ExplanationError, InputError
from selftaught.saliency.capture import first_tensor


@dataclass(frozen=True)
class Record:
    """One module's output during a forward pass."""

    name: str
    module: nn.Module
    output: Tensor


def record(module: nn.Module, forward: Callable[[], Tensor]) -> tuple[list[Record], Tensor]:
    """What every module returned, in the order in which they finished, and the logits of `forward()`."""
    records: list[Record] = []

    def hook_for(name: str) -> Callable[..., None]:
        def hook(child: nn.Module, _args: Any, output: Any) -> None:
            tensor = first_tensor(output)
            if tensor is not None:
                records.append(Record(name, child, tensor))

        return hook

    handles = [child.register_forward_hook(hook_for(name)) for name, child in module.named_modules() if name]
    try:
        return records, forward()
    finally:
        for handle in handles:
            handle.remove()


def name_of(module: nn.Module, layer: nn.Module | str) -> str:
    """The dotted name of a layer given as a module or a name.

    Raises:
        InputError: it is not a part of `module`.
    """
    names = {name: child for name, child in module.named_modules() if name}
    for name, child in names.items():
        if child is layer or name == layer:
            return name
    if not isinstance(layer, str):
        raise InputError(f"layer {type(layer).__name__} is not in the model: give one of its modules")
    near = difflib.get_close_matches(layer, names, n=3, cutoff=0.3)
    raise InputError(
        f"layer {layer!r} is not in the model: did you mean {', '.join(map(repr, near or list(names)[-3:]))}?"
    )


def find(records: Sequence[Record], logits: Tensor) -> str:
    """The last output with spatial extent, what global pooling sees.

    Where the head reads one position of it only (a class token), the gradient at all others is exactly zero:
    then the last normalisation whose output reaches the logits through several positions, which is the last
    block's first one.

    Raises:
        ExplanationError: there is none, as in an MLP.
    """
    outputs = [
        (index, r.output)
        for index, r in enumerate(records)
        if r.output.dim() >= 3 and r.output.shape[0] == logits.shape[0] and r.output.requires_grad
    ]
    # One generic direction in logit space tells which positions reach the logits at all.
    direction = torch.arange(1, logits.shape[1] + 1, device=logits.device).cos()
    last = True
    for index, output in reversed(outputs):
        (grad,) = torch.autograd.grad(
            logits, output, direction.expand_as(logits), retain_graph=True, allow_unused=True
        )
        if grad is None:
            continue
        reached = grad.abs().amax(channel_dim(records[: index + 1]))
        if reached[0].numel() == 1:
            continue
        reaches_several = bool((reached.flatten(1) > 0).sum(1).max() > 1)
        if reaches_several and (last or "norm" in type(records[index].module).__name__.lower()):
            return records[index].name
        last = False
    raise ExplanationError(
        "Grad-CAM finds no layer with spatial extent before the logits: use saliency='grad', or give layer="
    )


def channel_dim(records: Sequence[Record]) -> int:
    """Where the last record's output keeps its channels: 1, or -1 for tokens (B, N, D) and NHWC maps.

    Told by the nearest layer before it that is as wide as one of the two.
    """
    shape = records[-1].output.shape
    for r in reversed(records):
        match r.module:
            case (
                _ConvNd(out_channels=width)
                | _BatchNorm(num_features=width)
                | nn.GroupNorm(num_channels=width)
            ):
                # Says nothing of the last axis: after a concatenation its width may equal the image's by chance.
                if shape[1] == width:
                    return 1
                continue
            case nn.Linear(out_features=width) | nn.LayerNorm(normalized_shape=(*_, width)):
                pass
            case nn.Embedding(embedding_dim=width) | nn.MultiheadAttention(embed_dim=width):
                pass
            case nn.RNNBase(hidden_size=hidden, proj_size=projected, bidirectional=both):
                width = (projected or hidden) * (1 + both)
            case _:
                continue
        matches = [dim for dim in (1, -1) if shape[dim] == width]
        if len(matches) == 1:
            return matches[0]
        if matches:
            return 1 if len(shape) > 3 else -1
    return 1
