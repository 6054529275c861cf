"""LE-Teacher, the control whose class similarity comes from outside."""

import torch
from torch import Tensor

from selftaught import targets
from selftaught.methods.algorithm1 import Algorithm1
from selftaught.methods.base import Step, View, register
from selftaught.methods.taught import Taught


@register
class TeacherResponses(Algorithm1, Taught):
    """LE with a teacher's responses in place of the explanations: same alpha, weight and warm-up.

    The other classes share 1 − α as the teacher's output, softened by `temperature`, has it: soft labels of the same
    shape as LE's, with the class similarity of a network that is not the one being trained.
    """

    key = "le-teacher"

    temperature: float

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
        """One forward pass, past the warm-up one of the teacher, and the two terms."""
        return self.learned(self.model(x), y, lambda: self.responses(x, y))

    def responses(self, x: Tensor, y: Tensor) -> Tensor:
        """Soft labels (B, C) with alpha on the truth."""
        # Without the true class from the start, lest the others underflow beside it.
        others = self.teacher(x).scatter(1, y[:, None], -torch.inf)
        return targets.proportional((others / self.temperature).softmax(1), y, self.alpha)
