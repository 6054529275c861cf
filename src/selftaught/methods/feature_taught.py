"""What methods share that compare the student's features with the teacher's."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn

from selftaught.errors import InputError
from selftaught.methods import stages
from selftaught.methods.base import Casting, Step
from selftaught.methods.taught import Distillation
from selftaught.methods.two_stage import WarmsUp

Shape = tuple[int, ...]


@dataclass
class FeatureTaught(Distillation):
    """KD with a further term of the stages' outputs; networks that do not fit are refused before training."""

    def stages_needed(self) -> int:
        """How many stages student and teacher must have."""
        return 3

    @abstractmethod
    def fit(self, student: Sequence[Shape], teacher: Sequence[Shape]) -> dict[str, nn.Module]:
        """The companions for networks whose stages have these shapes (K, H, W).

        Raises:
            InputError: the stages cannot be compared, naming what differs.
        """

    def companions(
        self, student: nn.Module, teacher: nn.Module | None, cast: Casting
    ) -> dict[str, nn.Module]:
        """What `fit` makes; only here, with example images, can the shapes of the features be known.

        Raises:
            InputError: there are too few stages, or features that cannot be compared.
        """
        if teacher is None:
            return {}  # refused by `bind`
        stages.require(self.key, self.stages_needed(), student, teacher)
        return self.fit(stages.shapes(student, cast.example), stages.shapes(teacher, cast.example))

    def bind(
        self,
        model: nn.Module,
        teacher: nn.Module | None = None,
        companions: Mapping[str, nn.Module] = MappingProxyType({}),
    ) -> None:
        """Take the model to be trained and its teacher.

        Raises:
            InputError: there is no teacher, or a network has too few stages.
        """
        super().bind(model, teacher, companions)
        stages.require(self.key, self.stages_needed(), self.model, self.teacher)

    def misfit(self, what: str, own: object, theirs: object) -> InputError:
        """The error for features that cannot be compared."""
        return InputError(
            f"{self.key} compares {what}: the student's are {own} and the teacher's {theirs}; "
            "use a --teacher of the student's family"
        )


@dataclass
class FeaturesFirst(WarmsUp, FeatureTaught):
    """Stage 1, for `warmup` epochs: the features alone. Stage 2: T² · KL(teacher‖student) + weight · L(p, y)."""

    warmup: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_warmup()

    @abstractmethod
    def feature_terms(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
        """The parts of stage 1's loss by name, scalars that add up to it, of the stages' outputs (B, K, H, W)."""

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass of student and teacher, and the terms of the stage."""
        if not self.warming_up:
            return super().step(x, y)
        logits, own = stages.run(self.model, x)
        terms = self.feature_terms(own, self.teacher_stages(x)[1])
        loss = sum(terms.values(), start=logits.new_zeros(()))
        return Step(loss, logits.detach(), {name: term.detach() for name, term in terms.items()})
