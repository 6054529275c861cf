"""LE-Uniform, the control that isolates the explanations."""

from torch import Tensor

from selftaught import targets
from selftaught.methods.algorithm1 import Algorithm1
from selftaught.methods.base import Step, View, register


@register
class UniformExplanations(Algorithm1):
    """LE without explanations: same alpha, weight and warm-up, the other classes' targets even.

    LE's total loss weight is 1 + λ and its effective smoothing (1 − α)/(1 + λ), so LE against LS is confounded;
    against this it is not.
    """

    key = "le-uniform"

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
        """One forward pass and the two terms."""
        logits = self.model(x)
        return self.learned(logits, y, lambda: targets.smooth(y, logits.shape[1], self.alpha))
