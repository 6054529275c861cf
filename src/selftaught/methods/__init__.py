"""One small class per training method: what one step minimises."""

import importlib
import pkgutil

from selftaught.methods.base import Method, Step, View

__all__ = ["Method", "Step", "View"]

# A new method is one file here: importing it registers its class.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
