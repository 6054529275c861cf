"""What methods share that learn from a network trained before them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selftaught import losses
from selftaught._inputs import check_range
from selftaught.errors import InputError
from selftaught.methods import stages
from selftaught.methods.base import Objective, Step


@dataclass
class Taught(Objective):
    """A method with a teacher, which stays as it is: in eval mode, without gradients.

    Attributes:
        teacher: from normalised images to logits (B, C), set by `bind`.
    """

    learns_from = "teacher"
    recordable = True

    teacher: nn.Module = field(init=False, repr=False, compare=False)

    def bind(
        self,
        model: nn.Module,
        teacher: nn.Module | None = None,
        companions: Mapping[str, nn.Module] = MappingProxyType({}),
    ) -> None:
        """Take the model to be trained and its teacher, whose mode is set to eval and whose parameters are frozen.

        Raises:
            InputError: there is no teacher, or it is the model itself.
        """
        if teacher is None:
            raise InputError(
                f"{self.key} learns from a {self.learns_from} and got none: give one, or use another --method"
            )
        if stages.unwrap(teacher) is stages.unwrap(model):
            raise InputError(f"{self.key} cannot learn from the network it trains: give a trained copy of it")
        super().bind(model, teacher, companions)
        self.teacher = teacher.eval().requires_grad_(False)

    def teacher_logits(self, x: Tensor) -> Tensor:
        """What the teacher says of a batch: (B, C), without a graph."""
        with torch.no_grad():
            return self._resting_teacher()(x)

    def teacher_stages(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The teacher's logits and the outputs (B, K, H, W) of its stages, without a graph."""
        with torch.no_grad():
            return stages.run(self._resting_teacher(), x)

    def _resting_teacher(self) -> nn.Module:
        # Whoever holds the teacher as well may have set its mode: its statistics must not follow the student's batches.
        return self.teacher.eval()


@dataclass
class Distillation(Taught):
    """T² · KL(teacher‖student) + weight · L(p, y), Hinton et al. (2015); what a method adds to it is its own."""

    temperature: float = 4.0
    weight: float = 0.1

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_range("weight", self.weight, lambda weight: 0 <= weight < float("inf"), "at least 0")

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass of student and teacher, and the two terms."""
        return self.distilled(self.model(x), self.teacher_logits(x), y)

    def distilled(self, student: Tensor, teacher: Tensor, y: Tensor) -> Step:
        """The step that the logits (B, C) of student and teacher and the labels (B,) make."""
        kd = self.knowledge(student, teacher)
        ce = F.cross_entropy(student, y)
        return Step(kd + self.weight * ce, student.detach(), {"kd": kd.detach(), "ce": ce.detach()})

    def knowledge(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The teacher's term, a scalar, of logits (B, C)."""
        return losses.distillation(student, teacher, self.temperature)


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that softmax cannot be divided by.

    Raises:
        InputError: it is not a positive number.
    """
    check_range("temperature", temperature, lambda value: 0 < value < float("inf"), "greater than 0")
