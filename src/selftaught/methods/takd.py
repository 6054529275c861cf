"""Distillation with a teacher assistant (Mirzadeh et al., AAAI 2020)."""

from selftaught.methods.base import register
from selftaught.methods.taught import Distillation


@register
class TeacherAssistant(Distillation):
    """KD's loss, from an assistant of middle size that learned from the teacher by KD itself (paper, 5.3)."""

    key = "takd"
    summary = "knowledge distillation in two steps: teacher to assistant, assistant to student"
    learns_from = "assistant"
