"""Hints (FitNets; Romero et al., ICLR 2015)."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from selftaught import losses
from selftaught.methods.base import register
from selftaught.methods.feature_taught import FeaturesFirst, Shape


@register
class Hint(FeaturesFirst):
    """Warm-up: one of the student's blocks, through a regressor, imitates the teacher's. Then KD.

    The regressor is a 1x1 convolution, which changes the number of channels only; maps of different sizes are refused
    and not pooled, since what a hint says is where the teacher sees what.

    Settings:
        stage: which of the blocks, counted from 1.
    """

    key = "hint"

    stage: int

    def blocks_needed(self) -> int:
        """Those up to the one compared."""
        return self.stage

    def fit(self, student: Sequence[Shape], teacher: Sequence[Shape]) -> None:
        """Make the regressor, from the student's number of channels to the teacher's; maps must be of equal size."""
        (channels, *own), (teacher_channels, *theirs) = student[self.stage - 1], teacher[self.stage - 1]
        if own != theirs:
            raise self.misfit(f"maps of block {self.stage}", tuple(own), tuple(theirs))
        self.regressor = nn.Conv2d(channels, teacher_channels, kernel_size=1)

    def feature_terms(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
        """The mean squared error of the regressed maps."""
        maps = student[self.stage - 1]
        half = maps.dtype in (torch.float16, torch.bfloat16)  # from an autocast of the network's own
        with torch.autocast(maps.device.type, maps.dtype) if half else nullcontext():
            regressed = self.regressor(maps)
        return {"hint": losses.hint(regressed, teacher[self.stage - 1])}
