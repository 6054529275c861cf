"""What methods share that learn from a network trained before them."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selftaught import losses
from selftaught.errors import InputError
from selftaught.methods.base import Method, Step, View
from selftaught.saliency.preserve import unwrap


class Frozen(nn.Module):
    """A trained network that is asked and stays as it is: in eval mode whatever `train` says, without gradients.

    It moves with `to`, but none of it is part of `parameters` or `state_dict`.

    Args:
        network: from images (B, ...) to logits (B, C); its parameters ask for no gradients from now on.

    >>> teacher = Frozen(nn.Dropout()).train()
    >>> teacher.network.training, list(Frozen(nn.Linear(2, 2)).parameters())
    (False, [])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # Past nn.Module, which would make it a part.
        self.__dict__["_network"] = network.eval().requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """The network, in eval mode also where whoever holds it as well has set another."""
        network: nn.Module = self.__dict__["_network"]
        return network.eval()

    def forward(self, x: Tensor) -> Tensor:
        """The logits (B, C) of a batch, without a graph."""
        with torch.no_grad():
            logits: Tensor = self.network(x)
        return logits

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Frozen":
        self.network._apply(fn, recurse)
        return super()._apply(fn, recurse)


class Taught(Method):
    """A method with a teacher, see `Frozen`."""

    learns_from = "teacher"
    recordable = True

    def __init__(self, model: nn.Module, *, teacher: nn.Module | None = None, **others: Any) -> None:
        super().__init__(model, teacher=teacher, **others)
        if teacher is None:
            raise InputError(
                f"{self.key} learns from a {self.learns_from} and got none: give one, or use another --method"
            )
        if unwrap(teacher) is unwrap(model):
            raise InputError(f"{self.key} cannot learn from the network it trains: give a trained copy of it")
        self.teacher = Frozen(teacher)


class Distillation(Taught):
    """T² · KL(teacher‖student) + weight · L(p, y), Hinton et al. (2015); what a method adds to it is its own."""

    temperature: float
    weight: float

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
        """One forward pass of student and teacher, and the two terms."""
        return self.distilled(self.model(x), self.teacher(x), y)

    def distilled(self, student: Tensor, teacher: Tensor, y: Tensor) -> Step:
        """The step that the logits (B, C) of student and teacher and the labels (B,) make."""
        kd = self.knowledge(student, teacher)
        ce = F.cross_entropy(student, y)
        return Step(kd + self.weight * ce, student.detach(), {"kd": kd.detach(), "ce": ce.detach()})

    def knowledge(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The teacher's term, a scalar, of logits (B, C)."""
        return losses.distillation(student, teacher, self.temperature)
