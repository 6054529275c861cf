"""Flow of solution procedure (Yim et al., CVPR 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from selftaught import losses
from selftaught.objectives.base import register
from selftaught.objectives.feature_taught import FeaturesFirst, Shape


@register
@dataclass
class SolutionFlow(FeaturesFirst):
    """Stage 1: the flows between stages 1 and 2 and between 2 and 3 imitate the teacher's. Stage 2: KD (paper, 5.3)."""

    key = "fsp"
    summary = "first the teacher's flows between stages (Gram matrices), then knowledge distillation"

    def fit(self, student: Sequence[Shape], teacher: Sequence[Shape]) -> dict[str, nn.Module]:
        """No companions; the Gram matrices have the numbers of channels as their sides; height and width may differ."""
        own, theirs = ([channels for channels, *_ in shapes[:3]] for shapes in (student, teacher))
        if own != theirs:
            raise self.misfit("the channels of three stages", own, theirs)
        return {}

    def feature_terms(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
        """The mean squared difference of the Gram matrices of neighbouring stages."""
        (s1, s2, s3, *_), (t1, t2, t3, *_) = student, teacher
        return {"flow12": losses.flow(s1, s2, t1, t2), "flow23": losses.flow(s2, s3, t2, t3)}
