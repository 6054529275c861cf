"""Confidence weighted by teacher max (Section 3, after Furlanello et al., 2018), and its two controls."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from selftaught import losses
from selftaught._inputs import check_range
from selftaught.methods.base import Objective, Step, register
from selftaught.methods.taught import Taught


@register
@dataclass
class ConfidenceWeighted(Taught):
    """Σ_i w_i · CE_i, the samples weighted by how sure the teacher is of them (Eq. 5)."""

    key = "cwtm"
    summary = "the label, each sample weighted by the teacher's confidence"
    permute: ClassVar[bool] = False

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass of student and teacher, and the weighted cross-entropy."""
        logits = self.model(x)
        loss = losses.confidence_weighted(logits, self.teacher_logits(x), y, permute=self.permute)
        return Step(loss, logits.detach(), {"cwtm": loss.detach()})


@register
@dataclass
class PermutedConfidence(ConfidenceWeighted):
    """CWTM whose weights belong to other samples of the batch."""

    key = "cwtm-permut"
    summary = "CWTM with the confidences shuffled among the samples of a batch"
    permute = True


@register
@dataclass
class RandomConfidence(Objective):
    """CWTM with confidences drawn from [beta, 1): the teacher's are replaced, so it needs none."""

    key = "cwtm-random"
    summary = "CWTM with random confidences from [beta, 1): no teacher"
    recordable = True

    beta: float = 0.5

    def __post_init__(self) -> None:
        check_range("beta", self.beta, lambda beta: 0 <= beta < 1, "in [0, 1)")

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass and the weighted cross-entropy."""
        logits = self.model(x)
        loss = losses.weighted_cross_entropy(logits, y, losses.random_confidence(logits, self.beta))
        return Step(loss, logits.detach(), {"cwtm": loss.detach()})
