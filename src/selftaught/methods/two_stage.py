"""What methods of two stages share, and what Algorithm 1's ask of a method.

LE and its controls share the latter, so that they differ in targets only.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from selftaught import losses
from selftaught._inputs import check_range
from selftaught.methods.base import Objective, Step


class WarmsUp:
    """Counts the epochs of stage 1 for a method with the setting `warmup`, and says in which stage it is."""

    warmup: int
    warming_up: bool

    def check_warmup(self) -> None:
        """Refuse a negative `warmup`, then begin at epoch 0.

        Raises:
            InputError: it is negative.
        """
        check_range("warmup", self.warmup, lambda epochs: epochs >= 0, "at least 0 epochs")
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Stage 1 lasts `warmup` epochs."""
        self.warming_up = epoch < self.warmup

    def phase(self) -> Hashable | None:
        """The stage."""
        return self.warming_up


@dataclass
class TwoStage(WarmsUp, Objective):
    """Stage 1: L(p, y) for `warmup` epochs. Stage 2: L(p, q) + weight · L(p, y), alpha on the true class in q."""

    recordable = True
    warms_up_plainly = True

    alpha: float = 0.9
    weight: float = 0.1
    warmup: int = 0

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, lambda alpha: 0 < alpha < 1, "in (0, 1)")
        check_range("weight", self.weight, lambda weight: 0 <= weight < float("inf"), "at least 0")
        self.check_warmup()

    def learned(self, logits: Tensor, y: Tensor, soft_labels: Callable[[], Tensor]) -> Step:
        """The step that logits (B, C) and labels (B,) make; of stage 2 alone `soft_labels` (B, C) are asked for."""
        ce = F.cross_entropy(logits, y)
        if self.warming_up:
            return Step(ce, logits.detach(), {"ce": ce.detach()})
        soft = losses.soft_cross_entropy(logits, soft_labels())
        return Step(soft + self.weight * ce, logits.detach(), {"soft": soft.detach(), "ce": ce.detach()})
