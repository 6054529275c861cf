"""A CSV file that names images and their labels."""

import csv
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from selftaught.data.columns import Columns
from selftaught.data.encoded import Collection
from selftaught.data.finder import Finder
from selftaught.data.image_files import (
    Labelled,
    check_link,
    collection,
    is_image,
    listing,
    regular,
    state,
    walk,
)
from selftaught.data.parts import UNLABELLED, division, part_of, words
from selftaught.errors import InputError, shown

SUFFIXES = (".csv", ".tsv")

# With these names a file is looked into, whether or not its suffix says that it is a table.
_NAMES = ("labels", "label", "annotations", "metadata")
_PLAIN_SUFFIXES = (".txt", "")

# What a contest gives as a pattern for answers has made-up labels.
_ANSWERS = {"submission", "submissions", "submit"}

_LONGEST_LINE = 2**20


@dataclass(frozen=True)
class Tables:
    """The tables that label the images of a folder, with the part of each (None: not divided by tables), and notes."""

    parts: dict[Path, str | None]
    notes: tuple[str, ...] = ()


def is_table(path: Path) -> bool:
    """Whether a file is a table by its suffix, or else has a header with the columns that are needed."""
    suffix = path.suffix.lower()
    return suffix in SUFFIXES or (suffix in _PLAIN_SUFFIXES and path.is_file() and _has_labels(path))


def find(folder: Path) -> Tables | None:
    """The tables that label the images of a folder: in it, or one beside it of the same name.

    Of several, those that name no labels and patterns for answers are left aside. One remains, or some that are
    called after parts: train.csv, test.csv. None where there is none, and where one sub-folder per class says more.

    Raises:
        InputError: it cannot be told which one; a table is a link that leaves the folder, or is no regular file.
    """
    folders, others = listing(folder)
    tables = [path for path in others if _may_be_table(path)]
    root = folder
    if not tables and folder.name:
        beside = [folder.with_name(folder.name + suffix) for suffix in SUFFIXES]
        tables, root = [path for path in beside if path.is_file()], folder.parent
    for path in tables:
        check_link(path, os.path.realpath(root))
        regular(path)
    answers = [path for path in tables if _ANSWERS & set(words(path.stem))]
    labelled = [path for path in tables if path not in answers and _has_labels(path)]
    unused = [path for path in tables if path not in labelled]
    if not labelled:
        # The only table of a folder without classes must be meant; what it lacks is told when it is read.
        return Tables({tables[0]: None}) if len(tables) == 1 and not answers and len(folders) < 2 else None
    parts = _parts(labelled, folders)
    if parts is None:
        if len(folders) > 1:
            return None
        names = ", ".join(shown(path.name) for path in labelled)
        raise InputError(
            f"{shown(folder)} has several tables with labels ({names}): give the one that counts as DATA"
        )
    left = ", ".join(shown(path.name) for path in unused)
    return Tables(parts, (f"not used, because without labels of images: {left}",) if unused else ())


def _may_be_table(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return True
    named = suffix in _PLAIN_SUFFIXES and path.stem.lower() in _NAMES
    return named and path.is_file() and _has_labels(path)


def _parts(labelled: list[Path], folders: list[Path]) -> dict[Path, str | None] | None:
    """The part of each table; None where it cannot be told which of several counts."""
    groups = division(path.stem for path in labelled)
    named = groups[0] if len(groups) == 1 else {}
    parts = [named.get(path.stem) for path in labelled]
    if len(labelled) == 1:
        beside_training = any(part_of(folder.name) == "train" for folder in folders)
        return {labelled[0]: parts[0] if parts[0] != "train" and beside_training else None}
    if None in parts or UNLABELLED in parts or len(set(parts)) < len(parts):
        return None
    return dict(zip(labelled, parts, strict=True))


def collect(tables: Path | Tables, folder: Path | None = None, split_by: str | None = None) -> Collection:
    """The images that a CSV or TSV file names, or several of them, one for each part.

    The header names a column of files, one of labels, and perhaps one that divides them, see `selftaught.data.columns`.
    The files are looked for where `selftaught.data.finder` says.

    Args:
        tables: one file, or what `find` found.
        folder: the folder that was asked for, where the tables lie in it or beside it.
        split_by: that of `data.load`.

    Raises:
        InputError: a table cannot be read or lacks a column; a line lacks its label, or names a file that is
            missing, unusable, out of the folder or named before; and see `selftaught.data.image_files.collection`.
    """
    if isinstance(tables, Path):
        tables = Tables({tables: None})
    first: dict[Path, str] = {}
    labelled: list[Labelled] = []
    notes = [f"the labels are those of {', '.join(map(shown, tables.parts))}"] if folder else []
    notes += tables.notes
    for path, part in tables.parts.items():
        labelled += _rows(path, part, folder, first, notes, split_by)
    table = next(iter(tables.parts))
    if folder and (unused := sum(is_image(p.name) and p not in first for p in walk(folder, table.parent))):
        which = f"{shown(table.name)} does" if len(tables.parts) == 1 else "the tables do"
        notes.append(f"{unused:,} images in {shown(folder)} are not used: {which} not name them")
    where = shown(table if len(tables.parts) == 1 else folder)
    return collection(table.parent, labelled, where, notes, split_by)


def _rows(
    table: Path,
    part: str | None,
    folder: Path | None,
    first: dict[Path, str],
    notes: list[str],
    split_by: str | None,
) -> Iterator[Labelled]:
    """What a table names; `first` is where each file was named, to be added to."""
    columns, more = _columns(table, part)
    columns = columns.grouped(split_by)
    notes += more
    finder = Finder(table, folder)
    about = part or part_of(table.stem)
    empty = True
    for cells, where in _lines(table):
        row = columns.row(cells, where)
        path = finder.find(row.file, about or row.part, where)
        if path in first:
            raise InputError(
                f"{where}: {row.file!r} is named twice, before in {first[path]}: keep one of them"
            )
        first[path] = where
        empty = False
        label = unicodedata.normalize("NFC", shown(row.label))
        yield Labelled(path, state(path), label, part or row.part or "train", row.group)
    if empty:
        raise InputError(f"{shown(table)} has no rows below its header: add one per image")


def _columns(table: Path, part: str | None) -> tuple[Columns, list[str]]:
    """The columns and what there is to say of those that are not used; read to the end, for what divides the rows."""
    columns = Columns.of(_header(table), shown(table))
    return columns.divided((cells for cells, _ in _lines(table)), by_file=part is not None)


def _has_labels(table: Path) -> bool:
    """Whether a header names the columns that are needed."""
    try:
        Columns.of(_header(table), shown(table))
    except InputError:
        return False
    return True


def _header(table: Path) -> list[str]:
    return next(_cells(table), ([], ""))[0]


def _lines(table: Path) -> Iterator[tuple[list[str], str]]:
    """The cells of each line below the header that has some, and what to call the line."""
    lines = _cells(table)
    next(lines, None)
    for cells, where in lines:
        if any(cell.strip() for cell in cells):
            yield cells, where


def _cells(table: Path) -> Iterator[tuple[list[str], str]]:
    """All lines; InputError for what cannot be read as such."""
    try:
        regular(table)
        # utf-8-sig: spreadsheets put a byte order mark first.
        with open(table, encoding="utf-8-sig", newline="") as file:
            header = file.readline(_LONGEST_LINE)
            file.seek(0)
            candidates = ",;\t|" if table.suffix.lower() in SUFFIXES else ",;\t| "
            delimiter = max(candidates, key=header.strip().count)
            lines = csv.reader(_bounded(file, table), delimiter=delimiter, skipinitialspace=True)
            for cells in lines:
                yield cells, f"{shown(table)}, line {lines.line_num}"
    except OSError as error:
        raise InputError(f"{shown(table)} cannot be read ({error.strerror}): make it readable") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(table)} is not text in UTF-8: save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{shown(table)} cannot be read as a table: {error}") from error


def _bounded(file: TextIO, table: Path) -> Iterator[str]:
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise InputError(
                f"{shown(table)} cannot be read as a table: a line has more than a million characters"
            )
        yield line
