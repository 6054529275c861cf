"""Flow of solution procedure (Yim et al., CVPR 2017)."""

from collections.abc import Sequence

from torch import Tensor

from selftaught import losses
from selftaught.methods.base import register
from selftaught.methods.feature_taught import FeaturesFirst, Shape


@register
class SolutionFlow(FeaturesFirst):
    """Warm-up: the flows between blocks 1 and 2 and between 2 and 3 imitate the teacher's. Then KD (paper, 5.3).

    The flows' loss is large where features are (about 40 at the start of a ResNet), so `flow_weight` scales it to what
    the learning rate of the warm-up can stand.
    """

    key = "fsp"

    flow_weight: float

    def fit(self, student: Sequence[Shape], teacher: Sequence[Shape]) -> None:
        """The Gram matrices have the numbers of channels as their sides; height and width may differ."""
        own, theirs = ([channels for channels, *_ in shapes[:3]] for shapes in (student, teacher))
        if own != theirs:
            raise self.misfit("the channels of three blocks", own, theirs)

    def feature_terms(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
        """The weighted mean squared difference of the Gram matrices of neighbouring blocks."""
        (s1, s2, s3, *_), (t1, t2, t3, *_) = student, teacher
        flows = {"flow12": losses.flow(s1, s2, t1, t2), "flow23": losses.flow(s2, s3, t2, t3)}
        return {name: self.flow_weight * flow for name, flow in flows.items()}
