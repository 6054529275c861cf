"""Dropout (Srivastava et al., 2014)."""

from collections.abc import Mapping
from typing import Any

from selftaught.methods.base import register, setting
from selftaught.methods.ce import CrossEntropy


@register
class Dropout(CrossEntropy):
    """Cross-entropy of a model that drops activations of the last layer of each block stage (paper, 5.1)."""

    key = "dropout"
    summary = "cross-entropy with dropout at the end of each block stage"

    drop_rate: float = setting(0.1, "in [0, 1)", lambda rate: 0 <= rate < 1)

    @classmethod
    def model_options(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The model's dropout rate."""
        return {"dropout": settings["drop_rate"]}
