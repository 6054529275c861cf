"""Dropout (Srivastava et al., 2014)."""

from dataclasses import dataclass
from typing import Any

from selftaught._inputs import check_range
from selftaught.methods.base import register
from selftaught.methods.ce import CrossEntropy


@register
@dataclass
class Dropout(CrossEntropy):
    """Cross-entropy of a model that drops activations of the last layer of each block stage (paper, 5.1)."""

    key = "dropout"
    summary = "cross-entropy with dropout at the end of each block stage"

    drop_rate: float = 0.1

    def __post_init__(self) -> None:
        check_range("drop_rate", self.drop_rate, lambda rate: 0 <= rate < 1, "in [0, 1)")

    def model_options(self) -> dict[str, Any]:
        """The model's dropout rate."""
        return {"dropout": self.drop_rate}
