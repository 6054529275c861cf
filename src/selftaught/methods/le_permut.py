"""LE-Permut, the paper's ablation (Section 5.4): the explanations' class similarity destroyed."""

from torch import Tensor

from selftaught import targets
from selftaught.introspective import IntrospectiveLoss
from selftaught.methods.base import register
from selftaught.methods.le import LearningWithExplanations


class PermutedIntrospectiveLoss(IntrospectiveLoss):
    """`IntrospectiveLoss` with each sample's non-ground-truth targets in random order."""

    def soften(self, similarity: Tensor, labels: Tensor) -> Tensor:
        """Eq. 6, then a permutation that leaves the true class alone."""
        return targets.permuted(super().soften(similarity, labels), labels)


@register
class PermutedExplanations(LearningWithExplanations):
    """LE whose soft labels say which values, but not which classes."""

    key = "le-permut"
    criterion_class = PermutedIntrospectiveLoss
