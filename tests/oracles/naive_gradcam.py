"""Grad-CAM by its definition: one sample's one logit after another, without any shortcut (Selvaraju et al., 2017).

It knows nothing of how `selftaught` finds its weights: it is told the layer, and which of the layer's runs, and hooks
that output of a copy of the model.
"""

import copy
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Naive:
    """What the definition gives for a batch.

    Attributes:
        logits: (B, C).
        maps: (B, C, *spatial), signed.
        scale: (B, C), what rounding is to be measured by: the largest, over positions, sum over channels of
            |A| · mean |gradient|. The maps are sums of these products, and may be much smaller by cancellation.
        reached: (B, positions), whether the gradient of a generic combination of the logits is not zero there.
    """

    logits: Tensor
    maps: Tensor
    scale: Tensor
    reached: Tensor


def naive_grad_cam(
    model: nn.Module,
    x: Tensor,
    layer: str,
    run: int,
    channel_dim: int,
    seed: int,
    leave_out: int = 0,
    grid: tuple[int, ...] | None = None,
) -> Naive:
    """Explain each class of each sample by a backward pass of its own.

    Args:
        model: a classifier from (B, ...) to logits, or to what holds them; it is copied and the copy run.
        x: (B, ...).
        layer: dotted name of the module whose output is A.
        run: which of its calls in a forward pass, counted from 0.
        channel_dim: where its output keeps the channels, 1 or -1.
        seed: of the random states at the beginning of the forward pass.
        leave_out: how many tokens at the beginning are no part of the picture, class and register tokens.
        grid: the shape of the picture that the other tokens are.
    """
    twin = copy.deepcopy(model)
    kept: list[Tensor] = []
    calls = 0
    running = True

    def keep(_module: nn.Module, _args: Any, output: Any) -> Any:
        nonlocal calls
        if not running:
            return output  # a checkpointed part runs once more in the backward pass
        calls += 1
        if calls != run + 1:
            return output
        tensor = output[0] if isinstance(output, tuple) else output
        if not tensor.requires_grad:
            tensor = tensor.detach().requires_grad_()
        kept.extend([tensor, tensor.detach().clone()])
        # What follows may change its input in place.
        passed_on = tensor.clone()
        return (passed_on, *output[1:]) if isinstance(output, tuple) else passed_on

    twin.get_submodule(layer).register_forward_hook(keep)
    with torch.enable_grad(), held_statistics():
        seed_everything(seed)
        logits = logits_of(twin(x.clone()))
        running = False
        assert kept, f"{layer} ran {calls} times, there is no run {run}"
        point, value = kept
        generic = torch.arange(1, logits.shape[1] + 1).cos().to(logits)
        (reach,) = torch.autograd.grad((logits * generic).sum(), point, retain_graph=True)
        grads = torch.stack([_gradients_of_one(logits, point, n) for n in range(len(logits))])
    activation = _channels_first(value, channel_dim)
    grads = torch.stack([_channels_first(g, channel_dim) for g in grads])
    if grid is not None:
        picture = slice(leave_out, leave_out + math.prod(grid))
        activation, grads = (t[..., picture].unflatten(-1, grid) for t in (activation, grads))
    alpha = grads.flatten(3).mean(3)
    size = grads.abs().flatten(3).mean(3)
    maps = torch.einsum("nkc,nc...->nk...", alpha, activation)
    scale = torch.einsum("nkc,ncp->nkp", size, activation.abs().flatten(2)).amax(2)
    reached = _channels_first(reach, channel_dim).flatten(2).abs().amax(1) > 0
    return Naive(logits.detach(), maps, scale, reached)


def difference(maps: Tensor, naive: Naive) -> float:
    """The largest difference from the definition's maps, each of a class and sample by its own scale."""
    assert maps.shape == naive.maps.shape, f"maps of shape {tuple(maps.shape)}, not {tuple(naive.maps.shape)}"
    gap = (maps - naive.maps).abs().flatten(2).amax(2)
    # Where nothing reaches the layer the maps are zero, and so is the scale.
    return float(torch.where(gap == 0, gap, gap / naive.scale).max())


def _gradients_of_one(logits: Tensor, point: Tensor, sample: int) -> Tensor:
    """(C, *one output): the gradient of each of a sample's logits at that sample's output."""
    rows = []
    for k in range(logits.shape[1]):
        (grad,) = torch.autograd.grad(logits[sample, k], point, retain_graph=True)
        others = torch.cat([grad[:sample], grad[sample + 1 :]])
        assert not others.any(), "samples are coupled: what is a sample's own map?"
        rows.append(grad[sample])
    return torch.stack(rows)


def _channels_first(tensor: Tensor, channel_dim: int) -> Tensor:
    """(n, channels, *spatial)."""
    return tensor.movedim(-1, 1) if channel_dim == -1 else tensor


def seed_everything(seed: int) -> None:
    """The random states that layers draw from."""
    torch.manual_seed(seed)
    random.seed(seed)


def logits_of(output: Any) -> Tensor:
    """The logits of what a model returned."""
    if isinstance(output, Mapping):
        return output["logits"]
    if isinstance(output, tuple):
        return output[0]
    return getattr(output, "logits", output)


def held_statistics() -> Any:
    """While inside, a BatchNorm in train mode is the constant affine map that its batch makes of it (design.md)."""
    original = F.batch_norm

    def batch_norm(
        input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
    ):
        if not training:
            return original(input, running_mean, running_var, weight, bias, training, momentum, eps)
        axes = [0, *range(2, input.dim())]
        seen = input.detach()
        mean, variance = seen.mean(axes, keepdim=True), seen.var(axes, correction=0, keepdim=True)
        affine = (input - mean) / (variance + eps).sqrt()
        if weight is not None:
            affine = affine * weight.view(mean.shape) + bias.view(mean.shape)
        # To the last bit the values of the original, whose rounding the layers behind would enlarge.
        value = original(seen, running_mean, running_var, weight, bias, training, momentum, eps).detach()
        return value + (affine - affine.detach())

    return mock.patch.object(F, "batch_norm", batch_norm)
