"""Leave a model as it was found, and see through the wrappers around it."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from selftaught.errors import ExplanationError, InputError

# By class name: importing torch._dynamo or lightning only to ask isinstance would cost seconds.
_WRAPPED_AS = {
    "OptimizedModule": "_orig_mod",
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "_FabricModule": "module",
}


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own module inside torch.compile, DDP, DataParallel and Fabric wrappers.

    Raises:
        ExplanationError: DataParallel over several devices, whose replicas would overwrite what others caught.

    >>> unwrap(nn.DataParallel(nn.Linear(2, 3)))
    Linear(in_features=2, out_features=3, bias=True)
    """
    while type(model).__name__ in _WRAPPED_AS:
        if type(model).__name__ == "DataParallel" and len(getattr(model, "device_ids", ())) > 1:
            raise ExplanationError(
                "nn.DataParallel over several devices cannot be explained: use DistributedDataParallel (torchrun), or "
                "one device"
            )
        model = getattr(model, _WRAPPED_AS[type(model).__name__])
    return model


def refuse_foreign(model: nn.Module) -> None:
    """Refuse a model whose inside cannot be seen, or whose weights are not all here.

    Args:
        model: a classifier, unwrapped.

    Raises:
        ExplanationError: it is TorchScript or came out of `torch.export`, or a part of it has its weights spread over
            processes (FSDP, tensor parallelism).
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ExplanationError(
            "a TorchScript module cannot be explained, its layers are compiled: use the module that it was made from"
        )
    # The graphs of torch.fx.symbolic_trace still call the layers by name; exported ones call bare operators.
    if isinstance(model, torch.fx.GraphModule) and any(
        isinstance(node.target, torch._ops.OpOverload) for node in model.graph.nodes
    ):
        raise ExplanationError(
            "a module of torch.export cannot be explained, it has no layers left: use the module that was exported"
        )
    pieces = any(type(part).__name__ == "FullyShardedDataParallel" for part in parts(model))
    if pieces or any(type(parameter).__name__ == "DTensor" for parameter in model.parameters()):
        raise ExplanationError(
            "the model's weights are spread over processes (FSDP or tensor parallelism), which cannot be explained: "
            "use DistributedDataParallel"
        )


def refuse_scripted(model: nn.Module) -> None:
    """Refuse a model with a part in TorchScript, where its layers' outputs are wanted.

    Raises:
        ExplanationError: it has one.
    """
    for name, part in model.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise ExplanationError(
                f"part {name!r} of the model is TorchScript, whose layers Grad-CAM cannot see: use the module that it "
                "was made from, or saliency='grad'"
            )


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
    # Item by item: a scripted module's are no dictionary.
    held = [(module, name, buffer) for module in model.modules() for name, buffer in module._buffers.items()]
    values = [(buffer, buffer.clone()) for _, _, buffer in held if buffer is not None]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer in held:
                module._buffers[name] = buffer
            for buffer, value in values:
                # Not a change that autograd sees: a backward of the user's may be pending.
                buffer.data.copy_(value)


@contextmanager
def preserved_attributes(model: nn.Module) -> Iterator[None]:
    """Restore what the parts of `model` hold, one level deep, on leaving: what they keep of a forward pass is gone.

    Some keep what they made of their weights, in eval mode; made of changed weights it must not outlive the pass.
    """
    own = [vars(part) for part in parts(model)]
    held = [value for attributes in own for value in attributes.values()]
    collections: list[Any] = [*own, *(value for value in held if isinstance(value, dict | list | set))]
    saved = [(collection, collection.copy()) for collection in collections]
    try:
        yield
    finally:
        for collection, content in saved:
            # In place, since handles of hooks know the very dictionary; and only if need be, since compiled code looks
            # out for changes.
            if _inside(collection) != _inside(content):
                collection.clear()
                (collection.extend if isinstance(collection, list) else collection.update)(content)


def _inside(collection: Any) -> list[int]:
    """Which objects a dictionary, list or set holds."""
    every = chain.from_iterable(collection.items()) if isinstance(collection, dict) else collection
    return [id(item) for item in every]


def refuse_lazy(model: nn.Module) -> None:
    """Refuse a model whose layers take their shapes from the first batch: it cannot be left as it was found.

    Raises:
        InputError: it has such layers, and no batch has come yet.
    """
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise InputError("the model has lazy layers without a shape yet: run one batch through it first")
