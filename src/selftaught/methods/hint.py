"""Hints (FitNets; Romero et al., ICLR 2015)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from torch import Tensor, nn

from selftaught import losses
from selftaught._inputs import check_range
from selftaught.methods.base import companion, register
from selftaught.methods.feature_taught import FeaturesFirst, Shape


@register
@dataclass
class Hint(FeaturesFirst):
    """Stage 1: the student's stage, through a regressor, imitates the teacher's. Stage 2: KD.

    The regressor is a 1x1 convolution, which changes the number of channels only; maps of different sizes are refused
    and not pooled, since what a hint says is where the teacher sees what.
    """

    key = "hint"
    summary = "FitNets: first the teacher's features of one stage, then knowledge distillation"

    stage: int = 2
    regressor: nn.Module = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("stage", self.stage, lambda stage: stage >= 1, "at least 1")

    def stages_needed(self) -> int:
        """Those up to the one compared."""
        return self.stage

    def fit(self, student: Sequence[Shape], teacher: Sequence[Shape]) -> dict[str, nn.Module]:
        """The regressor, from the student's number of channels to the teacher's; height and width must be equal."""
        (channels, *own), (teacher_channels, *theirs) = student[self.stage - 1], teacher[self.stage - 1]
        if own != theirs:
            raise self.misfit(f"maps of stage {self.stage}", tuple(own), tuple(theirs))
        return {"regressor": nn.Conv2d(channels, teacher_channels, kernel_size=1)}

    def bind(
        self,
        model: nn.Module,
        teacher: nn.Module | None = None,
        companions: Mapping[str, nn.Module] = MappingProxyType({}),
    ) -> None:
        """Take the model to be trained, its teacher and the regressor.

        Raises:
            InputError: one of them is missing, or a network has too few stages.
        """
        super().bind(model, teacher, companions)
        self.regressor = companion(self, companions, "regressor")

    def feature_terms(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
        """The mean squared error of the regressed stage."""
        return {"hint": losses.hint(self.regressor(student[self.stage - 1]), teacher[self.stage - 1])}
