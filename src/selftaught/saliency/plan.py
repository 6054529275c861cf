"""The cheapest exact way to Grad-CAM's weights for a model that nobody has seen before.

A probe runs a few samples through a *perturbed* copy of the parameters and keeps the first shortcut that equals
the general form there. The perturbation matters: at initialisation a BatchNorm in eval mode is the identity and
a classifier may be all zero, and a shortcut that agrees by such a coincidence must not be trusted later on.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from selftaught.errors import ExplanationError
from selftaught.saliency import layers
from selftaught.saliency.backward import ExplanationRules, pays_to_vectorize
from selftaught.saliency.capture import Capture, as_logits, does_not_run
from selftaught.saliency.heads import HEADS, Head, not_finite
from selftaught.saliency.preserve import (
    eager,
    preserved_attributes,
    preserved_rng,
    refuse_foreign,
    refuse_lazy,
    refuse_scripted,
    unwrap,
)

_PROBE_SAMPLES = 8
_PROBE_CLASSES = 8


@dataclass(frozen=True)
class Plan:
    """How Grad-CAM reads one model; plain values, so that it can be stored as JSON.

    Attributes:
        layer: dotted name of the module whose output is explained.
        channel_dim: where that output keeps its channels: 1, or -1 for tokens (B, N, D) and NHWC maps.
        head: what lies between the layer and the logits: `"linear"` (pooling or flattening, then one linear
            layer: closed form), `"channel-wise"` (one backward serves all classes), `"by-feature"` (one product for
            each input of the classifier) or `"general"` (one for each class).
        classifier: dotted name of the linear layer that makes the logits; None if there is none.
        vectorized: whether the classes of a general head go through one batched backward.
    """

    layer: str
    channel_dim: int
    head: str
    classifier: str | None
    vectorized: bool


def make_plan(model: nn.Module, x: Tensor, layer: nn.Module | str | None = None) -> Plan:
    """Find Grad-CAM's layer, unless given, and the cheapest exact form of its weights.

    Nothing of the model changes, and the decision is deterministic.

    Args:
        model: any classifier from (B, ...) to (B, C).
        x: a batch (B, ...); at most 8 samples of it are used.
        layer: a module of the model or its dotted name.

    Raises:
        InputError: the layer is not a module of the model, or the model has lazy layers without a shape.
        ExplanationError: no layer has spatial extent, or the given one has none or does not run; or the model's inside
            cannot be seen.
    """
    module, x = unwrap(model), x[:_PROBE_SAMPLES].detach()
    refuse_foreign(module)
    refuse_scripted(module)
    refuse_lazy(module)
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), x.dtype)
    x = x.to(dtype) if x.is_floating_point() else x  # autocast, off below, would have seen to it
    state = _perturbed_state(module)

    def forward() -> Tensor:
        # Every slot is named once in `state`. Torch's own search for ties would name those of a module that goes by two
        # names twice, and put the changed tensors back as if they were the model's.
        return as_logits(torch.func.functional_call(module, state, (x.clone(),), tie_weights=False))

    with (
        preserved_rng(x.device),
        preserved_attributes(module),
        torch.enable_grad(),
        torch.autocast(x.device.type, enabled=False),
        eager(model),
    ):
        records, logits = layers.record(module, forward)
        if not logits.isfinite().all():
            raise not_finite("grad-cam")
        name = layers.find(records, logits) if layer is None else layers.name_of(module, layer)
        last = max((i for i, r in enumerate(records) if r.name == name), default=None)
        if last is None:
            raise does_not_run(name)
        if records[last].output.dim() < 3:
            raise ExplanationError(
                f"layer {name!r} returns shape {tuple(records[last].output.shape)}, without spatial extent: "
                "use saliency='grad', or give another layer="
            )
        plan = Plan(
            layer=name,
            channel_dim=layers.channel_dim(records[: last + 1]),
            head="general",
            classifier=next((r.name for r in records if _makes(logits, r)), None),
            vectorized=pays_to_vectorize(x, (r.module for r in records[last + 1 :])),
        )
        with Capture(module, name, plan.classifier, end=True) as captured, ExplanationRules() as rules:
            captured.run(forward)
        weight = state.get(f"{plan.classifier}.weight")
        head = Head(captured, rules, plan.channel_dim, weight, chunk_size=None, vectorized=plan.vectorized)
        return replace(plan, head=_cheapest(head))


def _makes(logits: Tensor, record: layers.Record) -> bool:
    return isinstance(record.module, nn.Linear) and record.output is logits


def _cheapest(head: Head) -> str:
    """The first form whose weights equal the general form's."""
    logits = head.captured.logits
    classes = torch.linspace(0, logits.shape[1] - 1, _PROBE_CLASSES).long().unique().tolist()
    expected = HEADS["general"](head, classes)
    assert expected is not None
    tolerance = min(1e3 * torch.finfo(logits.dtype).eps, 2e-2) * expected.abs().max()
    for name, weights in HEADS.items():
        found = weights(head, classes)
        if found is not None and tolerance > 0 and bool((found - expected).abs().max() <= tolerance):
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
