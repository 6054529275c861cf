"""Catch what flows between a chosen layer and the logits, without changing it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from selftaught.errors import ExplanationError, InputError


def first_tensor(output: Any) -> Tensor | None:
    """A module's output where it is a tensor or starts with one (the habit of transformer blocks)."""
    if isinstance(output, tuple) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def as_logits(output: Any) -> Tensor:
    """The (B, C) logits of a model's output: itself, or its `.logits` as Hugging Face models name them.

    Raises:
        InputError: the output is neither.
    """
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(output).__name__
        raise InputError(f"the model must return logits of shape (B, C), not {found}")
    return logits


class Capture:
    """While open, keeps a layer's output and the classifier's input of each forward pass.

    Args:
        module: the model, unwrapped.
        layer: dotted name of the layer.
        classifier: dotted name of the final linear layer, if its input is wanted.

    Attributes:
        activation: the layer's output, the point to differentiate at.
        pooled: the classifier's input, or None.
        logits: the (B, C) logits, set by `run`.
    """

    def __init__(self, module: nn.Module, layer: str, classifier: str | None) -> None:
        self._layer = module.get_submodule(layer)
        self._classifier = None if classifier is None else module.get_submodule(classifier)
        self._name = layer
        self._handles: list[Any] = []
        self._activation: Tensor | None = None
        self.pooled: Tensor | None = None
        self.logits: Tensor

    def __enter__(self) -> "Capture":
        self._handles.append(self._layer.register_forward_hook(self._keep_activation))
        if self._classifier is not None:
            self._handles.append(self._classifier.register_forward_pre_hook(self._keep_pooled))
        return self

    def __exit__(self, *exc: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def run(self, forward: Callable[[], Any]) -> None:
        """Make one forward pass and keep its logits.

        Raises:
            ExplanationError: the layer did not run.
        """
        self.logits = as_logits(forward())
        if self._activation is None:
            raise ExplanationError(
                f"layer {self._name!r} does not run or returns no tensor: give another layer="
            )

    @property
    def activation(self) -> Tensor:
        """The layer's output in its own layout."""
        assert self._activation is not None
        return self._activation

    def _keep_activation(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        tensor = first_tensor(output)
        if tensor is None:
            return output
        if not tensor.requires_grad and torch.is_grad_enabled():
            tensor = tensor.detach().requires_grad_()  # a frozen backbone: start the graph here
        self._activation = tensor
        # What follows gets a copy: it may work in place, and the maps need the values as the layer gave them.
        passed_on = tensor.clone()
        return (passed_on, *output[1:]) if isinstance(output, tuple) else passed_on

    def _keep_pooled(self, _module: nn.Module, args: Any) -> None:
        self.pooled = args[0] if args else None
