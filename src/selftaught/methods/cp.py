"""Confidence penalty (Pereyra et al., 2017)."""

from torch import Tensor

from selftaught import losses
from selftaught.methods.base import Method, Step, View, register


@register
class ConfidencePenalty(Method):
    """L(p, y) − strength · H(p)."""

    key = "cp"
    recordable = True

    strength: float

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
        """One forward pass and its penalised cross-entropy."""
        logits = self.model(x)
        loss = losses.confidence_penalty(logits, y, self.strength)
        return Step(loss, logits.detach(), {"ce-cp": loss.detach()})
