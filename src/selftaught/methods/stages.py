"""What a network's stages put out during its one forward pass, for methods that compare features.

The stages are the children `stage1`, `stage2`, ... of a network's `features`, as the built-in resnets and cnns have
them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from selftaught.errors import InputError
from selftaught.saliency.preserve import eager, preserved_buffers, preserved_rng, unwrap


def of(model: nn.Module) -> list[nn.Module]:
    """The stages of a network, also of one that is compiled or wrapped by Fabric; none where it has none.

    >>> from selftaught import models
    >>> len(of(models.create("resnet8", 10))), len(of(models.create("mlp", 10)))
    (3, 0)
    """
    features = getattr(unwrap(model), "features", None)
    children = dict(features.named_children()) if isinstance(features, nn.Module) else {}
    found: list[nn.Module] = []
    while f"stage{len(found) + 1}" in children:
        found.append(children[f"stage{len(found) + 1}"])
    return found


def run(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """One forward pass of a batch x (B, ...): the logits (B, C) and each stage's output (B, K, H, W), with their graph.

    >>> from selftaught import models
    >>> logits, outputs = run(models.create("resnet8", 10), torch.zeros(2, 3, 16, 16))
    >>> [tuple(output.shape) for output in outputs]
    [(2, 16, 16, 16), (2, 32, 8, 8), (2, 64, 4, 4)]
    """
    # Compiled code does not call hooks that came after it.
    with eager(model), _kept(of(model)) as outputs:
        return model(x), outputs


def shapes(model: nn.Module, x: Tensor) -> list[tuple[int, ...]]:
    """The shapes (K, H, W) that the stages give a batch x (B, ...); model and RNG are left as found."""
    with torch.no_grad(), preserved_rng(x.device), preserved_buffers(unwrap(model)):
        return [tuple(output.shape[1:]) for output in run(model, x)[1]]


def require(method: str, needed: int, student: nn.Module, teacher: nn.Module) -> None:
    """Refuse networks of too few stages.

    Raises:
        InputError: naming the method, the network and what to do.
    """
    for role, network, flag in (("student", student, "method"), ("teacher", teacher, "teacher")):
        if len(of(network)) < needed:
            raise InputError(
                f"{method} needs a {role} with {needed} stages (resnet..., cnn...), this one has {len(of(network))}: "
                f"use another --{flag}"
            )


@contextmanager
def _kept(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """While open, the list gets what each module returns, in the order in which they run."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Tensor) -> None:
        outputs.append(output)

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
