"""Which Parquet files below a folder make up a data set, and which part each of them holds."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from selftaught.data.image_files import check_link, is_image, offered, scan
from selftaught.data.parts import UNLABELLED, is_generic, named_part
from selftaught.errors import InputError, listed, shown

SUFFIX = ".parquet"

_DEPTH = 3

_NUMBERED = re.compile(r"(.*?)(\d{1,9})-of-(\d{1,9})", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class Found:
    """Files by part (train, test, validation), each in the order of their paths, and what to tell, one line each."""

    parts: Mapping[str, Sequence[Path]]
    notes: list[str] = field(default_factory=list)


def find(folder: Path, trusted: bool = False) -> Found | None:
    """The data set of Parquet files in a folder or below it; None where there is none.

    A file's part is what its name says, or else the folders that it is in (``train/0000.parquet``), nearest first.
    Files of no part count, as "train", where no file names one. Where there are folders of images, only files in
    the folder itself or in its sub-folder ``data`` count. Links may lead out of a `trusted` folder, the user's own.

    Raises:
        InputError: there is more than one data set; a numbered file is missing; a link leaves the folder.
    """
    beside: list[Path] = []
    paths = list(_below(folder, folder, _DEPTH, beside))
    if beside:
        # Then files further below are features or the like.
        paths = [path for path in paths if path.parent in (folder, folder / "data")]
    if not paths:
        return None
    sets: dict[tuple[str, ...], list[Path]] = {}
    for path in paths:
        sets.setdefault(_set(path.relative_to(folder)), []).append(path)
    notes = []
    if beside:
        names = listed([shown(path) for path in beside])
        notes.append(
            f"images beside the Parquet files are not used unless those name them: the ones in {names}"
        )
    if () not in sets and len(sets) > 1:
        names = listed([shown("/".join(name)) for name in sets])
        raise InputError(f"{shown(folder)} holds several data sets ({names}): give the folder of one as DATA")
    chosen = sets.get((), paths)
    if others := [path for path in paths if path not in chosen]:
        notes.append(f"not used, because of another data set: {listed([shown(path) for path in others])}")
    for path in [] if trusted else chosen:
        _check_links(path, folder)
    _check_whole(chosen)
    parts: dict[str | None, list[Path]] = {}
    for path in chosen:
        parts.setdefault(_part(path.relative_to(folder)), []).append(path)
    if withheld := parts.pop(UNLABELLED, []):
        notes.append(f"not used, because without labels by their names: {_names(withheld)}")
    nameless = parts.pop(None, [])
    if nameless and parts:
        notes += [f"not used, because it names no part: {shown(path)}" for path in nameless]
    elif nameless:
        parts = {"train": nameless}
    for part, files in parts.items():
        frames = dict.fromkeys(_frame(path.relative_to(folder)) for path in files)
        if len(frames) > 1:
            notes.append(f"{len(files)} files are read as one {_called(part, nameless)}: {_names(files)}")
    return Found({part: files for part, files in parts.items() if part}, notes)


def _called(part: str | None, nameless: Sequence[Path]) -> str:
    return "data set, since their names tell no parts" if nameless else f"{part} part"


def _below(folder: Path, root: Path, depth: int, beside: list[Path]) -> Iterator[Path]:
    """The Parquet files below a folder by the order of their paths; folders of images go to `beside`, unread."""
    if not folder.is_dir():
        return
    if _has_images(folder):
        beside.append(folder)
        if folder not in (root, root / "data"):
            return
    folders, files, _ = scan(folder)
    yield from (path for path in files if path.suffix.lower() == SUFFIX)
    for path in folders if depth else []:
        # A folder that is a link out of this one is for others to refuse: nothing of it is read.
        if not path.is_symlink() or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
            yield from _below(path, root, depth - 1, beside)


def _has_images(folder: Path) -> bool:
    """Whether a folder itself holds images; it may hold a million, so that the first one is enough."""
    try:
        with os.scandir(folder) as entries:
            return any(is_image(entry.name) for entry in entries if not entry.name.startswith("."))
    except OSError:
        return False  # told when the folder is listed


def _check_links(path: Path, folder: Path) -> None:
    if path.is_symlink():
        check_link(path, offered(folder))


def _check_whole(paths: Sequence[Path]) -> None:
    """Refuse files that number themselves (``train-00000-of-00003``) where one of them is missing."""
    sets: dict[tuple[Path, str, str], dict[int, str]] = {}
    for path in paths:
        if named := _NUMBERED.fullmatch(path.stem):
            before, number, total = named.groups()
            sets.setdefault((path.parent, before, total), {})[int(number)] = number
    for (folder, before, total), numbers in sets.items():
        first = int(int(total) in numbers)  # some count from 1
        missing = next(number for number in count(first) if number not in numbers)
        if missing < int(total) + first:
            name = f"{before}{missing:0{len(next(iter(numbers.values())))}}-of-{total}{SUFFIX}"
            raise InputError(
                f"{shown(folder / name)} is missing, of {int(total):,} files only {len(numbers):,} are there: add it, "
                f"or rename the others, without -of-{total}, if they are to count alone"
            )


def _part(path: Path) -> str | None:
    """What the file's name says, or else the nearest folder's."""
    for step in (path.stem, *reversed(path.parts[:-1])):
        if (part := named_part(step)[0]) is not None:
            return part
    return None


def _set(path: Path) -> tuple[str, ...]:
    """What tells a data set from others beside it: the folders that name neither a part nor nothing."""
    return tuple(step for step in path.parts[:-1] if not is_generic(step) and named_part(step)[0] is None)


def _frame(path: Path) -> tuple[str, ...]:
    """What a file's name says beside its part and its number."""
    return named_part(path.stem)[1]


def _names(paths: Sequence[Path]) -> str:
    return listed([shown(path.name) for path in paths])
