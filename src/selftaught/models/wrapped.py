"""A network of another package or of the user's: how it is wrapped, and its first forward pass."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from selftaught.errors import ExplanationError, InputError
from selftaught.models.architecture import Spec
from selftaught.saliency.preserve import preserved_buffers, preserved_rng, refuse_foreign, unwrap


class Wrapped(nn.Module):
    """A classifier of another package as images (B, K, H, W) to logits (B, C).

    Args:
        network: the classifier.
        head: names of the layers that make the logits.
        description: what `selftaught.models.create` makes the network from again, fit for JSON.
        dropout: rate of the dropout before the head.
    """

    def __init__(
        self, network: nn.Module, head: Sequence[str], description: dict[str, Any], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.network, self.description = network, description
        if dropout:
            self.dropout = nn.Dropout(dropout)
            for name in head:
                # A hook, not a layer in between: the keys of the state dict stay the same.
                network.get_submodule(name).register_forward_pre_hook(self._drop)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of normalised images (B, K, H, W)."""
        return self.network(x)

    def _drop(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.dropout(inputs[0]), *inputs[1:])


def head_layers(name: str, network: nn.Module, head: Iterable[str], dropout: float) -> list[str]:
    """The names of the layers that the parameters called `head` belong to; `name` is the model's, for messages.

    Raises:
        InputError: there is to be dropout before the layers, and one of them is not linear.
    """
    layers = sorted({parameter.rpartition(".")[0] for parameter in head})
    if dropout and not all(isinstance(network.get_submodule(layer), nn.Linear) for layer in layers):
        raise InputError(f"{name} has no linear head to put dropout before: use another method or model")
    return layers


def try_out(name: str, model: nn.Module, spec: Spec, remedy: str) -> None:
    """Pass two zero images through `model` in train mode, its buffers and all random states left as found.

    So a model that does not fit is refused before any training. Two, because a BatchNorm may refuse one.

    Raises:
        InputError: it fails, with the `remedy`, returns anything but float32 logits (B, C), cannot be explained, or
            has nothing to train.
    """
    try:
        refuse_foreign(unwrap(model))
    except ExplanationError as error:
        raise InputError(f"{name} returns a model that cannot be used here: {error}") from None
    model.train()
    x = torch.zeros(2, spec.in_channels, spec.height, spec.width)
    shape = (len(x), spec.num_classes)
    try:
        with torch.no_grad(), preserved_rng(x.device), preserved_buffers(model):
            logits = model(x)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a foreign model may raise anything
        size = f"{spec.in_channels}x{spec.height}x{spec.width}"
        raise InputError(f"{name} cannot take images of {size} ({reason(error)}): {remedy}") from None
    if not isinstance(logits, Tensor):
        raise InputError(
            f"{name} returns {type(logits).__name__}: it must return the logits, a tensor {shape}"
        )
    if tuple(logits.shape) != shape or logits.dtype != torch.float32:
        found = f"{str(logits.dtype).removeprefix('torch.')} {tuple(logits.shape)}"
        raise InputError(
            f"{name} returns {found} for {len(x)} images: it must return logits, float32 {shape}"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"{name} returns a model without a weight that can be trained: give it one")


def reason(error: BaseException) -> str:
    """What went wrong in one line of bounded length: other packages' messages run over many."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return textwrap.shorten(lines[0], 160, placeholder=" ...").rstrip(".:")
