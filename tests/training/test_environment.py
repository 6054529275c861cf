import re
import shutil
from pathlib import Path

import torch

import selftaught
from selftaught.training import environment


def test_a_record_says_what_code_made_it(tmp_path, monkeypatch):
    """One version has many states while it is worked on, and a study may be run from several of them."""
    package = tmp_path / "selftaught"
    ignored = shutil.ignore_patterns("__pycache__", "*.yaml")
    shutil.copytree(Path(selftaught.__file__).parent, package, ignore=ignored)

    def described() -> str:
        environment.code.cache_clear()
        return str(environment.describe(torch.device("cpu"))["code"])

    here = described()
    assert re.fullmatch("[0-9a-f]{12}", here)
    monkeypatch.setattr(selftaught, "__file__", str(package / "__init__.py"))
    assert described() == here
    with (package / "targets.py").open("a", encoding="utf-8") as file:
        file.write("\n")
    assert described() != here
    environment.code.cache_clear()
