"""Networks that were built in this process, so that none is built twice alike.

A network of another package or of the user's own may take seconds to build: it reads its weights from files.
"""

import copy
import hashlib
import io
import pickle
import random
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from selftaught.models.registry import Spec
from selftaught.saliency.preserve import preserved_buffers, preserved_rng

_MOST_BYTES = 2**28
"""What the weights of all kept networks may take; the last one is kept even so."""


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


class _Kept(NamedTuple):
    model: nn.Module
    after: _Random


_KEPT: OrderedDict[tuple[Any, ...], _Kept] = OrderedDict()


def once(origin: tuple[str, ...], spec: Spec, build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` returns, or a copy of what it returned before from the same files, for the same, with the same seed.

    The random numbers go on alike, so a copy cannot be told from what would have been built. Networks that cannot be
    copied whole are built each time.

    Args:
        origin: what the network is made from, fingerprints of files with it.
        spec: what it is built for.
        build: makes it, initialised from the global generators.
    """
    here = (torch.get_default_device(), torch.get_default_dtype())
    key = (origin, spec, *here, _Random.now().digest())
    kept = _KEPT.get(key)
    if kept is not None:
        _KEPT.move_to_end(key)
        kept.after.restore()
        return copy.deepcopy(kept.model)
    model = build()
    twin = _copy(model, spec)
    if twin is not None:
        _KEPT[key] = _Kept(twin, _Random.now())
        while len(_KEPT) > 1 and sum(map(_bytes, _KEPT.values())) > _MOST_BYTES:
            _KEPT.popitem(last=False)
    return model


def _bytes(kept: _Kept) -> int:
    tensors = [*kept.model.parameters(), *kept.model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _copy(model: nn.Module, spec: Spec) -> nn.Module | None:
    """A copy that has nothing in common with the model; None where there is none.

    Functions are not copied, nor is what they refer to: a hook or a forward that was put together in place would go
    on with the layers of the original.
    """
    calls: list[nn.Module] = []
    with suppress(Exception):  # of the network's own code
        # Neither the model nor its copy runs: what a network keeps of a forward pass may not be copied.
        probe = copy.deepcopy(model)
        x = torch.zeros(2, spec.in_channels, spec.height, spec.width)
        handle = register_module_forward_pre_hook(lambda module, _inputs: calls.append(module))
        try:
            # What it has to say it said when it was rehearsed.
            with torch.enable_grad(), preserved_rng(x.device), preserved_buffers(probe), _silence():
                logits = probe(x)
        finally:
            handle.remove()
        own, weights = set(probe.modules()), set(map(id, probe.parameters()))
        if set(calls) <= own and set(map(id, _leaves(logits))) <= weights:
            return copy.deepcopy(model)
    return None


@contextmanager
def _silence() -> Iterator[None]:
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _leaves(output: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that gradients of `output` would arrive at."""
    found, waiting, seen = [], [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        waiting += [above for above, _ in node.next_functions]
    return found
