"""Learning with explanations: Algorithm 1 of Gu, Wu and Tresp (ACCV 2020)."""

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from selftaught._inputs import check_range
from selftaught.amortised import LEAST_SHARE
from selftaught.introspective import IntrospectiveLoss, explaining
from selftaught.methods.base import Step, register
from selftaught.methods.two_stage import TwoStage
from selftaught.saliency import Explainer
from selftaught.saliency.plan import Plan


@register
@dataclass
class LearningWithExplanations(TwoStage):
    """Stage 1: L(p, y) for `warmup` epochs. Stage 2: L(p, q) + weight · L(p, y), q from the explanations (Eq. 6).

    With `refresh` below 1 only that share of the batches is explained, see `IntrospectiveLoss`: `start_step` must say
    which images come.
    """

    key = "le"
    summary = "learning with explanations: soft labels from the model's own saliency maps"
    criterion_class: ClassVar[type[IntrospectiveLoss]] = IntrospectiveLoss

    saliency: str = "grad-cam"
    similarity: str = "cosine"
    layer: str | None = None
    relu: bool = False
    refresh: float = 1.0
    upsample: bool = False
    centre: bool = False
    criterion: IntrospectiveLoss = field(init=False, repr=False, compare=False)
    samples: Tensor | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        explaining(self.saliency, self.layer, self.similarity, self.relu, self.upsample, self.centre)
        check_range(
            "refresh", self.refresh, lambda share: LEAST_SHARE <= share <= 1, f"in [{LEAST_SHARE}, 1]"
        )

    def bind(
        self,
        model: nn.Module,
        teacher: nn.Module | None = None,
        companions: Mapping[str, nn.Module] = MappingProxyType({}),
    ) -> None:
        """Take the model to be trained and prepare its loss."""
        super().bind(model, teacher, companions)
        self.criterion = self.criterion_class(
            model,
            self.saliency,
            self.layer,
            self.alpha,
            self.weight,
            self.similarity,
            self.relu,
            self.refresh,
            self.upsample,
            self.centre,
        )

    def start_step(self, samples: Tensor) -> None:
        """The images by whose numbers similarities are kept."""
        self.samples = samples

    def phase(self) -> Hashable | None:
        """The stage; none of them where only some of the batches are explained."""
        return super().phase() if self.criterion.amortised is None else None

    def settle(self) -> None:
        """Judge the maps of the steps so far."""
        self.criterion.explainer.settle()

    def state(self) -> dict[str, Any]:
        """How Grad-CAM reads the model (found out later, on other weights, it might be another exact form), and what is
        kept of explanations.
        """
        plan, amortised = self.criterion.explainer.plan, self.criterion.amortised
        kept = {"amortised": amortised.get_extra_state()} if amortised else {}
        return {"plan": asdict(plan) if plan else None, **kept}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self.learn(state)
        if self.criterion.amortised:
            self.criterion.amortised.set_extra_state(state["amortised"])

    def learn(self, found: dict[str, Any]) -> None:
        """Read the network as a later state did."""
        if found["plan"] is not None:
            plan = Plan(**found["plan"])
            self.criterion.explainer = Explainer(self.saliency, relu=self.relu, plan=plan, centre=self.centre)

    def explained(self) -> str | None:
        """Grad-CAM's layer."""
        plan = self.criterion.explainer.plan
        if plan is None:
            return None
        doubt = f"; {plan.note}" if plan.note else ""
        return f"{plan.layer} ({plan.head} head{doubt})"

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass, its explanation and the two terms."""
        self.criterion.warmup = self.warming_up
        loss = self.criterion(x, y, self.samples)
        logits = self.criterion.logits
        ce = F.cross_entropy(logits, y)
        terms = {"ce": ce} if self.warming_up else {"soft": loss.detach() - self.weight * ce, "ce": ce}
        return Step(loss, logits, terms, self.criterion.similarities)
