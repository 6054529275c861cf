"""The cheapest exact way to Grad-CAM's weights for a model that nobody has seen before.

A probe runs a few samples through a *perturbed* copy of the parameters and keeps the first shortcut that equals
the general form there. The perturbation matters: at initialisation a BatchNorm in eval mode is the identity and
a classifier may be all zero, and a shortcut that agrees by such a coincidence must not be trusted later on.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from selftaught.errors import DegenerateMapsError, ExplanationError, InputError
from selftaught.saliency import grid, layers
from selftaught.saliency.backward import ExplanationRules, class_gradients, pays_to_vectorize
from selftaught.saliency.capture import Capture, as_logits, does_not_run
from selftaught.saliency.heads import HEADS, Head, error, is_fine, no_graph, not_finite, rounding, tolerance
from selftaught.saliency.preserve import (
    eager,
    preserved_attributes,
    preserved_rng,
    refuse_foreign,
    refuse_lazy,
    refuse_scripted,
    unwrap,
)
from selftaught.saliency.reach import Leaks

_PROBE_SAMPLES = 8
_PROBE_CLASSES = 8

_ROUNDINGS = 16
"""Maps of all classes that differ by no more roundings than this are one map times a number for each class."""

_COARSE_ROUNDINGS = 2
"""The same in lower precision than float32."""

_MUCH_DROPOUT = 0.9


@dataclass(frozen=True)
class Plan:
    """How Grad-CAM reads one model; plain values, so that it can be stored as JSON.

    Attributes:
        layer: dotted name of the module whose output is explained.
        channel_dim: where that output keeps its channels: 1, or -1 for tokens (B, N, D) and NHWC maps.
        head: what lies between the layer and the logits: `"linear"` (pooling or flattening, then one linear layer:
            closed form), `"channel-wise"` (one backward serves all classes), `"mlp"` (pooling or flattening, then
            several layers: one product of each), `"by-feature"` (one product for each input of the classifier) or
            `"general"` (one for each class).
        classifier: dotted name of the linear layer that makes the logits; None if there is none.
        vectorized: whether the classes of a general head go through one batched backward.
        run: which of the layer's runs in a forward pass is explained, counted from 0.
        runs: how many there are.
        scale: what the model multiplies the classifier's outputs by.
        grid: for tokens of a known grid, how many cells there are along each axis of the picture; else None.
        before: how many class, distillation or register tokens come before those of the grid.
        after: how many come after them.
        dropout: the highest rate of an active dropout behind the layer.
        note: what is doubtful about the layer, in a few words; empty if nothing is.
    """

    layer: str
    channel_dim: int
    head: str
    classifier: str | None
    vectorized: bool
    run: int = 0
    runs: int = 1
    scale: float = 1.0
    grid: tuple[int, ...] | None = None
    before: int = 0
    after: int = 0
    dropout: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        if self.grid is not None:
            object.__setattr__(self, "grid", tuple(self.grid))  # JSON knows lists only
        if self.head not in HEADS or self.channel_dim not in (1, -1) or not 0 <= self.run < self.runs:
            raise InputError(f"{self} is no plan that was ever made: leave plan= out")

    @property
    def cells(self) -> int:
        """How many tokens belong to the grid."""
        return math.prod(self.grid or ())

    @property
    def picture(self) -> slice:
        """Which tokens belong to the grid; all where it is not known."""
        return slice(None) if self.grid is None else slice(self.before, self.before + self.cells)


def make_plan(model: nn.Module, x: Tensor, layer: nn.Module | str | None = None) -> Plan:
    """Find Grad-CAM's layer, unless given, and the cheapest exact form of its weights.

    Nothing of the model changes, and the decision is deterministic.

    Args:
        model: any classifier from (B, ...) to (B, C).
        x: a batch (B, ...); at most 8 samples of it are used.
        layer: a module of the model or its dotted name.

    Raises:
        InputError: the layer is not a module of the model, or the model has lazy layers without a shape.
        ExplanationError: no layer has spatial extent and several channels, the given one has none or does not run, or
            its maps are the same for all classes up to a factor, or nothing but rounding; or the model's inside cannot
            be seen.
    """
    module, x = unwrap(model), x[:_PROBE_SAMPLES].detach()
    refuse_foreign(module)
    refuse_scripted(module)
    refuse_lazy(module)
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), x.dtype)
    x = x.to(dtype) if x.is_floating_point() else x  # autocast, off below, would have seen to it
    source = x.clone().requires_grad_(x.is_floating_point())
    state = {f"module.{name}": value for name, value in _perturbed_state(module).items()}

    def forward() -> Tensor:
        return as_logits(module(source.clone()))

    def probe() -> Plan:
        recording = layers.record(module, forward)
        if not recording.logits.isfinite().all():
            raise not_finite("grad-cam")
        choice = layers.find(recording, source) if layer is None else _given(recording, module, layer)
        plan = _layout(recording, choice, source)
        # Whether the network can tell classes apart there is not for the zeros of its ReLUs and dropouts to decide.
        _refuse_degenerate(_rehearsed(module, forward, plan, Leaks()), plan)
        return replace(plan, head=_cheapest(_rehearsed(module, forward, plan)))

    with (
        preserved_rng(x.device),
        preserved_attributes(module),
        torch.enable_grad(),
        torch.autocast(x.device.type, enabled=False),
        eager(model),
    ):
        # Every slot is named once in `state`. Torch's own search for ties would name those of a module that goes by two
        # names twice, and put the changed tensors back as if they were the model's.
        return torch.func.functional_call(_With(module), state, (probe,), tie_weights=False)


class _With(nn.Module):
    """Calls a function while the weights of a model are other ones, backward passes that run parts again included."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, function: Callable[[], Plan]) -> Plan:
        return function()


def _given(recording: layers.Recording, module: nn.Module, layer: nn.Module | str) -> layers.Choice:
    """The layer that the caller names: of its runs the last that can be explained.

    Raises:
        InputError: it is not a module of the model.
        ExplanationError: it does not run, or there is nothing to explain in its output.
    """
    name = layers.name_of(module, layer)
    runs = [index for index, r in enumerate(recording.records) if r.name == name]
    if not runs:
        raise does_not_run(name)
    faults = {index: layers.fault_of_shape(recording.records[: index + 1]) for index in runs}
    good = [index for index in runs if faults[index] is None]
    if not good:
        raise ExplanationError(
            f"layer {name!r} cannot be explained: its outputs {faults[runs[-1]]}; give another layer=, or use "
            "saliency='grad'"
        )
    return layers.Choice(good[-1], layers.coarseness(recording.records[: good[-1] + 1]))


def _layout(recording: layers.Recording, choice: layers.Choice, source: Tensor) -> Plan:
    """All of the plan but the head."""
    before = recording.records[: choice.index + 1]
    layer, behind = before[-1], recording.records[choice.index + 1 :]
    channel_dim = layers.channel_dim(before)
    of_tokens = layer.output.dim() == 3 and channel_dim == -1
    cells = grid.find(before, source) if of_tokens else None
    classifier, scale = _classifier(recording)
    dropout = recording.dropout_after(choice.index)
    notes = [choice.note] if choice.note else []
    if dropout >= _MUCH_DROPOUT:
        notes.append(f"a dropout of rate {dropout:g} behind it drops nearly all that is explained")
    return Plan(
        layer=layer.name,
        channel_dim=channel_dim,
        head="general",
        classifier=classifier,
        vectorized=pays_to_vectorize(source, (r.module for r in behind)),
        run=layer.run,
        runs=sum(r.name == layer.name for r in recording.records),
        scale=scale,
        grid=cells.shape if cells else None,
        before=cells.before if cells else 0,
        after=cells.after if cells else 0,
        dropout=dropout,
        note="; ".join(notes),
    )


def _classifier(recording: layers.Recording) -> tuple[str | None, float]:
    """The linear layer whose outputs are the logits, up to a factor and a copy, and that factor."""
    logits = recording.logits
    for record in reversed(recording.records):
        is_like = isinstance(record.module, nn.Linear) and record.output.shape == logits.shape
        if not is_like or record.edge is None or logits.grad_fn is None:
            continue
        (slope,) = torch.autograd.grad(
            [logits], [record.edge], [torch.ones_like(logits)], retain_graph=True, allow_unused=True
        )
        if slope is not None and bool(slope.amin() == slope.amax()):
            return record.name, float(slope[0, 0])
    return None, 1.0


def _rehearsed(
    module: nn.Module,
    forward: Callable[[], Tensor],
    plan: Plan,
    mode: AbstractContextManager[object] | None = None,
) -> Head:
    """What one more forward pass leaves to be explained."""
    rules = ExplanationRules()
    captured = capture(module, plan, rules)
    with layers.recorded_everywhere(module), captured, rules, mode or nullcontext():
        captured.run(forward)
    return head_of(module, plan, captured, rules)


def head_of(
    module: nn.Module,
    plan: Plan,
    captured: Capture,
    rules: ExplanationRules,
    *,
    chunk_size: int | None = None,
    is_open: bool = True,
) -> Head:
    """What a forward pass recorded behind a plan's layer."""
    classifier = None if plan.classifier is None else module.get_submodule(plan.classifier)
    if classifier is not None and is_parametrized(classifier):
        classifier = None  # to ask for its weights would make them anew, and move what makes them
    return Head(
        captured,
        rules,
        plan.channel_dim,
        plan.picture,
        is_open,
        getattr(classifier, "weight", None),
        getattr(classifier, "bias", None),
        plan.scale,
        chunk_size,
        plan.vectorized,
    )


def capture(module: nn.Module, plan: Plan, rules: ExplanationRules) -> Capture:
    """What keeps all that a plan needs of one forward pass, and lets the rules begin behind the layer."""
    rules.pause()
    run = plan.run if plan.runs > 1 else None
    return Capture(module, plan.layer, run, plan.classifier, end=True, record=True, on_layer=rules.resume)


def _refuse_degenerate(head: Head, plan: Plan) -> None:
    """Refuse a layer whose maps say nothing of the classes, whatever the weights are.

    Raises:
        ExplanationError: in every sample the maps are the same up to a factor, or they are nothing but rounding.
    """
    fault = _degenerate(head)
    if fault:
        text, kind = fault
        raise kind(
            f"the class maps at layer {plan.layer!r} {text}: give another layer=, or use saliency='grad'"
        )


def _degenerate(head: Head) -> tuple[str, type[ExplanationError]] | None:
    """What is wrong with the maps of a few classes, and whether other weights might give better ones."""
    if not head.has_graph:
        raise no_graph()
    means, sizes = [], []
    with head.rules.explaining():
        for chunk in class_gradients(
            head.logits,
            head.captured.activation,
            _some_classes(head),
            chunk_size=None,
            vectorized=head.vectorized,
        ):
            for grad in map(head.over_positions, chunk):
                means.append(grad.mean(2))
                sizes.append(grad.abs().mean(2))
    alpha = torch.stack(means, 1)
    fields = head.activation.detach().flatten(2).to(alpha.dtype)
    maps = alpha @ fields
    added = torch.stack(sizes, 1) @ fields.abs()
    if bool(maps.abs().amax() <= tolerance(head) * added.amax()):
        return "are nothing but rounding, since no gradient reaches it or all of it cancels", ExplanationError
    # Two classes' maps may be each other's opposite by right.
    eps = rounding(head)
    if maps.shape[1] < 3 or not _are_alike(maps, torch.linalg.vector_norm(added, dim=(1, 2)), eps):
        return None
    if _are_alike(alpha, torch.linalg.vector_norm(alpha, dim=(1, 2)), eps) or bool(
        (fields == fields[:, :, :1]).all()
    ):
        return "are one map times a number for each class", ExplanationError
    hint = "are one map times a number, since its outputs hardly differ between positions (weights, or BatchNorm's"
    return f"{hint} statistics, that were never trained?)", DegenerateMapsError


def _are_alike(rows: Tensor, size: Tensor, eps: float) -> bool:
    """Whether the rows of every sample (b, K, n) are one row times a number each, but for rounding of their `size`."""
    second = torch.linalg.svdvals(rows)[:, 1]
    return bool((second <= (_ROUNDINGS if is_fine(eps) else _COARSE_ROUNDINGS) * eps * size).all())


def _some_classes(head: Head) -> list[int]:
    return torch.linspace(0, head.logits.shape[1] - 1, _PROBE_CLASSES).long().unique().tolist()


def _cheapest(head: Head) -> str:
    """The first form that holds for the probe."""
    classes = range(head.logits.shape[1])
    for name, make in HEADS.items():
        form = make(head, classes) if name != "general" else None
        if form is not None and bool(error(head, form, classes) <= tolerance(head)):
            return name
    return "general"


def _perturbed_state(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers, each entry changed by its own deterministic amount.

    By the first name of the module that holds each; what several modules share they share here as well.
    """
    copies: dict[int, Tensor] = {}
    state = {}
    for prefix, part in module.named_modules():
        for slots, change in ((part._parameters, _perturbed_parameter), (part._buffers, _perturbed)):
            for name, value in slots.items():
                if value is not None:
                    if id(value) not in copies:
                        copies[id(value)] = change(value)
                    state[f"{prefix}.{name}" if prefix else name] = copies[id(value)]
    return state


def _perturbed_parameter(parameter: Tensor) -> Tensor:
    value = _perturbed(parameter.detach())
    if value.is_floating_point():
        # Also where it was zero; buffers keep their sign, since some are variances.
        value += 0.1 * (parameter.detach().abs().mean() + 0.1) * _wave(value)
        value.requires_grad_()
    return value


def _perturbed(value: Tensor) -> Tensor:
    return value * (1 + 0.1 * _wave(value)) if value.is_floating_point() else value.clone()


def _wave(value: Tensor) -> Tensor:
    steps = torch.arange(1, value.numel() + 1, device=value.device, dtype=torch.float32)
    return steps.cos_().to(value.dtype).view(value.shape)
