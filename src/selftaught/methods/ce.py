"""Plain training: the baseline of every comparison."""

import torch.nn.functional as F
from torch import Tensor

from selftaught.methods.base import Method, Step, View, register


@register
class CrossEntropy(Method):
    """L(p, y), cross-entropy with one-hot labels."""

    key = "ce"
    recordable = True

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
        """One forward pass and its cross-entropy."""
        logits = self.model(x)
        loss = F.cross_entropy(logits, y)
        return Step(loss, logits.detach(), {"ce": loss.detach()})
