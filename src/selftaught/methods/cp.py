"""Confidence penalty (Pereyra et al., 2017)."""

from dataclasses import dataclass

from torch import Tensor

from selftaught import losses
from selftaught._inputs import check_range
from selftaught.methods.base import Objective, Step, register


@register
@dataclass
class ConfidencePenalty(Objective):
    """L(p, y) − strength · H(p)."""

    key = "cp"
    summary = "confidence penalty: cross-entropy minus strength times the entropy"
    recordable = True

    strength: float = 0.5

    def __post_init__(self) -> None:
        check_range("strength", self.strength, lambda strength: 0 <= strength < float("inf"), "at least 0")

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass and its penalised cross-entropy."""
        logits = self.model(x)
        loss = losses.confidence_penalty(logits, y, self.strength)
        return Step(loss, logits.detach(), {"ce-cp": loss.detach()})
