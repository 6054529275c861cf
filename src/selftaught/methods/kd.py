"""Knowledge distillation (Hinton et al., 2015)."""

from selftaught.methods.base import register
from selftaught.methods.taught import Distillation


@register
class KnowledgeDistillation(Distillation):
    """T² · KL(teacher‖student) + weight · L(p, y); its first term alone, at T = 1, has the gradient of Eq. 4."""

    key = "kd"
