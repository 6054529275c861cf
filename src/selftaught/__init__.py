"""Train image classifiers that learn from their own explanations.

The public names are resolved on first use, so that ``import selftaught`` (and ``selftaught --help``) stays
fast and does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selftaught import losses, models, similarity, targets
    from selftaught.introspective import IntrospectiveLoss
    from selftaught.saliency import explain
    from selftaught.training.run import load

__version__ = "0.1.0"
__all__ = ["IntrospectiveLoss", "explain", "load", "losses", "models", "similarity", "targets"]

_NAMES = {
    "IntrospectiveLoss": "selftaught.introspective",
    "explain": "selftaught.saliency",
    "load": "selftaught.training.run",
}
_MODULES = {"losses", "models", "similarity", "targets"}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"selftaught.{name}")
    raise AttributeError(f"module 'selftaught' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
