"""What the tests catch: small faults are put into the source one at a time, and the tests of that part are run.

    python -m benchmarks.mutations [--count 100] [--parts saliency losses ...] [--out FILE.jsonl]

Which faults are chosen follows from the code that they change, so that code that stays has the same ones next year. The
working tree is copied first and stays as it is. A line of the file is one fault; the same command goes on from there.
One processor: some forty minutes for a hundred faults.
"""

import argparse
import ast
import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = Path("src", "selftaught")
LEAST_SECONDS = 60.0
"""A fault that makes the tests take longer than this, and longer than four times what they take, is caught."""


@dataclass(frozen=True)
class Part:
    """Which files get faults and which tests are to notice: patterns, of which those count that match something."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


PARTS = {
    "saliency": Part(("saliency/*.py",), ("tests/saliency",)),
    "targets": Part(
        ("targets.py", "similarity.py", "amortised.py", "introspective.py"),
        (
            "tests/test_targets.py",
            "tests/test_similarity.py",
            "tests/test_amortised.py",
            "tests/test_intro*.py",
        ),
    ),
    "losses": Part(("losses.py",), ("tests/test_losses.py", "tests/test_weighted_losses.py")),
    "statistics": Part(("statistics/*.py",), ("tests/statistics",)),
    "files": Part(("files/*.py",), ("tests/files",)),
    "resume": Part(
        ("training/checkpoint.py", "training/loop.py", "training/averaging.py", "training/seeds.py"),
        ("tests/training/test_run.py", "tests/training/test_loop.py", "tests/training/test_averaging.py"),
    ),
}

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATIONS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Fault:
    """A piece of a file, by its bytes, and what is written in its place."""

    part: str
    file: str
    line: int
    start: int
    end: int
    before: str
    after: str

    @property
    def key(self) -> str:
        """What the code and the fault are, wherever they stand; faults are chosen in the order of its digest."""
        return hashlib.sha256(f"{Path(self.file).name} {self.before} {self.after}".encode()).hexdigest()


def changed(node: ast.AST) -> ast.AST | None:
    """A copy of a piece of code with a fault in it; None where there is none to make."""
    made = copy.deepcopy(node)
    match made:
        case ast.Compare(ops=[first, *rest]) if type(first) in COMPARISONS:
            made.ops = [COMPARISONS[type(first)](), *rest]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
            if any(isinstance(side, ast.JoinedStr | ast.List) or _is_text(side) for side in (left, right)):
                return None
            made.op = OPERATIONS[type(op)]()
        case ast.BoolOp(op=op):
            made.op = ast.Or() if isinstance(op, ast.And) else ast.And()
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            return operand
        case ast.IfExp(body=body, orelse=orelse):
            made.body, made.orelse = orelse, body
        case ast.Constant(value=bool(value)):
            made.value = not value
        case ast.Constant(value=int(value) | float(value)):
            made.value = value + 1
        case ast.Name(id=name) if name in NAMES:
            made.id = NAMES[name]
        case _:
            return None
    return made


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def code(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes in which a fault would be one: no annotation, no text, no message of an error, no decorator."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "type_params", "bases"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.JoinedStr | ast.Raise | ast.Import | ast.ImportFrom):
                continue
            if isinstance(node, ast.AST):
                yield node
                yield from code(node)


def faults(part: str, root: Path) -> list[Fault]:
    """All faults of a part, in the order in which they are taken."""
    found = []
    for path in sorted({path for pattern in PARTS[part].files for path in (root / PACKAGE).glob(pattern)}):
        text = path.read_bytes()
        starts = [0]
        for line in text.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        for node in code(ast.parse(text)):
            made = changed(node)
            if made is None:
                continue
            start = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
            end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
            file = str(path.relative_to(root))
            before, after = ast.unparse(node), ast.unparse(made)
            found.append(Fault(part, file, node.lineno, start, end, before, after))  # type: ignore[attr-defined]
    return sorted({fault.key: fault for fault in found}.values(), key=lambda fault: fault.key)


def chosen(parts: list[str], count: int, root: Path) -> list[Fault]:
    """As many of each part, the rest of the last ones."""
    of_parts = [faults(part, root) for part in parts]
    share = -(-count // len(parts))
    return [fault for of_part in of_parts for fault in of_part[:share]]


class Copy:
    """A copy of the working tree in which tests are run."""

    def __init__(self, root: Path, folder: Path) -> None:
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout
        for name in names.splitlines():
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / name, folder / name)
        self.folder = folder

    def passes(self, part: str, timeout: float | None) -> bool:
        """Whether the tests of a part pass, in so many seconds."""
        tests = [str(path) for pattern in PARTS[part].tests for path in sorted(self.folder.glob(pattern))]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=os.setpgrp,
        ) as run:
            try:
                return run.wait(timeout) == 0
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, 9)
                return False

    def survives(self, fault: Fault, timeout: float) -> bool:
        """Whether the tests do not notice a fault."""
        path = self.folder / fault.file
        text = path.read_bytes()
        path.write_bytes(text[: fault.start] + f"({fault.after})".encode() + text[fault.end :])
        try:
            return self.passes(fault.part, timeout)
        finally:
            path.write_bytes(text)


def main() -> None:
    """Put the faults in, one after another, and say which were caught."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("mutations.jsonl"))
    args = parser.parse_args()
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    done = {(line["part"], line["key"]): line["caught"] for line in map(json.loads, lines)}
    limits: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, args.out.open("a") as out:
        tree = Copy(ROOT, Path(folder))
        for fault in chosen(args.parts, args.count, ROOT):
            if (fault.part, fault.key) in done:
                continue
            if fault.part not in limits:
                begun = time.monotonic()
                if not tree.passes(fault.part, None):
                    raise SystemExit(f"the tests of {fault.part} fail without any fault: mend them first")
                limits[fault.part] = max(LEAST_SECONDS, 4 * (time.monotonic() - begun))
            caught = not tree.survives(fault, limits[fault.part])
            done[fault.part, fault.key] = caught
            print(json.dumps({**asdict(fault), "key": fault.key, "caught": caught}), file=out, flush=True)
            mark = "caught " if caught else "NOT    "
            print(f"{mark} {fault.file}:{fault.line}: {fault.before} -> {fault.after}", flush=True)
    for part in args.parts:
        results = [caught for (of, _), caught in done.items() if of == part]
        print(f"{part}: {sum(results)} of {len(results)} caught")


if __name__ == "__main__":
    main()
