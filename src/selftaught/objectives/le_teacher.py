"""LE-Teacher, the control that shows what soft labels of LE's shape could do at best."""

from dataclasses import dataclass

from torch import Tensor

from selftaught import targets
from selftaught.objectives.base import Step, register
from selftaught.objectives.taught import Taught, check_temperature
from selftaught.objectives.two_stage import TwoStage


@register
@dataclass
class TeacherResponses(TwoStage, Taught):
    """LE with a teacher's responses in place of the explanations: same alpha, weight and warm-up.

    The other classes share 1 − α as the teacher's output, softened by `temperature`, has it. Where even that is no
    better than LE-Uniform, no explanation could be: what is shared out is too little, or not used.
    """

    key = "le-teacher"
    summary = "LE with a bigger network's responses for explanations: what soft labels could do at best"

    temperature: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(self.temperature)

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass, past the warm-up one of the teacher, and the two terms."""
        return self.learned(self.model(x), y, lambda: self.responses(x, y))

    def responses(self, x: Tensor, y: Tensor) -> Tensor:
        """Soft labels (B, C) with alpha on the truth."""
        softened = (self.teacher_logits(x) / self.temperature).softmax(1)
        return targets.proportional(softened, y, self.alpha)
