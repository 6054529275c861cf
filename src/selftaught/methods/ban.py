"""Born-again networks (Furlanello et al., ICML 2018): the teacher is a network of the student's own architecture."""

from torch import Tensor

from selftaught import losses
from selftaught.methods.base import Step, View, register
from selftaught.methods.taught import Distillation, Taught


@register
class BornAgain(Taught):
    """T² · KL(twin‖student): the outputs of a twin trained before, and no label (paper, 5.2)."""

    key = "ban"
    learns_from = "twin"

    temperature: float

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
        """One forward pass of student and twin, and their divergence."""
        logits = self.model(x)
        kd = losses.distillation(logits, self.teacher(x), self.temperature)
        return Step(kd, logits.detach(), {"kd": kd.detach()})


@register
class BornAgainWithLabels(Distillation):
    """BAN + weight · L(p, y)."""

    key = "ban+l"
    learns_from = "twin"
