"""Whether a network starts from weights that no seed changes: it is pretrained then, whatever is said of it."""

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from selftaught.saliency.preserve import preserved_rng

_SEED = 20_261_130
_LARGE = 64
"""Numbers in a tensor from which on it is looked at: two that were drawn do not agree in so many."""

_MOST = 0.5
"""The share of what is looked at that is the same in a body that was not drawn: a new head is part of the rest."""


def share(first: nn.Module, second: nn.Module) -> float | None:
    """How much of two builds of one network, with different seeds, is the same: of the numbers or of the tensors.

    What counts are weights that are trained, of at least two dimensions, and not the same all over, as some layers
    begin with zeros. None where there are no such weights.
    """
    other = dict(second.named_parameters())
    looked_at = {
        name: weight
        for name, weight in first.named_parameters()
        if weight.requires_grad and weight.ndim > 1 and weight.numel() >= _LARGE and not _constant(weight)
    }
    same = [weight for name, weight in looked_at.items() if torch.equal(weight, other[name])]
    if not looked_at:
        return None
    numbers = sum(weight.numel() for weight in same) / sum(weight.numel() for weight in looked_at.values())
    return max(numbers, len(same) / len(looked_at))


def is_alike(found: float | None) -> bool:
    """Whether a `share` is that of a body which no seed changes."""
    return found is not None and found >= _MOST


def other_build(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` returns with another seed than any trial's; the random states are left as found."""
    with preserved_rng(torch.device("cpu")):
        torch.manual_seed(_SEED), random.seed(_SEED), np.random.seed(_SEED)
        return build()


def _constant(weight: torch.Tensor) -> bool:
    return bool((weight == weight.flatten()[0]).all())
