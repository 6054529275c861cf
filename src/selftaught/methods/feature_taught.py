"""What methods share that compare the student's features with the teacher's."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from selftaught.errors import InputError
from selftaught.methods import features
from selftaught.methods.base import Step, View
from selftaught.methods.taught import Distillation

Shape = tuple[int, ...]


class FeatureTaught(Distillation):
    """KD with a further term of the outputs of blocks, see `selftaught.methods.features`.

    Networks that do not fit are refused when the method is made.

    Settings:
        blocks: the student's blocks, dotted names of modules separated by commas; by default those of the built-in
            networks.
        teacher_blocks: the teacher's; by default `blocks`, or those of the built-in networks.
    """

    blocks: str | None
    teacher_blocks: str | None

    def __init__(
        self,
        model: nn.Module,
        *,
        teacher: nn.Module | None = None,
        example: Tensor | None = None,
        **others: Any,
    ) -> None:
        super().__init__(model, teacher=teacher, example=example, **others)
        if example is None:
            raise InputError(f"{self.key} has to see the shapes of features: give example=, two images")
        self._own = self._found(self.model, self.blocks, "student", "blocks")
        self._theirs = self._found(
            self.teacher.network, self.teacher_blocks or self.blocks, "teacher", "teacher_blocks"
        )
        if self.blocks and len(self._own) != len(self._theirs):
            raise InputError(
                f"blocks names {len(self._own)} blocks and teacher_blocks {len(self._theirs)}: name as many"
            )
        self.fit(
            features.shapes(self.model, example, self._own),
            features.shapes(self.teacher.network, example, self._theirs),
        )

    def _found(self, network: nn.Module, given: str | None, role: str, remedy: str) -> list[str]:
        """The names of a network's blocks.

        Raises:
            InputError: a name that is not there, or too few blocks.
        """
        names = features.named(network, given, role) if given else features.built_in(network)
        if len(names) < self.blocks_needed():
            raise InputError(
                f"{self.key} needs {self.blocks_needed()} blocks of the {role}, not {len(names)}: name them with "
                f"{remedy}= (the built-in resnet... and cnn... need no names), or use another --method"
            )
        return names

    def blocks_needed(self) -> int:
        """How many blocks student and teacher must have."""
        return 3

    @abstractmethod
    def fit(self, student: Sequence[Shape], teacher: Sequence[Shape]) -> None:
        """Make what compares maps of these shapes (K, H, W).

        Raises:
            InputError: they cannot be compared, naming what differs.
        """

    def both(self, x: Tensor) -> tuple[Tensor, list[Tensor], Tensor, list[Tensor]]:
        """The student's logits (B, C) and maps (B, K, H, W), and the teacher's without a graph."""
        with torch.no_grad():
            teacher_logits, theirs = features.run(self.teacher.network, x, self._theirs)
        return *features.run(self.model, x, self._own), teacher_logits, theirs

    def misfit(self, what: str, own: object, theirs: object) -> InputError:
        """The error for features that cannot be compared."""
        return InputError(
            f"{self.key} compares {what}: the student's are {own} and the teacher's {theirs}; "
            "use a --teacher of the student's family"
        )


class FeaturesFirst(FeatureTaught):
    """Warm-up, for `warmup` epochs: the features alone. Then T² · KL(teacher‖student) + weight · L(p, y)."""

    warmup: int

    @abstractmethod
    def feature_terms(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
        """The parts of the warm-up's loss by name, scalars that add up to it, of the blocks' maps (B, K, H, W)."""

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
        """One forward pass of student and teacher, and the terms of warm-up or distillation."""
        if not self.warming_up:
            return super().forward(x, y)
        logits, own, _, theirs = self.both(x)
        terms = self.feature_terms(own, theirs)
        loss = sum(terms.values(), start=logits.new_zeros(()))
        return Step(loss, logits.detach(), {name: term.detach() for name, term in terms.items()})
