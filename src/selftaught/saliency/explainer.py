"""`explain`: logits and one saliency map per class, for a whole batch, from one forward pass."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selftaught import errors
from selftaught._inputs import check_labels
from selftaught.errors import InputError
from selftaught.saliency.backward import chosen
from selftaught.saliency.gradcam import GradCAM
from selftaught.saliency.gradients import Grad, GradInput, GuidedBackprop
from selftaught.saliency.maps import Maps
from selftaught.saliency.plan import Plan
from selftaught.saliency.preserve import (
    preserved_attributes,
    preserved_buffers,
    preserved_rng,
    refuse_foreign,
    refuse_lazy,
    unwrap,
)
from selftaught.saliency.watch import Watch, peak

_METHODS: dict[str, type[Any]] = {
    "grad-cam": GradCAM,
    "grad": Grad,
    "grad-input": GradInput,
    "guided-backprop": GuidedBackprop,
}


# Hooks see every thread's forward pass, and random states are the process's: two explanations must not overlap.
_ONE_AT_A_TIME = threading.RLock()


def names() -> list[str]:
    """The saliency methods, by the names that `saliency=` takes.

    >>> names()
    ['grad-cam', 'grad', 'grad-input', 'guided-backprop']
    """
    return list(_METHODS)


@dataclass(frozen=True)
class Explanation:
    """What a batch's explanation holds.

    Attributes:
        logits: (B, C).
        maps: (B, K, *spatial), one for each of the K classes explained (all C by default), float32 or float64.
        plan: for Grad-CAM, the layer and the form of its weights; None otherwise.
    """

    logits: Tensor
    maps: Tensor
    plan: Plan | None = None


class Explainer:
    """A saliency method ready to explain batch after batch inside a training step.

    Unlike `explain` it makes an ordinary forward pass: BatchNorm statistics and random states move on, and the
    logits keep their graph, so that one forward serves the loss and the explanation.

    Args:
        saliency: one of `names()`.
        layer: for Grad-CAM, a module of the model or its dotted name; found by itself if None.
        relu: for Grad-CAM, keep only the positive part of the maps.
        chunk_size: how many classes to differentiate at once; by default as many as fit 256 MB of gradients.
        plan: for Grad-CAM, a decision stored earlier, to be trusted instead of made on the first batch.
        centre: take the mean map over all classes off each map, see `explain`.

    Raises:
        InputError: an unknown saliency method, or an option that it does not have.
    """

    def __init__(
        self,
        saliency: str = "grad-cam",
        layer: nn.Module | str | None = None,
        relu: bool = False,
        chunk_size: int | None = None,
        plan: Plan | None = None,
        centre: bool = False,
    ) -> None:
        if saliency not in _METHODS:
            raise errors.unknown("saliency", saliency, names())
        if chunk_size is not None and chunk_size < 1:
            raise InputError(f"chunk_size must be at least 1, not {chunk_size}")
        if not isinstance(centre, bool):
            raise InputError(
                f"centre must be True or False (the mean map over the classes off), not {centre!r}"
            )
        options = {"layer": layer, "relu": relu or None, "plan": plan}
        given = {name: value for name, value in options.items() if value is not None}
        if given and saliency != "grad-cam":
            raise InputError(f"{next(iter(given))}= belongs to saliency='grad-cam', not to {saliency!r}")
        self.saliency = saliency
        self._watch = Watch(saliency)
        self._method = _METHODS[saliency](chunk_size=chunk_size, **given)
        self._centre = centre

    def __call__(self, model: nn.Module, x: Tensor, classes: Sequence[int] | None = None) -> Explanation:
        """Explain a batch x (B, ...); the maps are detached, the logits keep their graph.

        Raises:
            ExplanationError: every map is zero (before `relu`), or a map is not finite; on CUDA in the next call, see
                `settle`.
        """
        with _recordable(model, x) as x:
            logits, maps = self._explained(model, x, classes)
        signed = maps.make(slice(None))
        self._watch.look(peak(signed), self._chance())
        return Explanation(logits, maps.finish(signed), self.plan)

    def compare(
        self, model: nn.Module, x: Tensor, labels: Tensor, similarity: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Explain a batch x (B, ...) only to know how alike each class's map is to the true class's.

        What `similarity(self(model, x).maps, labels)` is, up to rounding, but a few samples at a time: Grad-CAM's maps
        of all classes and samples, many times larger than what they are made of, are never in memory together.

        Args:
            model: a classifier from (B, ...) to (B, C).
            x: (B, ...).
            labels: int64 (B,).
            similarity: from the maps (b, C, *spatial) and labels (b,) of some samples to (b, C).

        Returns:
            Logits (B, C), with their graph, and similarities (B, C), without one.

        Raises:
            ExplanationError: every map is zero (before `relu`), or a map is not finite; on CUDA in the next call, see
                `settle`.
            InputError: labels of the wrong shape, dtype or range.
        """
        with _recordable(model, x) as x:
            logits, maps = self._explained(model, x, None)
        check_labels(labels, *logits.shape)
        found, peaks = [], []
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            for rows in maps.parts():
                some = maps.make(rows)
                peaks.append(peak(some))
                found.append(similarity(maps.finish(some), labels[rows]))
        self._watch.look(peak(torch.stack(peaks)), self._chance())
        return logits, torch.cat(found)

    def _explained(self, model: nn.Module, x: Tensor, classes: Sequence[int] | None) -> tuple[Tensor, Maps]:
        """Logits, and maps still to be made."""
        if not self._centre:
            return self._method(model, x, classes)
        logits, maps = self._method(model, x, None)
        return logits, maps.centred(chosen(classes, logits))

    def settle(self) -> None:
        """On CUDA, wait for the verdict on the maps of the last call and of calls that a CUDA graph replayed.

        Elsewhere it was given at once.

        Raises:
            ExplanationError: every map was zero, or a map was not finite.
            ShortcutError: in replayed calls Grad-CAM's shortcut did not hold; take them again, recorded anew.
        """
        self._watch.settle()
        if isinstance(self._method, GradCAM):
            self._method.settle()

    def _chance(self) -> float:
        return self._method.chance_of_nothing if isinstance(self._method, GradCAM) else 0.0

    @property
    def plan(self) -> Plan | None:
        """For Grad-CAM, how the last batch was explained."""
        return getattr(self._method, "plan", None)


def explain(
    model: nn.Module,
    x: Tensor,
    saliency: str = "grad-cam",
    layer: nn.Module | str | None = None,
    relu: bool = False,
    classes: Sequence[int] | None = None,
    *,
    chunk_size: int | None = None,
    plan: Plan | None = None,
    centre: bool = False,
) -> Explanation:
    """One saliency map for every class and every sample, from one forward pass.

    The model is explained in the mode it is in. In train mode the maps explain the function that each sample
    went through: BatchNorm's statistics are the batch's, held constant. `x`, mode, parameters, buffers, other
    attributes, `.grad`, hooks and random states are left as found, also after an exception. Explanations in several
    threads wait for each other; other forward passes of the model must not run at the same time.

    Args:
        model: a classifier from (B, ...) to logits (B, C), or to an object with `.logits`.
        x: (B, ...), the input batch; floating point for all but Grad-CAM.
        saliency: `"grad-cam"`, `"grad"`, `"grad-input"` or `"guided-backprop"`.
        layer: for Grad-CAM, a module of the model or its dotted name; by default the output of the last block.
        relu: for Grad-CAM, keep only the positive part of the maps.
        classes: the K classes to explain; all of them if None.
        chunk_size: how many classes to differentiate at once, to bound memory.
        plan: for Grad-CAM, the `.plan` of an earlier explanation of this model in this mode, to save its probe.
        centre: take the mean map over all C classes off each map, before `relu`: a map then says what speaks for its
            class more than for the others. Of gradients all classes are made also where `classes` are some of them.
            With two classes the maps become each other's negative.

    Returns:
        `.logits` (B, C) and `.maps`, both detached: (B, K, *spatial of the layer) for Grad-CAM,
        (B, K, *shape of one input) for the others.

    Raises:
        InputError: an unknown saliency method or layer, classes out of range, or lazy layers without a shape.
        ExplanationError: no layer to explain, maps that are all zero (before `relu`) or not finite, or a model in
            TorchScript, of torch.export or in FSDP.

    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    >>> explanation = explain(model, torch.randn(2, 1, 8, 8))
    >>> explanation.maps.shape, explanation.plan.layer, explanation.plan.head
    (torch.Size([2, 3, 6, 6]), '1', 'linear')
    """
    explainer = Explainer(saliency, layer, relu, chunk_size, plan, centre)
    _check_input(model, x)
    module = unwrap(model)
    refuse_foreign(module)
    refuse_lazy(module)
    with (
        _ONE_AT_A_TIME,
        torch.inference_mode(False),
        torch.no_grad(),
        preserved_rng(x.device),
        preserved_buffers(module),
        preserved_attributes(module),
    ):
        with torch.enable_grad():
            # The model may work on it in place, or ask for its gradient, where it needs the graph that it has.
            own = x.clone()
        explanation = explainer(model, own, classes)
        explainer.settle()
    return Explanation(explanation.logits.detach(), explanation.maps, explanation.plan)


@contextmanager
def _recordable(model: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """The input, checked, as a tensor that gradients can be taken through also where inference mode is on."""
    _check_input(model, x)
    # Leaving inference mode would switch gradients on; a closed form needs none.
    recording = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(recording):
        # Tensors made in inference mode cannot be recorded; a copy made outside it can.
        yield x.clone() if x.is_inference() else x


def _check_input(model: nn.Module, x: Tensor) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if not isinstance(x, Tensor):
        raise InputError(
            f"x must be a tensor (B, ...), not {type(x).__name__}: wrap a model of several inputs in one that takes one"
        )
    if x.dim() < 2 or 0 in x.shape:
        raise InputError(
            f"x must be a batch (B, ...) with at least one sample, not of shape {tuple(x.shape)}"
        )


__all__ = ["Explainer", "Explanation", "explain", "names"]
