"""The weights that are evaluated, where they are not simply those of the last step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """An average of a network's weights and floating buffers, over its steps and with where it began.

    Over the steps it is an exponential moving average: in step n (from 1) it moves by
    1 − min(decay, (1 + n) / (10 + n)) towards the network, so that it does not remember where a short training began.
    The result lies `blend` of the way from the beginning to that average (Wortsman et al., "Robust fine-tuning of
    zero-shot models", CVPR 2022).

    Args:
        network: what is averaged, as it is before the first step.
        decay: in [0, 1): about the last 1 / (1 − decay) steps count; with 0 only the last one.
        blend: in (0, 1]; 1 for the average over the steps alone.
    """

    def __init__(self, network: nn.Module, decay: float = 0.0, blend: float = 1.0) -> None:
        self.decay, self.blend = decay, blend
        self.steps = 0
        self._network = network
        self._start = self._copies() if blend < 1 else []
        self._values = self._copies() if decay else []

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network as it is after another step."""
        self.steps += 1
        if self.decay:
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self._values, self._tensors(), 1 - decay)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While inside, the network has the average's values; its own come back after."""
        own = self._copies()
        self.adopt()
        try:
            yield
        finally:
            self._write(own)

    @torch.no_grad()
    def adopt(self) -> None:
        """Give the network the average's values for good."""
        values = self._values or self._tensors()
        if self.blend < 1:
            values = list(torch._foreach_lerp(self._start, values, self.blend))
        self._write(values)

    def state(self) -> dict[str, Any]:
        """What `restore` takes."""
        return {"steps": self.steps, "values": self._values, "start": self._start}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self.steps = state["steps"]
        for kept, name in ((self._values, "values"), (self._start, "start")):
            for mine, theirs in zip(kept, state[name], strict=True):
                mine.copy_(theirs)

    def _tensors(self) -> list[Tensor]:
        tensors = (*self._network.parameters(), *self._network.buffers())
        return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]

    def _copies(self) -> list[Tensor]:
        return [tensor.clone() for tensor in self._tensors()]

    def _write(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for tensor, value in zip(self._tensors(), values, strict=True):
                tensor.copy_(value)
