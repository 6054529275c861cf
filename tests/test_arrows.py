"""Who imports whom: no circle, and no arrow upwards.

``python -m tests.test_arrows`` prints the parts of the house, from the ground up, with the arrows between them.
"""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import selftaught

ROOT = Path(selftaught.__file__).parent

LAYERS = (
    ("errors",),
    ("_inputs", "_notes", "_streams", "activities"),
    ("statistics", "files", "data", "saliency", "similarity", "targets", "amortised"),
    ("recipes", "models", "losses", "events"),
    ("introspective",),
    ("methods",),
    ("training", "report"),
    ("study",),
    ("cli",),
    ("__main__",),
)
"""The parts of the house from the ground up: each imports from below only, and nothing from beside it."""

ONLY = {
    "statistics": {"errors"},
    "files": {"errors", "activities"},
    "report": {"errors", "files", "statistics", "recipes"},
}
"""What stands apart imports nothing else, wherever that lies."""

WITHOUT_TORCH = ("statistics", "files", "recipes", "report")
"""Records are read, judged and shown without it."""

EXCEPTIONS: set[tuple[str, str]] = set()
"""Arrows that are still to go; one that is gone has to go here too."""

CLOSED_LATE = {("cli", "cli.app")}
"""Arrows that would close a circle, were they not drawn late, by a function or for types: still to go."""


@cache
def arrows() -> frozenset[tuple[str, str]]:
    """Pairs of modules of which the first imports the second: at once, in a function, or for types only."""
    known = {_name(path): path for path in ROOT.rglob("*.py")}
    found = set()
    for name, path in known.items():
        for target in _imported(path):
            while target not in known and "." in target:
                target = target.rpartition(".")[0]
            if target in known and target != name and "selftaught" not in (name, target):
                found.add((name, target))
    return frozenset(found)


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "selftaught"


def _imported(path: Path) -> Iterator[str]:
    for name in _all_imported(path):
        if name.startswith("selftaught."):
            yield name.removeprefix("selftaught.")


def _all_imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(module: str) -> str:
    """The part of the house that a module lies in."""
    return module.partition(".")[0]


def wrong() -> set[tuple[str, str]]:
    """Arrows that point upwards or aside, or out of what stands apart."""
    height = {name: level for level, names in enumerate(LAYERS) for name in names}
    across = {(a, b) for a, b in arrows() if part(a) != part(b)}
    return {
        (a, b)
        for a, b in across
        if height[part(b)] >= height[part(a)] or part(b) not in ONLY.get(part(a), {part(b)})
    }


def test_every_arrow_points_down():
    assert wrong() == EXCEPTIONS


def test_there_is_no_circle():
    graph: dict[str, set[str]] = {}
    for a, b in arrows() - CLOSED_LATE:
        graph.setdefault(a, set()).add(b)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_records_need_no_torch(name):
    importing = {
        _name(path)
        for path in (ROOT / name).rglob("*.py")
        if any(part(target) == "torch" for target in _all_imported(path))
    }
    assert importing == set()


if __name__ == "__main__":
    for names in LAYERS:
        for name in names:
            below = sorted({part(b) for a, b in arrows() if part(a) == name != part(b)})
            print(f"{name:<14} -> {', '.join(below)}".rstrip(" ->"))
    for a, b in sorted(wrong()):
        print(f"not downwards: {a} -> {b}")
