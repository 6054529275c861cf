"""Dropout (Srivastava et al., 2014)."""

from collections.abc import Mapping
from typing import Any

from selftaught.methods.base import register
from selftaught.methods.ce import CrossEntropy


@register
class Dropout(CrossEntropy):
    """Cross-entropy of a model that drops activations of the last layer of each block stage (paper, 5.1)."""

    key = "dropout"

    drop_rate: float

    @classmethod
    def model_options(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The model's dropout rate."""
        return {"dropout": settings["drop_rate"]}
