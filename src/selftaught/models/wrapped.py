"""A network of another package, with what our models have besides: dropout before the head, and a description."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from selftaught.errors import InputError


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
    """The names of the layers that parameters of the `head` belong to.

    Args:
        name: the model's, for messages.
        network: the classifier.
        head: names of parameters.
        dropout: what is to be put before the layers.

    Raises:
        InputError: there is to be dropout, and one of them is not linear.
    """
    layers = sorted({parameter.rpartition(".")[0] for parameter in head})
    if dropout and not all(isinstance(network.get_submodule(layer), nn.Linear) for layer in layers):
        raise InputError(f"{name} has no linear head to put dropout before: use another method or model")
    return layers
