"""Dark knowledge with permuted predictions (Section 3, after Furlanello et al., 2018)."""

from torch import Tensor

from selftaught import losses
from selftaught.methods.base import register
from selftaught.methods.taught import Distillation


@register
class PermutedDarkKnowledge(Distillation):
    """KD whose teacher says which values, but not which classes: its non-argmax outputs are shuffled per sample."""

    key = "dkpp"

    weight: float = 0.0

    def knowledge(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Eq. 4 with q_j replaced by q_k, k from a permutation of the non-argmax classes."""
        return losses.permuted_dark_knowledge(student, teacher, self.temperature)
