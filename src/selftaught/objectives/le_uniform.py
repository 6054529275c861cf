"""LE-Uniform, the control that isolates the explanations."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from selftaught import losses, targets
from selftaught.objectives.base import Objective, Step, check_range, register


@register
@dataclass
class UniformExplanations(Objective):
    """LE without explanations: same alpha, weight and warm-up, the other classes' targets even.

    LE's total loss weight is 1 + λ and its effective smoothing (1 − α)/(1 + λ), so LE against LS is confounded;
    against this it is not.
    """

    key = "le-uniform"
    summary = "LE with even soft labels: the control that isolates the explanations"

    alpha: float = 0.9
    weight: float = 0.1
    warmup: int = 0

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, lambda alpha: 0 < alpha < 1, "in (0, 1)")
        check_range("weight", self.weight, lambda weight: 0 <= weight < float("inf"), "at least 0")
        check_range("warmup", self.warmup, lambda epochs: epochs >= 0, "at least 0 epochs")
        self._warming_up = self.warmup > 0

    def start_epoch(self, epoch: int) -> None:
        """Stage 1 lasts `warmup` epochs."""
        self._warming_up = epoch < self.warmup

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass and the two terms."""
        logits = self.model(x)
        ce = F.cross_entropy(logits, y)
        if self._warming_up:
            return Step(ce, logits.detach(), {"ce": ce.detach()})
        soft = losses.soft_cross_entropy(logits, targets.smooth(y, logits.shape[1], self.alpha))
        return Step(soft + self.weight * ce, logits.detach(), {"soft": soft.detach(), "ce": ce.detach()})
