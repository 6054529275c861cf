"""Networks that are built: none twice alike in a process, and another time to see what no seed changes.

A network of another package or of the user's own may take seconds to build: it reads its weights from files.
"""

import hashlib
import pickle
import random
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from selftaught.models.architecture import Spec
from selftaught.saliency.preserve import preserved_rng

_MOST_KEPT = 2**28
"""What all kept networks may take; the last one is kept even so."""

_SEED = 20_261_130
_LARGE = 64
"""Numbers in a tensor from which on it is looked at: two that were drawn do not agree in so many."""

_MOST = 0.5
"""The share of what is looked at that is the same in a body that was not drawn: a new head is part of the rest."""


class _Random(NamedTuple):
    """The states of torch's, Python's and NumPy's global generators, all that a network's weights may come from."""

    torch: torch.Tensor
    python: Any
    numpy: Any

    @classmethod
    def now(cls) -> "_Random":
        return cls(torch.get_rng_state(), random.getstate(), np.random.get_state())

    def restore(self) -> None:
        torch.set_rng_state(self.torch)
        random.setstate(self.python)
        np.random.set_state(self.numpy)

    def digest(self) -> str:
        return hashlib.sha256(pickle.dumps((self.torch.numpy(), self.python, self.numpy))).hexdigest()


_KEPT: OrderedDict[tuple[Any, ...], tuple[bytes, _Random]] = OrderedDict()
"""Pickled networks, and the random states after they were built."""


def once(origin: tuple[str, ...], spec: Spec, build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` returns, or a copy of what it returned before from the same files, for the same, with the same seed.

    The random numbers go on alike, so a copy cannot be told from what would have been built. A network that cannot be
    pickled is built each time: a hook or a forward that was put together in place would go on with the layers of the
    original.

    Args:
        origin: what the network is made from, fingerprints of files with it.
        spec: what it is built for.
        build: makes it, initialised from the global generators.
    """
    here = (torch.get_default_device(), torch.get_default_dtype())
    key = (origin, spec, *here, _Random.now().digest())
    if key in _KEPT:
        _KEPT.move_to_end(key)
        blob, after = _KEPT[key]
        after.restore()
        return pickle.loads(blob)
    model = build()
    after = _Random.now()
    with suppress(Exception):  # whatever the network's parts raise when they are pickled
        _KEPT[key] = pickle.dumps(model), after
        while len(_KEPT) > 1 and sum(len(blob) for blob, _ in _KEPT.values()) > _MOST_KEPT:
            _KEPT.popitem(last=False)
    return model


def share_alike(first: nn.Module, second: nn.Module) -> float | None:
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
    """Whether a `share_alike` is that of a body which no seed changes."""
    return found is not None and found >= _MOST


def other_build(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` returns with another seed than any trial's; the random states are left as found."""
    with preserved_rng(torch.device("cpu")):
        torch.manual_seed(_SEED), random.seed(_SEED), np.random.seed(_SEED)
        return build()


def _constant(weight: torch.Tensor) -> bool:
    return bool((weight == weight.flatten()[0]).all())
