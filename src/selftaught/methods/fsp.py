"""Flow of solution procedure (Yim et al., CVPR 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from selftaught import losses
from selftaught._inputs import check_range
from selftaught.methods.base import register
from selftaught.methods.feature_taught import FeaturesFirst, Shape


@register
@dataclass
class SolutionFlow(FeaturesFirst):
    """Stage 1: the flows between stages 1 and 2 and between 2 and 3 imitate the teacher's. Stage 2: KD (paper, 5.3).

    The flows' loss is large where features are (about 40 at the start of a ResNet), so `flow_weight` scales it to what
    the learning rate of stage 2 can stand.
    """

    key = "fsp"
    summary = "first the teacher's flows between stages (Gram matrices), then knowledge distillation"

    flow_weight: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("flow_weight", self.flow_weight, lambda w: 0 < w < float("inf"), "greater than 0")

    def fit(self, student: Sequence[Shape], teacher: Sequence[Shape]) -> dict[str, nn.Module]:
        """No companions; the Gram matrices have the numbers of channels as their sides; height and width may differ."""
        own, theirs = ([channels for channels, *_ in shapes[:3]] for shapes in (student, teacher))
        if own != theirs:
            raise self.misfit("the channels of three stages", own, theirs)
        return {}

    def feature_terms(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
        """The weighted mean squared difference of the Gram matrices of neighbouring stages."""
        (s1, s2, s3, *_), (t1, t2, t3, *_) = student, teacher
        flows = {"flow12": losses.flow(s1, s2, t1, t2), "flow23": losses.flow(s2, s3, t2, t3)}
        return {name: self.flow_weight * flow for name, flow in flows.items()}
