"""One small class per training method: what one step minimises."""

import importlib
import pkgutil

from selftaught.methods.base import (
    Objective,
    Step,
    create,
    head_only,
    learns_from,
    names,
    peers,
    recordable,
    settings,
    summary,
    warms_up_plainly,
)

__all__ = [
    "Objective",
    "Step",
    "create",
    "head_only",
    "learns_from",
    "names",
    "peers",
    "recordable",
    "settings",
    "summary",
    "warms_up_plainly",
]

# A new method is one file here: importing it registers its class.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
