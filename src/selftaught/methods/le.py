"""Learning with explanations: Algorithm 1 of Gu, Wu and Tresp (ACCV 2020)."""

import inspect
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from torch import Tensor, nn

from selftaught.files.settings import METHOD_SETTINGS, Declared
from selftaught.introspective import IntrospectiveLoss, explaining
from selftaught.methods.algorithm1 import Algorithm1
from selftaught.methods.base import Step, View, register
from selftaught.saliency.plan import Plan


@register
class LearningWithExplanations(Algorithm1):
    """Warm-up: L(p, y) for `warmup` epochs. Then L(p, q) + weight · L(p, y), q from the explanations (Eq. 6).

    Its further settings are those of `IntrospectiveLoss`. With `refresh` below 1 only that share of the batches is
    explained: `index` must then say which images come.
    """

    key = "le"
    criterion_class: ClassVar[type[IntrospectiveLoss]] = IntrospectiveLoss

    def __init__(self, model: nn.Module, **others: Any) -> None:
        super().__init__(model, **others)
        of_maps = {name: getattr(self, name) for name in self._of_maps()}
        self.criterion = self.criterion_class(model, alpha=self.alpha, weight=self.weight, **of_maps)
        self.recordable = self.criterion.amortised is None  # else steps are not alike

    @classmethod
    def settings(cls) -> dict[str, Declared]:
        """Those of Algorithm 1, and how explanations are made and compared."""
        return super().settings() | cls._of_maps()

    @classmethod
    def _of_maps(cls) -> dict[str, Declared]:
        options, others = inspect.signature(IntrospectiveLoss).parameters, {"model", *super().settings()}
        return {name: METHOD_SETTINGS[name] for name in options if name not in others}

    @classmethod
    def check(cls, settings: Mapping[str, Any]) -> None:
        """Refuse settings of explanations that do not go together, too."""
        super().check(settings)
        explaining(
            **{name: settings.get(name, declared.default) for name, declared in cls._of_maps().items()}
        )

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
        """One forward pass, its explanation and the two terms."""
        self.criterion.warmup = self.warming_up
        loss = self.criterion(x, y, index)
        ce = self.criterion.cross_entropy
        terms = {"ce": ce} if self.warming_up else {"soft": loss.detach() - self.weight * ce, "ce": ce}
        return Step(loss, self.criterion.logits, terms, self.criterion.similarities)

    def settle(self) -> None:
        """Judge the maps of the steps so far."""
        self.criterion.explainer.settle()

    @property
    def plan(self) -> Plan | None:
        """How Grad-CAM reads the model."""
        return self.criterion.explainer.plan

    def get_extra_state(self) -> dict[str, Any]:
        """The plan: found out later, on other weights, it might be another exact form."""
        return {"plan": asdict(self.plan) if self.plan else None}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Read the model as in the state, unless a plan was found since: where an earlier form did not hold."""
        plan = self.plan or (Plan(**state["plan"]) if state["plan"] else None)
        if plan:
            self.criterion.read_as(plan)
