"""What Algorithm 1 asks of a method: LE and its controls share it, so that they differ in targets only."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from selftaught import losses
from selftaught.methods.base import Method, Step


class Algorithm1(Method):
    """Warm-up: L(p, y) for `warmup` epochs. Then L(p, q) + weight · L(p, y), alpha on the true class in q."""

    recordable = True
    warms_up_plainly = True

    alpha: float
    weight: float
    warmup: int

    def learned(self, logits: Tensor, y: Tensor, soft_labels: Callable[[], Tensor]) -> Step:
        """The step that logits (B, C) and labels (B,) make; past the warm-up `soft_labels` (B, C) are asked for."""
        ce = F.cross_entropy(logits, y)
        if self.warming_up:
            return Step(ce, logits.detach(), {"ce": ce.detach()})
        soft = losses.soft_cross_entropy(logits, soft_labels())
        return Step(soft + self.weight * ce, logits.detach(), {"soft": soft.detach(), "ce": ce.detach()})
