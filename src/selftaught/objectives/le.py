"""Learning with explanations: Algorithm 1 of Gu, Wu and Tresp (ACCV 2020)."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from selftaught.introspective import IntrospectiveLoss
from selftaught.objectives.base import Objective, Step, check_range, register


@register
@dataclass
class LearningWithExplanations(Objective):
    """Stage 1: L(p, y) for `warmup` epochs. Stage 2: L(p, q) + weight · L(p, y), q from the explanations (Eq. 6)."""

    key = "le"
    summary = "learning with explanations: soft labels from the model's own saliency maps"
    criterion_class: ClassVar[type[IntrospectiveLoss]] = IntrospectiveLoss

    alpha: float = 0.9
    weight: float = 0.1
    warmup: int = 0
    saliency: str = "grad-cam"
    similarity: str = "cosine"
    layer: str | None = None
    relu: bool = False
    criterion: IntrospectiveLoss = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, lambda alpha: 0 < alpha < 1, "in (0, 1)")
        check_range("weight", self.weight, lambda weight: 0 <= weight < float("inf"), "at least 0")
        check_range("warmup", self.warmup, lambda epochs: epochs >= 0, "at least 0 epochs")

    def bind(self, model: nn.Module) -> None:
        """Take the model to be trained and prepare its loss."""
        super().bind(model)
        self.criterion = self.criterion_class(
            model, self.saliency, self.layer, self.alpha, self.weight, self.similarity, self.relu
        )

    def start_epoch(self, epoch: int) -> None:
        """Stage 1 lasts `warmup` epochs."""
        self.criterion.warmup = epoch < self.warmup

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass, its explanation and the two terms."""
        loss = self.criterion(x, y)
        logits = self.criterion.logits
        ce = F.cross_entropy(logits, y)
        terms = {"ce": ce} if self.criterion.warmup else {"soft": loss.detach() - self.weight * ce, "ce": ce}
        return Step(loss, logits, terms)
