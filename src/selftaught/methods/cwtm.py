"""Confidence weighted by teacher max (Section 3, after Furlanello et al., 2018), and its two controls."""

from typing import ClassVar

from torch import Tensor

from selftaught import losses
from selftaught.methods.base import Method, Step, View, register
from selftaught.methods.taught import Taught


@register
class ConfidenceWeighted(Taught):
    """Σ_i w_i · CE_i, the samples weighted by how sure the teacher is of them (Eq. 5)."""

    key = "cwtm"
    permute: ClassVar[bool] = False

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
        """One forward pass of student and teacher, and the weighted cross-entropy."""
        logits = self.model(x)
        loss = losses.confidence_weighted(logits, self.teacher(x), y, permute=self.permute)
        return Step(loss, logits.detach(), {"cwtm": loss.detach()})


@register
class PermutedConfidence(ConfidenceWeighted):
    """CWTM whose weights belong to other samples of the batch."""

    key = "cwtm-permut"
    permute = True


@register
class RandomConfidence(Method):
    """CWTM with confidences drawn from [beta, 1): the teacher's are replaced, so it needs none."""

    key = "cwtm-random"
    recordable = True

    beta: float

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
        """One forward pass and the weighted cross-entropy."""
        logits = self.model(x)
        loss = losses.weighted_cross_entropy(logits, y, losses.random_confidence(logits, self.beta))
        return Step(loss, logits.detach(), {"cwtm": loss.detach()})
