"""Grad-CAM (Selvaraju et al., 2017) for all classes at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from selftaught._inputs import as_float
from selftaught._notes import note
from selftaught.errors import ExplanationError, InputError, ShortcutError
from selftaught.saliency.backward import ExplanationRules, chosen
from selftaught.saliency.capture import Capture
from selftaught.saliency.heads import HEADS, Form, Head, error, no_graph, tolerance
from selftaught.saliency.maps import Maps
from selftaught.saliency.plan import Plan, capture, head_of, make_plan
from selftaught.saliency.preserve import eager, parts, preserved_buffers, refuse_synchronised, unwrap
from selftaught.saliency.watch import Trust


class GradCAM:
    """map_k = Σ_c α_kc A_c with α_kc the spatial mean of ∂logit_k/∂A_c; signed unless `relu`.

    How the weights are computed is decided on the first batch of a model, and again when a part of it changes between
    train and eval mode or the size of its inputs does. Every batch is then checked: where a shortcut does not hold, the
    next form is taken, from then on.

    Args:
        layer: the module whose output is A, or its dotted name; found on the first batch if None.
        relu: keep only the positive part of the maps.
        chunk_size: how many classes a general head differentiates at once.
        plan: a stored decision, to be taken instead of made.
    """

    def __init__(
        self,
        layer: nn.Module | str | None = None,
        relu: bool = False,
        chunk_size: int | None = None,
        plan: Plan | None = None,
    ) -> None:
        self.layer, self.relu, self.chunk_size = layer, relu, chunk_size
        self.plan = self._given = plan
        self.chance_of_nothing = 0.0
        self._trust = Trust()
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
        key = x.shape[1:], tuple(part.training for part in parts(module))
        plan = self.plan = self._plan_for(model, module, x, key)
        head = self._forward(model, module, x, plan)
        if head.is_open and head.captured.runs != plan.runs:
            plan, head = self._anew(model, module, x, key)
        _check_fits(head, plan)
        form = self._form(head, plan, classes)
        if form is None and not head.is_open:
            # Its linear head is none on this batch, and nothing else is seen of it from outside.
            with preserved_buffers(module):
                head = self._forward(model, module, x, plan, inside=True)
            form = self._form(head, plan, classes)
        if form is None:
            raise no_graph()
        if self.plan is not plan:
            self._keep(module, key, self.plan)
        self.chance_of_nothing = _chance_of_nothing(module, plan, head)
        return head.captured.logits, _maps(form, head.activation.detach(), plan, self.relu)

    def _anew(
        self, model: nn.Module, module: nn.Module, x: Tensor, key: tuple[Any, ...]
    ) -> tuple[Plan, Head]:
        """A plan and a forward pass for a model whose layer does not run as often as it did."""
        if self._given is not None:
            raise InputError(
                f"layer {self._given.layer!r} does not run {self._given.runs} times, as the plan says: leave out plan="
            )
        del self._plans[module][key]
        plan = self.plan = self._plan_for(model, module, x, key)
        with preserved_buffers(module):
            head = self._forward(model, module, x, plan)
        if head.captured.runs != plan.runs:
            raise ExplanationError(
                f"layer {plan.layer!r} runs another number of times in each forward pass: give another layer="
            )
        return plan, head

    def settle(self) -> None:
        """Judge the shortcut of the steps that a CUDA graph replayed.

        Raises:
            ShortcutError: it did not hold for one of them; the next steps take another form.
        """
        try:
            self._trust.settle()
        except ShortcutError:
            assert self.plan is not None
            self.plan = self._given = replace(self.plan, head=_next(self.plan.head))
            raise

    def _plan_for(self, model: nn.Module, module: nn.Module, x: Tensor, key: tuple[Any, ...]) -> Plan:
        if self._given is not None:
            named = dict(module.named_modules())
            for name in (self._given.layer, self._given.classifier):
                if name is not None and name not in named:
                    raise InputError(f"the stored plan names {name!r}, which this model does not have")
            return self._given
        plans = self._plans.setdefault(module, {})
        if key not in plans:
            plans[key] = make_plan(model, x, self.layer)
            if plans[key].note:
                note(f"Grad-CAM explains {plans[key].layer!r}: {plans[key].note}")
        return plans[key]

    def _keep(self, module: nn.Module, key: tuple[Any, ...], plan: Plan) -> None:
        if self._given is not None:
            self._given = plan
        else:
            self._plans[module][key] = plan

    def _form(self, head: Head, plan: Plan, classes: Sequence[int] | None) -> Form | None:
        """The plan's form if it holds on this batch, else the next one that does; None where there is no graph for it.

        A form that failed is not tried again.
        """
        every = chosen(classes, head.captured.logits)
        name, failed = plan.head, False
        with torch.autocast(head.captured.activation.device.type, enabled=False):
            while name != "general":
                form = HEADS[name](head, every)
                if form is not None and self._trust.holds(error(head, form, every), tolerance(head)):
                    break
                if not head.has_graph:
                    return None
                failed |= form is not None
                name = _next(name)
            else:
                form = HEADS["general"](head, every) if head.has_graph else None
        if failed and form is not None:
            self.plan = replace(plan, head=name)
        return form

    def _forward(
        self, model: nn.Module, module: nn.Module, x: Tensor, plan: Plan, inside: bool = False
    ) -> Head:
        """One forward pass, and what it left to be explained; `inside`: of what was compiled, as it was written."""
        rules = ExplanationRules()
        sealed = _is_compiled(model) and plan.head == "linear" and plan.runs == 1 and not inside
        if sealed:
            with Capture(module, plan.layer) as captured:
                captured.run(lambda: self._recompiled(model, plan.layer)(x))
        else:
            if plan.head != "linear":
                refuse_synchronised(model)
            captured = capture(module, plan, rules)
            with torch.set_grad_enabled(torch.is_grad_enabled() or inside), eager(model), captured, rules:
                captured.run(lambda: model(x))
            if captured.runs == plan.runs:
                rules.check_complete(captured.logits, captured.activation)
        return head_of(module, plan, captured, rules, chunk_size=self.chunk_size, is_open=not sealed)

    def _recompiled(self, model: nn.Module, layer: str) -> Callable[[Tensor], Any]:
        """The compiled model, compiled once more with the layer's hook in place: one added later never fires."""
        of_model = self._compiled.setdefault(model, {})
        if layer not in of_model:
            wrapper: Any = model
            # Not `unwrap(model)`: under DDP only its own forward synchronises gradients.
            inside = wrapper._orig_mod
            of_model[layer] = wrapper.dynamo_ctx(lambda x: inside(x))
        return of_model[layer]


def _rate(part: nn.Module) -> float:
    """The rate of a dropout layer, 0 of another."""
    return part.p if isinstance(part, _DropoutNd) else 0.0


def _check_fits(head: Head, plan: Plan) -> None:
    shape = tuple(head.captured.activation.shape)
    if len(shape) < 3:
        raise InputError(f"the stored plan names {plan.layer!r}, whose output {shape} has no positions")
    planned = plan.before + plan.cells + plan.after
    if plan.grid is not None and shape[1] != planned:
        raise InputError(
            f"the stored plan is for {planned} tokens, not for {shape[1]}: make it with inputs of this size"
        )


def _chance_of_nothing(module: nn.Module, plan: Plan, head: Head) -> float:
    """How probable it is that dropout behind the layer drops every channel of every sample."""
    if not plan.dropout:
        return 0.0
    rates = [_rate(part) for part in parts(module) if part.training]
    return max(rates, default=0.0) ** (len(head.captured.activation) * head.activation.shape[1])


def _is_compiled(model: nn.Module) -> bool:
    return type(model).__name__ == "OptimizedModule"


def _next(form: str) -> str:
    """The form to try after one that does not hold."""
    names = list(HEADS)
    return names[names.index(form) + 1]


def _maps(form: Form, activation: Tensor, plan: Plan, relu: bool) -> Maps:
    """Σ_c α_kc A_c from the activation (B, channels, *spatial); of tokens with a known grid, those of the grid."""
    shape = activation.shape[2:] if plan.grid is None else torch.Size(plan.grid)

    def make(rows: slice) -> Tensor:
        some = as_float(activation[rows])
        with torch.no_grad(), torch.autocast(some.device.type, enabled=False):
            return form.maps(some.flatten(2), rows).unflatten(2, shape)

    size = form.width * shape.numel() * as_float(activation[:0]).element_size()
    maps = Maps(make, len(activation), size, activation.device)
    return replace(maps, finish=lambda some: some.clamp_(min=0)) if relu else maps
