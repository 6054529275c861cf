"""An average of a network's weights over its last steps, which is often better than the last of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """The exponential moving average of the weights and floating buffers of a network.

    In step n (from 1) the average moves by 1 − min(decay, (1 + n) / (10 + n)) towards the network, so that it does not
    remember where a short training began.

    Args:
        network: what is averaged.
        decay: in (0, 1): about the last 1 / (1 − decay) steps count.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._network = network
        self._values = [tensor.detach().clone() for tensor in self._tensors()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network as it is after another step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._values, self._tensors(), 1 - decay)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While inside, the network has the average's values; its own come back after."""
        own = [tensor.detach().clone() for tensor in self._tensors()]
        self.adopt()
        try:
            yield
        finally:
            self._write(own)

    def adopt(self) -> None:
        """Give the network the average's values for good."""
        self._write(self._values)

    def state(self) -> dict[str, Any]:
        """What `restore` takes."""
        return {"steps": self.steps, "values": self._values}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self.steps = state["steps"]
        for mine, theirs in zip(self._values, state["values"], strict=True):
            mine.copy_(theirs)

    def _tensors(self) -> list[Tensor]:
        tensors = (*self._network.parameters(), *self._network.buffers())
        return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]

    def _write(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for tensor, value in zip(self._tensors(), values, strict=True):
                tensor.copy_(value)
