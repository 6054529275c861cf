"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017), with knowledge distillation."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from selftaught import losses
from selftaught.methods.base import Step, View, register
from selftaught.methods.feature_taught import FeatureTaught, Shape


@register
class AttentionTransfer(FeatureTaught):
    """KD + attention_weight · Σ, over the blocks that both networks have, of the attention maps' squared difference."""

    key = "at"

    attention_weight: float

    def blocks_needed(self) -> int:
        """At least one where they are named, or the three of the smallest built-in network."""
        return 1 if self.blocks else 3

    def fit(self, student: Sequence[Shape], teacher: Sequence[Shape]) -> None:
        """Height and width must be equal; the attention map averages over the channels."""
        own, theirs = ([tuple(shape[1:]) for shape in shapes] for shapes in (student, teacher))
        if any(a != b for a, b in zip(own, theirs, strict=False)):
            raise self.misfit("the sizes of the blocks' maps", own, theirs)

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
        """One forward pass of student and teacher, and the three terms."""
        logits, own, teacher_logits, theirs = self.both(x)
        # Not strict: cnn6 has a block less than cnn10.
        maps = [losses.attention(s, t) for s, t in zip(own, theirs, strict=False)]
        attention = sum(maps, start=logits.new_zeros(()))
        kd = self.distilled(logits, teacher_logits, y)
        terms = kd.terms | {"at": attention.detach()}
        return replace(kd, loss=kd.loss + self.attention_weight * attention, terms=terms)
