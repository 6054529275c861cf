"""Label smoothing (Szegedy et al., 2015)."""

from dataclasses import dataclass

from torch import Tensor

from selftaught import losses, targets
from selftaught._inputs import check_range
from selftaught.methods.base import Objective, Step, register


@register
@dataclass
class LabelSmoothing(Objective):
    """L(p, q) with alpha on the true class and the rest shared evenly by the others."""

    key = "ls"
    summary = "label smoothing: alpha on the true class, the rest even"
    recordable = True

    alpha: float = 0.9

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, lambda alpha: 0 < alpha < 1, "in (0, 1)")

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass and its cross-entropy with the smoothed labels."""
        logits = self.model(x)
        loss = losses.soft_cross_entropy(logits, targets.smooth(y, logits.shape[1], self.alpha))
        return Step(loss, logits.detach(), {"soft": loss.detach()})
