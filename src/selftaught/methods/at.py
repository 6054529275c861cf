"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017), with knowledge distillation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from selftaught import losses
from selftaught._inputs import check_range
from selftaught.methods import stages
from selftaught.methods.base import Step, register
from selftaught.methods.feature_taught import FeatureTaught, Shape


@register
@dataclass
class AttentionTransfer(FeatureTaught):
    """KD + attention_weight · Σ, over the stages that both networks have, of the attention maps' squared difference."""

    key = "at"
    summary = "attention transfer: where the teacher looks, at every stage, and knowledge distillation"

    attention_weight: float = 1000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("attention_weight", self.attention_weight, lambda w: 0 <= w < float("inf"), "at least 0")

    def fit(self, student: Sequence[Shape], teacher: Sequence[Shape]) -> dict[str, nn.Module]:
        """No companions; height and width must be equal; the attention map averages over the channels."""
        own, theirs = ([tuple(shape[1:]) for shape in shapes] for shapes in (student, teacher))
        if any(a != b for a, b in zip(own, theirs, strict=False)):
            raise self.misfit("the sizes of the stages' maps", own, theirs)
        return {}

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass of student and teacher, and the three terms."""
        logits, own = stages.run(self.model, x)
        teacher_logits, theirs = self.teacher_stages(x)
        # Not strict: cnn6 has a stage less than cnn10.
        maps = [losses.attention(s, t) for s, t in zip(own, theirs, strict=False)]
        attention = sum(maps, start=logits.new_zeros(()))
        kd = self.distilled(logits, teacher_logits, y)
        terms = kd.terms | {"at": attention.detach()}
        return replace(kd, loss=kd.loss + self.attention_weight * attention, terms=terms)
