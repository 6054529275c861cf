"""Grad-CAM (Selvaraju et al., 2017) for all classes at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from selftaught._inputs import as_float
from selftaught.errors import InputError
from selftaught.saliency.backward import ExplanationRules, chosen
from selftaught.saliency.capture import Capture
from selftaught.saliency.heads import HEADS, Head
from selftaught.saliency.maps import Maps
from selftaught.saliency.plan import Plan, make_plan
from selftaught.saliency.preserve import eager, parts, refuse_synchronised, unwrap


class GradCAM:
    """map_k = Σ_c α_kc A_c with α_kc the spatial mean of ∂logit_k/∂A_c; signed unless `relu`.

    How the weights are computed is decided on the first batch of a model and again only when a part of it changes
    between train and eval mode or its dropout rate (a dropout in the head is not linear in train mode).

    Args:
        layer: the module whose output is A, or its dotted name; found on the first batch if None.
        relu: keep only the positive part of the maps.
        chunk_size: how many classes a general head differentiates at once.
        plan: a stored decision, to be trusted instead of made.
    """

    def __init__(
        self,
        layer: nn.Module | str | None = None,
        relu: bool = False,
        chunk_size: int | None = None,
        plan: Plan | None = None,
    ) -> None:
        self.layer, self.relu, self.chunk_size = layer, relu, chunk_size
        self.plan = plan
        self._given = plan is not None
        self._forget()

    def _forget(self) -> None:
        self._plans: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], Plan]] = WeakKeyDictionary()
        self._compiled: WeakKeyDictionary[nn.Module, dict[str, Callable[[Tensor], Any]]] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_plans", "_compiled")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def __call__(self, model: nn.Module, x: Tensor, classes: Sequence[int] | None) -> tuple[Tensor, Maps]:
        """Logits (B, C), with their graph, and maps (B, K, *spatial) of the K classes, still to be made."""
        module = unwrap(model)
        plan = self.plan = self._plan_for(model, module, x)
        classifier = plan.classifier if plan.head in ("channel-wise", "by-feature") else None
        end = plan.head in ("by-feature", "general")
        with Capture(module, plan.layer, classifier, end=end) as captured:
            rules = self._forward(model, x, plan, captured)
        weight: Any = None
        if plan.head != "general" and plan.classifier is not None:
            weight = module.get_submodule(plan.classifier).weight
        head = Head(captured, rules, plan.channel_dim, weight, self.chunk_size, plan.vectorized)
        every = chosen(classes, captured.logits)
        # Of the two that count products, the one that needs fewer for these classes.
        few = plan.head == "by-feature" and weight is not None and len(every) < weight.shape[1]
        with torch.autocast(x.device.type, enabled=False):
            weights = HEADS["general" if few else plan.head](head, every)
            if weights is None:
                raise InputError(
                    f"the stored plan says the head is {plan.head!r}, which does not fit this model"
                )
        activation = head.channels_first(captured.activation).detach()
        return captured.logits, _maps(weights, activation, self.relu)

    def _plan_for(self, model: nn.Module, module: nn.Module, x: Tensor) -> Plan:
        if self._given:
            assert self.plan is not None
            named = dict(module.named_modules())
            for name in (self.plan.layer, self.plan.classifier):
                if name is not None and name not in named:
                    raise InputError(f"the stored plan names {name!r}, which this model does not have")
            return self.plan
        plans = self._plans.setdefault(module, {})
        behaviour = tuple((part.training, _rate(part)) for part in parts(module))
        if behaviour not in plans:
            plans[behaviour] = make_plan(model, x, self.layer)
        return plans[behaviour]

    def _forward(self, model: nn.Module, x: Tensor, plan: Plan, captured: Capture) -> ExplanationRules:
        rules = ExplanationRules()
        if plan.head == "linear" and type(model).__name__ == "OptimizedModule":
            captured.run(lambda: self._recompiled(model, plan.layer)(x))
        else:
            # Any other head needs a backward through its parts, which compiled code does not expose.
            if plan.head == "linear":
                with eager(model):
                    captured.run(lambda: model(x))
            else:
                refuse_synchronised(model)
                with torch.enable_grad(), eager(model), rules:
                    captured.run(lambda: model(x))
                rules.check_complete(captured.logits, captured.activation)
        return rules

    def _recompiled(self, model: nn.Module, layer: str) -> Callable[[Tensor], Any]:
        """The compiled model, compiled once more with the layer's hook in place: one added later never fires."""
        of_model = self._compiled.setdefault(model, {})
        if layer not in of_model:
            wrapper: Any = model
            # Not `unwrap(model)`: under DDP only its own forward synchronises gradients.
            inside = wrapper._orig_mod
            of_model[layer] = wrapper.dynamo_ctx(lambda x: inside(x))
        return of_model[layer]


def _rate(part: nn.Module) -> float | None:
    """The rate of a dropout layer, torch's own or one that is like it."""
    rate = vars(part).get("p")
    return rate if isinstance(rate, int | float) else None


def _maps(weights: Tensor, activation: Tensor, relu: bool) -> Maps:
    """Σ_c α_kc A_c from weights (1 or B, K, channels) and the activation (B, channels, *spatial)."""

    def make(rows: slice) -> Tensor:
        some = as_float(activation[rows])
        own = weights if len(weights) == 1 else weights[rows]
        with torch.no_grad(), torch.autocast(some.device.type, enabled=False):
            return (own @ some.flatten(2)).unflatten(2, some.shape[2:])

    size = weights.shape[1] * activation[0, 0].numel() * weights.element_size()
    maps = Maps(make, len(activation), size, activation.device)
    return replace(maps, finish=lambda some: some.clamp_(min=0)) if relu else maps
