"""Folders with one sub-folder of images per class, optionally under ``train`` and ``test``."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from selftaught.data.encoded import Collection
from selftaught.data.files import Labelled, check_link, collection, is_image, listing, state, walk
from selftaught.data.parts import PARTS, part_of
from selftaught.errors import InputError, shown, together

_LAYOUT = "one sub-folder of images per class, or a CSV file with the columns file and label"


def collect(folder: Path) -> Collection:
    """The images of a folder; the names of the sub-folders are the classes.

    Sub-folders ``train`` and ``test`` (also training, testing, val, valid, validation) divide it. Below a class,
    images may lie in folders of any depth.

    Raises:
        InputError: there are no images or no sub-folders, a file is not an image, an image belongs to no class,
            a class has no images, a link leaves the folder; and see `selftaught.data.files.collection`.
    """
    notes: list[str] = []
    labelled: list[Labelled] = []
    places = _places(folder)
    if places[0][1] != folder:
        _check_outside(listing(folder)[1], notes)
    problems: list[str] = []
    for part, place in places:
        labelled += _classes(place, part, folder, notes, problems)
    if problems:
        raise InputError(together(problems))
    return collection(folder, labelled, shown(folder), notes)


def _places(folder: Path) -> list[tuple[str, Path]]:
    """The folders that hold the classes' folders, each with its part."""
    folders, _ = listing(folder)
    found: dict[str, Path] = {}
    others = []
    for path in folders:
        part = part_of(path.name)
        if part is None:
            others.append(path)
        elif part in found:
            raise InputError(f"{shown(folder)} has two folders for one part: {found[part].name}, {path.name}")
        else:
            found[part] = path
    if not found or (others and not _holds_classes(found)):
        return [("train", folder)]
    if others:
        raise InputError(
            f"{shown(folder)} is divided into {', '.join(shown(path.name) for path in found.values())}, but also has "
            f"{shown(others[0].name)}: move it elsewhere"
        )
    return [(part, found[part]) for part in PARTS if part in found]


def _holds_classes(found: dict[str, Path]) -> bool:
    """Whether these folders hold folders: among cars and buses, `train` may be a class with images of its own."""
    return any(listing(path)[0] for path in found.values())


def _classes(place: Path, part: str, root: Path, notes: list[str], problems: list[str]) -> Iterator[Labelled]:
    """The images of all classes; what is wrong with single files and classes goes to `problems`, to be told at once."""
    real_root = os.path.realpath(root)
    check_link(place, real_root)
    folders, others = listing(place)
    if not folders:
        loose = any(is_image(path.name) for path in others)
        found = "images, but no sub-folders" if loose else "no images"
        raise InputError(f"{shown(place)} holds {found}: it takes {_LAYOUT}")
    _check_outside(others, notes)
    for path in folders:
        check_link(path, real_root)
        # A Mac writes accented letters as two characters, other systems as one.
        label = unicodedata.normalize("NFC", shown(path.name))
        empty = True
        for image in walk(path, root):
            empty = False
            try:
                yield Labelled(image, state(image), label, part)
            except InputError as error:
                problems.append(str(error))
        if empty:
            problems.append(f"{shown(path)} has no images: add some, or remove the folder")


def _check_outside(files: list[Path], notes: list[str]) -> None:
    """Files beside the classes' folders: an image there was meant for one of them, anything else is told."""
    for path in files:
        if is_image(path.name):
            raise InputError(f"{shown(path)} belongs to no class: move it into the folder of its class")
    if files:
        notes.append(f"not used, because outside the classes' folders: {', '.join(map(shown, files))}")
