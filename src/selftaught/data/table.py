"""A CSV file that names images and their labels."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from selftaught.data.encoded import Collection
from selftaught.data.files import Labelled, check_link, collection, is_image, listing, state, walk
from selftaught.data.parts import part_of
from selftaught.errors import InputError, shown

SUFFIXES = (".csv", ".tsv")

# In the order of preference.
_FILE = (
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "path",
    "image",
    "image_path",
    "image_id",
    "id",
)
_LABEL = ("label", "class", "category", "target")
_SPLIT = "split"


@dataclass(frozen=True)
class _Row:
    """What a line says; `where` names it in messages, `part` is None where the table is not divided."""

    where: str
    file: str
    label: str
    part: str | None


def find(folder: Path) -> Path | None:
    """The table that labels the images of a folder: the only one in it, or one beside it of the same name.

    None where there is none, and where one sub-folder per class says more than the tables do.

    Raises:
        InputError: it cannot be told which one.
    """
    folders, others = listing(folder)
    tables = [path for path in others if path.suffix.lower() in SUFFIXES]
    if not tables and folder.name:
        beside = [folder.with_name(folder.name + suffix) for suffix in SUFFIXES]
        tables = [path for path in beside if path.is_file()]
    if len(tables) > 1 and not folders:
        names = ", ".join(shown(path.name) for path in tables)
        raise InputError(
            f"{shown(folder)} has several tables ({names}): give the one with the labels as DATA"
        )
    if len(tables) == 1 and (len(folders) < 2 or _has_labels(tables[0])):
        return tables[0]
    return None


def collect(table: Path, folder: Path | None = None) -> Collection:
    """The images that a CSV or TSV file names.

    The header names a column of files (file, filename, path, image, id, ...), one of labels (label, class,
    category, target) and perhaps one called split (train, test, val). The files are looked for below the table's
    folder, below the folder of the table's name, below `folder`, and below the only sub-folder with images. A name
    may lack its suffix.

    Args:
        table: the file.
        folder: the folder that was asked for, where the table lies in it or beside it.

    Raises:
        InputError: the table cannot be read or lacks a column; a line lacks its label, or names a file that is
            missing, unusable, out of the folder or named before; and see `selftaught.data.files.collection`.
    """
    finder = _Finder(table, folder)
    first: dict[Path, str] = {}
    labelled = []
    for row in _rows(table):
        path = finder.find(row)
        if path in first:
            raise InputError(
                f"{row.where}: {row.file!r} is named twice, before in {first[path]}: keep one of them"
            )
        first[path] = row.where
        labelled.append(Labelled(path, state(path), row.label, row.part or "train"))
    if not labelled:
        raise InputError(f"{shown(table)} has no rows below its header: add one per image")
    notes = [f"the labels are those of {shown(table)}"] if folder else []
    if folder and (unused := sum(is_image(p.name) and p not in first for p in walk(folder, table.parent))):
        notes.append(
            f"{unused} images in {shown(folder)} are not used: {shown(table.name)} does not name them"
        )
    return collection(table.parent, labelled, shown(table), notes)


def _has_labels(table: Path) -> bool:
    """Whether a header names the columns that are needed."""
    try:
        next(_rows(table), None)
    except InputError:
        return False
    return True


def _rows(table: Path) -> Iterator[_Row]:
    """The rows below the header; InputError for what cannot be read as such."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark first.
        with open(table, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            lines = csv.reader(file, delimiter=max(",;\t|", key=header.count), skipinitialspace=True)
            names = [name.strip().lower().replace(" ", "_").replace("-", "_") for name in next(lines, [])]
            columns = [
                _column(names, known, what, table) for known, what in ((_FILE, "files"), (_LABEL, "labels"))
            ]
            split = names.index(_SPLIT) if _SPLIT in names else None
            for cells in lines:
                if any(cell.strip() for cell in cells):
                    yield _row(cells, columns, split, f"{shown(table)}, line {lines.line_num}")
    except OSError as error:
        raise InputError(f"{shown(table)} cannot be read ({error.strerror}): make it readable") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(table)} is not text in UTF-8: save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{shown(table)} cannot be read as a table: {error}") from error


def _column(names: list[str], known: tuple[str, ...], what: str, table: Path) -> int:
    for name in known:
        if name in names:
            return names.index(name)
    found = ", ".join(names) or "nothing"
    raise InputError(
        f"{shown(table)} has no column of {what} (its header says {shown(found)}): name one of them {known[0]!r}"
    )


def _row(cells: list[str], columns: list[int], split: int | None, where: str) -> _Row:
    def cell(column: int, what: str) -> str:
        text = cells[column].strip() if column < len(cells) else ""
        if not text:
            raise InputError(f"{where}: no {what}: add it, or remove the line")
        return text

    file, label = cell(columns[0], "file"), cell(columns[1], "label")
    if split is None:
        return _Row(where, file, label, None)
    name = cell(split, "split")
    part = part_of(name)
    if part is None:
        raise InputError(f"{where}: unknown split {name!r}: write train, test or val")
    return _Row(where, file, label, part)


class _Finder:
    """Finds the files that a table names, and none but those below its folder or the one that was asked for."""

    def __init__(self, table: Path, folder: Path | None) -> None:
        self._home = table.parent
        self._places = list(dict.fromkeys([folder or self._home, self._home, self._home / table.stem]))
        self._asked = folder
        self._looked_below = False
        self._checked: set[Path] = set()
        self._stems: dict[Path, dict[str, list[Path]]] = {}

    def find(self, row: _Row) -> Path:
        """The file of a row; InputError where there is none, several, or one that is not below the folder."""
        # Tables are written on Windows, too.
        name = PurePosixPath(row.file.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or PureWindowsPath(row.file).drive:
            raise InputError(
                f"{row.where}: {row.file!r} cannot leave the table's folder: write it relative to that"
            )
        found = self._search(name, row)
        if found is None and not self._looked_below:
            self._looked_below = True
            self._places += self._below()
            found = self._search(name, row)
        if found is None:
            raise InputError(
                f"{row.where}: no file {row.file!r} below {shown(self._home)}: correct the name, or remove the line"
            )
        return found

    def _search(self, name: PurePosixPath, row: _Row) -> Path | None:
        for place in self._places:
            path = place / name
            if not os.path.isfile(path):
                same = self._same_stem(path)
                if len(same) > 1:
                    files = ", ".join(shown(file.name) for file in same)
                    raise InputError(f"{row.where}: {row.file!r} may be any of {files}: write the whole name")
                if not same:
                    continue
                path = same[0]
            self._check(path, place)
            return path
        return None

    def _same_stem(self, path: Path) -> list[Path]:
        """The images that a name without an image's suffix may mean."""
        if is_image(path.name):
            return []
        if path.parent not in self._stems:
            stems: dict[str, list[Path]] = {}
            for file in listing(path.parent)[1] if os.path.isdir(path.parent) else []:
                if is_image(file.name):
                    stems.setdefault(file.stem, []).append(file)
            self._stems[path.parent] = stems
        return self._stems[path.parent].get(path.name, [])

    def _check(self, path: Path, place: Path) -> None:
        steps = [path.parent] if path.parent not in self._checked else []
        if path.is_symlink():
            steps.append(path)
        for step in steps:
            check_link(step, os.path.realpath(place if place == self._asked else self._home))
        self._checked.add(path.parent)

    def _below(self) -> list[Path]:
        """The only sub-folder with images, if there is one."""
        folders = [path for path in listing(self._home)[0] if any(is_image(f.name) for f in listing(path)[1])]
        return folders if len(folders) == 1 else []
