"""Catch what flows between a chosen layer and the logits, without changing it."""

from collections.abc import Callable, Mapping
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
    """The (B, C) logits of a model's output: itself, its `logits` (Hugging Face models), or the first of a tuple.

    Raises:
        InputError: the output is none of these.
    """
    if isinstance(output, Mapping) and "logits" in output:
        output = output["logits"]
    elif isinstance(output, tuple) and output:
        output = getattr(output, "logits", output[0])
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(output).__name__
        raise InputError(f"the model must return logits of shape (B, C), not {found}")
    return logits


def does_not_run(layer: str) -> ExplanationError:
    """The error for a layer that the forward pass does not reach."""
    return ExplanationError(f"layer {layer!r} does not run or returns no tensor: give another layer=")


class Capture:
    """While open, keeps what a forward pass computes at a layer, at the classifier and at the model's own end.

    Args:
        module: the model, unwrapped.
        layer: dotted name of the layer to explain, if its output is wanted.
        run: which of the layer's runs is explained, counted from 0; None for one that runs once.
        classifier: dotted name of the final linear layer, if its input is wanted.
        end: whether the module's own logits are wanted, to differentiate: what wrappers return may refuse it.
        record: whether a graph is recorded from the layer on also where the caller records none.
        on_layer: called when the layer has run.

    Attributes:
        activation: the layer's output, the point to differentiate at.
        pooled: the classifier's input, or None.
        end: the module's own logits (B, C), or None.
        logits: the (B, C) logits that the outermost wrapper returned, set by `run`.
        runs: how often the layer ran.
        precision: what autocast computes in behind the layer, or None where it is off.
    """

    def __init__(
        self,
        module: nn.Module,
        layer: str | None = None,
        run: int | None = None,
        classifier: str | None = None,
        *,
        end: bool = False,
        record: bool = False,
        on_layer: Callable[[], None] | None = None,
    ) -> None:
        self._layer, self._run = layer, run
        self._record, self._on_layer = record and not torch.is_grad_enabled(), on_layer
        self._hooks: list[tuple[Callable[..., Any], Callable[..., Any]]] = []
        if layer is not None:
            self._hooks.append((module.get_submodule(layer).register_forward_hook, self._keep_activation))
        if classifier is not None:
            register = module.get_submodule(classifier).register_forward_pre_hook
            self._hooks.append((register, self._keep_pooled))
        if end:
            self._hooks.append((module.register_forward_hook, self._keep_end))
        self._handles: list[Any] = []
        self._activation: Tensor | None = None
        self.runs = 0
        self.pooled: Tensor | None = None
        self.end: Tensor | None = None
        self.logits: Tensor
        self.precision: torch.dtype | None = None

    def __enter__(self) -> "Capture":
        self._handles = [register(hook) for register, hook in self._hooks]
        return self

    def __exit__(self, *exc: object) -> None:
        for handle in self._handles:
            handle.remove()
        # The hooks are this object's own methods: without this cycle a step's graph is freed at once.
        self._hooks, self._handles, self._on_layer = [], [], None

    def run(self, forward: Callable[[], Any]) -> None:
        """Make one forward pass and keep its logits.

        Raises:
            ExplanationError: the layer did not run.
        """
        self.runs = 0
        recording = torch.is_grad_enabled()
        try:
            self.logits = as_logits(forward())
        finally:
            if self._record:
                torch.set_grad_enabled(recording)
        if self._layer is not None and self._activation is None and not self.runs:
            raise does_not_run(self._layer)

    @property
    def activation(self) -> Tensor:
        """The layer's output in its own layout."""
        assert self._activation is not None
        return self._activation

    def _keep_activation(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        tensor = first_tensor(output)
        if tensor is None:
            return output
        if not torch.compiler.is_compiling():
            self.runs += 1
            if self._run is not None and self.runs - 1 != self._run:
                return output
            self._note_precision(tensor.device.type)
        if self._record:
            torch.set_grad_enabled(True)
        if not tensor.requires_grad and torch.is_grad_enabled():
            tensor = tensor.detach().requires_grad_()  # a frozen backbone: start the graph here
        self._activation = tensor
        if self._on_layer is not None:
            self._on_layer()
        # What follows gets a copy: it may work in place, and the maps need the values as the layer gave them.
        passed_on = tensor.clone()
        return (passed_on, *output[1:]) if isinstance(output, tuple) else passed_on

    def _note_precision(self, kind: str) -> None:
        self.precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

    def _keep_end(self, _module: nn.Module, _args: Any, output: Any) -> None:
        self.end = as_logits(output)

    def _keep_pooled(self, _module: nn.Module, args: Any) -> None:
        self.pooled = args[0] if args else None
