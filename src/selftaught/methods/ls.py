"""Label smoothing (Szegedy et al., 2015)."""

from torch import Tensor

from selftaught import losses, targets
from selftaught.methods.base import Method, Step, View, register


@register
class LabelSmoothing(Method):
    """L(p, q) with alpha on the true class and the rest shared evenly by the others."""

    key = "ls"
    recordable = True

    alpha: float

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
        """One forward pass and its cross-entropy with the smoothed labels."""
        logits = self.model(x)
        loss = losses.soft_cross_entropy(logits, targets.smooth(y, logits.shape[1], self.alpha))
        return Step(loss, logits.detach(), {"soft": loss.detach()})
