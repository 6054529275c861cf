"""Plain training: the baseline of every comparison."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from selftaught.methods.base import Objective, Step, register


@register
@dataclass
class CrossEntropy(Objective):
    """L(p, y), cross-entropy with one-hot labels."""

    key = "ce"
    summary = "cross-entropy with one-hot labels: plain training"
    recordable = True

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass and its cross-entropy."""
        logits = self.model(x)
        loss = F.cross_entropy(logits, y)
        return Step(loss, logits.detach(), {"ce": loss.detach()})
