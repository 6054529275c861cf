"""Damage to files: what may happen to a folder on a disk, in a copy, or by a careless hand."""

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path


def _flip(random: random.Random, path: Path, _: list[Path]) -> None:
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def _truncate(random: random.Random, path: Path, _: list[Path]) -> None:
    path.write_bytes(path.read_bytes()[: random.randrange(path.stat().st_size)])


def _empty(_: random.Random, path: Path, __: list[Path]) -> None:
    path.write_bytes(b"")


def _delete(_: random.Random, path: Path, __: list[Path]) -> None:
    path.unlink()


def _swap(random: random.Random, path: Path, others: list[Path]) -> None:
    """With one of the same name, if there is another, else with any."""
    twins = [other for other in others if other.name == path.name and other != path]
    other = random.choice(twins or [other for other in others if other != path])
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def _copy(random: random.Random, path: Path, others: list[Path]) -> None:
    """Another one in its place."""
    twins = [other for other in others if other.name == path.name and other != path]
    path.write_bytes(random.choice(twins or others).read_bytes())


def _folder(_: random.Random, path: Path, __: list[Path]) -> None:
    path.unlink()
    path.mkdir()


def _garbage(random: random.Random, path: Path, _: list[Path]) -> None:
    path.write_bytes(random.randbytes(path.stat().st_size))


def _drop_line(random: random.Random, path: Path, _: list[Path]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines.pop(random.randrange(len(lines)))
    path.write_bytes(b"".join(lines))


def _digit(random: random.Random, path: Path, _: list[Path]) -> None:
    """Another digit in place of one, so that it may well be read as before."""
    content = bytearray(path.read_bytes())
    places = [match.start() for match in re.finditer(rb"\d", bytes(content))]
    if not places:
        return _flip(random, path, _)
    place = random.choice(places)
    content[place] = random.choice([d for d in b"0123456789" if d != content[place]])
    path.write_bytes(content)
    return None


def _zeros(random: random.Random, path: Path, _: list[Path]) -> None:
    """A block of it, as after a crash."""
    content = bytearray(path.read_bytes())
    start = random.randrange(len(content))
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[random.Random, Path, list[Path]], None]] = {
    "a bit flipped": _flip,
    "cut off": _truncate,
    "emptied": _empty,
    "deleted": _delete,
    "swapped": _swap,
    "another's": _copy,
    "a folder": _folder,
    "garbage": _garbage,
    "a line dropped": _drop_line,
    "a digit changed": _digit,
    "a block of zeros": _zeros,
}


def files(folder: Path) -> list[Path]:
    """What can be damaged: not what nobody reads."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def damage(folder: Path, name: str, kind: str, seed: int) -> None:
    """Do damage of one kind to the file `name` of `folder`."""
    DAMAGES[kind](random.Random(seed), folder / name, files(folder))


def copied(template: Path, folder: Path) -> None:
    """A copy that may be damaged."""
    shutil.copytree(template, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
