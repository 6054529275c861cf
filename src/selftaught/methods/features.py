"""What a network's blocks put out during its one forward pass, for methods that compare features.

A block is a module of the network, by its dotted name. Maps are (B, K, H, W); tokens (B, N, D), as transformers have
them, count as maps of D channels and N x 1 positions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from selftaught.errors import InputError
from selftaught.saliency import layers
from selftaught.saliency.preserve import eager, preserved_buffers, preserved_rng, unwrap


def built_in(network: nn.Module) -> list[str]:
    """The names of the blocks that the built-in resnets and cnns have, ``features.stage1`` and so on; else none.

    >>> from selftaught import models
    >>> built_in(models.create("resnet8", 10)), built_in(models.create("mlp", 10))
    (['features.stage1', 'features.stage2', 'features.stage3'], [])
    """
    names = {name for name, _ in unwrap(network).named_modules()}
    found: list[str] = []
    while (name := f"features.stage{len(found) + 1}") in names:
        found.append(name)
    return found


def named(network: nn.Module, blocks: str, role: str) -> list[str]:
    """The names in a list separated by commas, each a module of the network.

    Raises:
        InputError: one of them is not there; `role` says whose it is not.
    """
    try:
        return [layers.name_of(unwrap(network), name.strip()) for name in blocks.split(",")]
    except InputError as error:
        raise InputError(f"blocks of the {role}: {error}") from None


def run(network: nn.Module, x: Tensor, blocks: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
    """One forward pass of a batch x (B, ...): the logits (B, C) and each block's maps (B, K, H, W), with their graph.

    Raises:
        InputError: a block does not run, or its output is neither maps nor tokens.

    >>> from selftaught import models
    >>> network = models.create("resnet8", 10)
    >>> logits, maps = run(network, torch.zeros(2, 3, 16, 16), built_in(network))
    >>> [tuple(of_block.shape) for of_block in maps]
    [(2, 16, 16, 16), (2, 32, 8, 8), (2, 64, 4, 4)]
    """
    # Compiled code does not call hooks that came after it.
    with eager(network), _kept(unwrap(network), blocks) as outputs:
        logits = network(x)
        return logits, [_maps(name, outputs.get(name)) for name in blocks]


def shapes(network: nn.Module, x: Tensor, blocks: Sequence[str]) -> list[tuple[int, ...]]:
    """The shapes (K, H, W) of the maps that blocks make of a batch x (B, ...); network and RNG are left as found."""
    x = x.to(next(network.parameters(), x).device)
    with torch.no_grad(), preserved_rng(x.device), preserved_buffers(unwrap(network)):
        return [tuple(maps.shape[1:]) for maps in run(network, x, blocks)[1]]


@contextmanager
def _kept(network: nn.Module, blocks: Sequence[str]) -> Iterator[dict[str, Any]]:
    """While open, the dictionary gets what each block returns, by its name."""
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: outputs.update({name: output})

    handles = [network.get_submodule(name).register_forward_hook(keep(name)) for name in blocks]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _maps(name: str, output: Any) -> Tensor:
    """A block's output as maps (B, K, H, W)."""
    found = output[0] if isinstance(output, tuple | list) and output else output
    if isinstance(found, Tensor) and found.dim() == 4:
        return found
    if isinstance(found, Tensor) and found.dim() == 3:
        return found.mT.unsqueeze(3)
    is_what = f"of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"{type(found).__name__}"
    raise InputError(
        f"the output of block {name!r} is {is_what}, neither maps (B, K, H, W) nor tokens (B, N, D): name another block"
    )
