"""The linear layer that makes a network's logits, and what it reads: the features of a linear probe."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from selftaught.errors import InputError
from selftaught.saliency.preserve import preserved_buffers, preserved_rng, unwrap


def find(network: nn.Module, images: Tensor, remedy: str = "use --head new") -> tuple[str, nn.Linear]:
    """The layer, by its dotted name, whose output is the logits of a network, which is left as it was found.

    It is looked for with a few `images`, (B, K, H, W), on the network's device; `remedy` is what to do without one.

    Raises:
        InputError: no `torch.nn.Linear` with a bias reads one vector of each image and makes the logits from it.

    >>> from selftaught.models import create
    >>> name, layer = find(create("resnet8", num_classes=10), torch.zeros(2, 3, 32, 32))
    >>> name, layer.in_features
    ('head.classifier', 64)
    """
    outputs: dict[str, Tensor] = {}
    inner = unwrap(network)
    layers: dict[str, nn.Linear] = {n: m for n, m in inner.named_modules() if _is_linear(m)}
    runs: list[str] = []

    def note(name: str, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        runs.append(name)
        if inputs[0].ndim == 2:
            outputs[name] = output

    hooks = [
        layer.register_forward_hook(lambda _m, inputs, output, name=name: note(name, inputs, output))
        for name, layer in layers.items()
    ]
    try:
        with in_eval_mode(network), torch.no_grad(), preserved_rng(images.device), preserved_buffers(inner):
            logits = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    for name, output in reversed(outputs.items()):
        same = output.shape == logits.shape and torch.equal(output.to(logits.dtype), logits)
        if same and runs.count(name) == 1:
            return name, layers[name]
    raise InputError(
        "the network has no linear layer with a bias whose output is its logits, so its head can neither begin with a "
        f"linear probe nor have a rate of its own: {remedy}"
    )


def _is_linear(module: nn.Module) -> bool:
    """Whether it is a plain linear layer with a bias; what derives from one may compute something else."""
    return type(module) is nn.Linear and module.bias is not None


@torch.no_grad()
def features(network: nn.Module, layer: nn.Linear, batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """What the classifier `layer` reads of each batch of images in eval mode: float32 (B, D), on the CPU.

    The network is left as it was found; if it draws random numbers in eval mode too, they are the same each time.
    """
    with preserved_rng(layer.weight.device), preserved_buffers(unwrap(network)), in_eval_mode(network):
        torch.manual_seed(0)
        yield from _read(network, layer, batches)


def _read(network: nn.Module, layer: nn.Linear, batches: Iterator[Tensor]) -> Iterator[Tensor]:
    read: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _layer, inputs: read.append(inputs[0].detach()))
    try:
        for x in batches:
            network(x)
            yield read.pop().float().cpu()
    finally:
        hook.remove()


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """While inside, the network is in eval mode; each of its modules goes back to its own mode after."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
