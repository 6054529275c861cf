"""What processes that a test starts find in place of torchmetrics, see `tests.conftest`."""

raise ModuleNotFoundError("hidden by tests/conftest.py", name="torchmetrics")
