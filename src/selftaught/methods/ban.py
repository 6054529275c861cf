"""Born-again networks (Furlanello et al., ICML 2018): the teacher is a network of the student's own architecture."""

from dataclasses import dataclass

from torch import Tensor

from selftaught import losses
from selftaught.methods.base import Step, register
from selftaught.methods.taught import Distillation, Taught, check_temperature


@register
@dataclass
class BornAgain(Taught):
    """T² · KL(twin‖student): the outputs of a twin trained before, and no label (paper, 5.2)."""

    key = "ban"
    summary = "born-again network: the outputs of a twin trained before, no label"
    learns_from = "twin"

    temperature: float = 4.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass of student and twin, and their divergence."""
        logits = self.model(x)
        kd = losses.distillation(logits, self.teacher_logits(x), self.temperature)
        return Step(kd, logits.detach(), {"kd": kd.detach()})


@register
@dataclass
class BornAgainWithLabels(Distillation):
    """BAN + weight · L(p, y)."""

    key = "ban+l"
    summary = "born-again network, and the label"
    learns_from = "twin"
