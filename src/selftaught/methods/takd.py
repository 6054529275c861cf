"""Distillation with a teacher assistant (Mirzadeh et al., AAAI 2020)."""

from selftaught.methods.base import register
from selftaught.methods.taught import Distillation


@register
class TeacherAssistant(Distillation):
    """KD's loss, from an assistant of middle size that learned from the teacher by KD itself (paper, 5.3)."""

    key = "takd"
    learns_from = "assistant"
