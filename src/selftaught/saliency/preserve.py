"""Leave a model as it was found, and see through the wrappers around it."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from selftaught.errors import ExplanationError

# By class name: importing torch._dynamo or lightning only to ask isinstance would cost seconds.
_WRAPPED_AS = {
    "OptimizedModule": "_orig_mod",
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "_FabricModule": "module",
}


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own module inside torch.compile, DDP, DataParallel and Fabric wrappers.

    >>> unwrap(nn.DataParallel(nn.Linear(2, 3)))
    Linear(in_features=2, out_features=3, bias=True)
    """
    while type(model).__name__ in _WRAPPED_AS:
        model = getattr(model, _WRAPPED_AS[type(model).__name__])
    return model


def parts(model: nn.Module) -> list[nn.Module]:
    """`model.modules()`, which spends most of its time on names: a step of a small network can tell the difference."""
    found, waiting = {}, [model]
    while waiting:
        part = waiting.pop()
        if id(part) not in found:
            found[id(part)] = part
            waiting += [child for child in part._modules.values() if child is not None]
    return list(found.values())


def is_compiled(model: nn.Module) -> bool:
    """Whether any part of `model` runs as compiled code, where hooks and function modes are not seen."""
    return any(
        type(part).__name__ == "OptimizedModule" or part._compiled_call_impl is not None
        for part in parts(model)
    )


def eager(model: nn.Module) -> AbstractContextManager[Any]:
    """While inside, what was compiled of `model` runs as it was written."""
    return torch.compiler.set_stance("force_eager") if is_compiled(model) else nullcontext()


def refuse_synchronised(model: nn.Module) -> None:
    """Refuse a SyncBatchNorm in train mode where its backward is needed.

    Raises:
        ExplanationError: there is one.
    """
    if any(isinstance(part, nn.SyncBatchNorm) and part.training for part in parts(model)):
        raise ExplanationError(
            "SyncBatchNorm in train mode mixes samples across processes: use BatchNorm, or saliency='grad-cam' at the "
            "output of the last block"
        )


@contextmanager
def preserved_rng(device: torch.device) -> Iterator[None]:
    """Restore the random states of Python, NumPy and torch (CPU and `device`) on leaving."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    accelerators = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=accelerators):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def preserved_buffers(model: nn.Module) -> Iterator[None]:
    """Restore every buffer of `model` (BatchNorm statistics, ...) on leaving, also those it replaced."""
    saved: list[tuple[nn.Module, str, Tensor, Tensor]] = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in saved:
                module._buffers[name] = buffer
                # Not a change that autograd sees: a backward of the user's may be pending.
                buffer.data.copy_(value)
