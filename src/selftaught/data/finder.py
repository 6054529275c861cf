"""The files that a table names, wherever below its folder they are, however their names are written."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from selftaught.data.image_files import check_link, is_image, listing
from selftaught.data.parts import part_of
from selftaught.errors import InputError, shown

_DEPTH = 3


class Finder:
    """Finds files by name below the folder of a table or the folder that was `asked` for, and no others.

    A name may lack its suffix, and differ in capitals and in how accents are written, where that leaves one file.
    """

    def __init__(self, table: Path, asked: Path | None) -> None:
        self._home, self._asked = table.parent, asked
        self._places = list(dict.fromkeys([asked or self._home, self._home, self._home / table.stem]))
        self._below: list[Path] | None = None
        self._checked: set[Path] = set()
        self._names: dict[Path, tuple[dict[str, list[Path]], ...]] = {}

    def find(self, written: str, part: str | None, where: str) -> Path:
        """The file of the name `written` in the line `where`; in the sub-folder of its part, if there are such.

        Raises:
            InputError: there is none, there are several, or it is not below the folder.
        """
        places, steps = self._start(written, where)
        for place in places:
            if path := self._follow(place, steps, where):
                self._check(path, place)
                return path
        for places in self._groups(part):
            matches = [(place, path) for place in places if (path := self._follow(place, steps, where))]
            if len(matches) > 1:
                raise InputError(_several(written, [path for _, path in matches], where))
            if matches:
                self._check(matches[0][1], self._home)
                return matches[0][1]
        raise InputError(
            f"{where}: no file {cut(written)} below {shown(self._home)}: correct the name, or remove the line"
        )

    def _start(self, written: str, where: str) -> tuple[Sequence[Path], tuple[str, ...]]:
        """Where to look, and the steps from there; InputError for a name that leads elsewhere."""
        # Tables are written on Windows, too.
        name = PurePosixPath(written.replace("\\", "/"))
        if not name.is_absolute() and ".." not in name.parts and not PureWindowsPath(written).drive:
            return self._places, name.parts
        if name.is_absolute() and ".." not in name.parts:
            for place in filter(None, (self._asked, self._home)):
                for start in (os.path.abspath(place), os.path.realpath(place)):
                    if name.is_relative_to(start):
                        return [place], name.relative_to(start).parts
        raise InputError(
            f"{where}: {cut(written)} lies outside, but cannot leave the table's folder: write it relative to that"
        )

    def _follow(self, folder: Path, steps: Sequence[str], where: str) -> Path | None:
        """The file that the steps lead to from a folder; each is taken as it is written if it can be."""
        path = folder.joinpath(*steps)
        if os.path.isfile(path):
            return path
        if not steps:
            return None
        for step in steps[:-1]:
            same = (
                [folder / step]
                if os.path.isdir(folder / step)
                else self._index(folder)[0].get(_folded(step), [])
            )
            if len(same) != 1:
                return None
            [folder] = same
        _, files, stems = self._index(folder)
        last = _folded(steps[-1])
        found = files.get(last, [])
        if not found and not is_image(steps[-1]):
            same_case = [file for file in stems.get(last, []) if file.stem == steps[-1]]
            found = same_case or stems.get(last, [])
        if len(found) > 1:
            raise InputError(_several(steps[-1], found, where))
        return found[0] if found else None

    def _index(self, folder: Path) -> tuple[dict[str, list[Path]], ...]:
        """The sub-folders, the files and the images without suffix of a folder, by name as `_folded`."""
        if folder not in self._names:
            folders, files = listing(folder) if os.path.isdir(folder) else ([], [])
            named: tuple[dict[str, list[Path]], ...] = ({}, {}, {})
            for path in folders:
                named[0].setdefault(_folded(path.name), []).append(path)
            for path in files:
                named[1].setdefault(_folded(path.name), []).append(path)
                if is_image(path.name):
                    named[2].setdefault(_folded(path.stem), []).append(path)
            self._names[folder] = named
        return self._names[folder]

    def _check(self, path: Path, place: Path) -> None:
        steps = [path.parent] if path.parent not in self._checked else []
        if path.is_symlink():
            steps.append(path)
        for step in steps:
            check_link(step, os.path.realpath(place if place == self._asked else self._home))
        self._checked.add(path.parent)

    def _groups(self, part: str | None) -> list[list[Path]]:
        """The folders below that hold images, in groups to be searched one after the other: the part's own first."""
        if self._below is None:
            self._below = self._folders_with_images()
        groups: dict[bool | None, list[Path]] = {True: [], None: [], False: []}
        for folder in self._below:
            parts = {part_of(step) for step in folder.relative_to(self._home).parts} - {None}
            groups[part in parts if parts and part else None].append(folder)
        return list(groups.values())

    def _folders_with_images(self) -> list[Path]:
        real = os.path.realpath(self._home)
        found, level = [], [self._home]
        for _ in range(_DEPTH):
            inner = [folder for above in level for folder in listing(above)[0]]
            level = [folder for folder in inner if Path(os.path.realpath(folder)).is_relative_to(real)]
            found += [folder for folder in level if any(is_image(file.name) for file in listing(folder)[1])]
        return found


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _several(written: str, found: Sequence[Path], where: str) -> str:
    same = len({path.parent for path in found}) == 1
    files = ", ".join(shown(path.name if same else path) for path in found)
    return f"{where}: {cut(written)} may be any of {files}: write the whole name"


def cut(text: str) -> str:
    """A cell for a message, quoted, of at most a hundred characters.

    >>> cut("a.png")
    "'a.png'"
    """
    return repr(text if len(text) <= 100 else text[:97] + "...")
