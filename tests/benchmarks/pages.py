"""The page of a benchmark's smallest run, as every test of a benchmark reads it."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any


def smoke(benchmark: ModuleType, title: str, folder: Path) -> Any:
    """Run it; its page for people has this title, its page for programs is returned."""
    name = benchmark.__name__.rpartition(".")[2]
    benchmark.main(["--smoke", "--out", str(folder)])
    assert (folder / f"{name}.md").read_text().startswith(f"# {title}\n")
    return json.loads((folder / f"{name}.json").read_text())
