"""Folders with one sub-folder of images per class, optionally divided into parts; see `selftaught.data.layout`."""

from collections import Counter
from pathlib import Path

from selftaught.data import layout
from selftaught.data.encoded import Collection
from selftaught.data.files import Labelled, collection, listing, state
from selftaught.data.parts import is_generic, part_of
from selftaught.errors import InputError, listed, shown, together

_TABLES_NOT_READ = {".jsonl", ".ndjson", ".xlsx", ".xls", ".ods"}


def collect(folder: Path, split_by: str | None = None) -> Collection:
    """The images of a folder; the names of the sub-folders are the classes. `split_by` is that of `data.load`.

    Sub-folders ``train`` and ``test`` (also training, testing, val, valid, validation, and such words with others
    around them: training_set, seg_train) divide it. Below a class, images may lie in folders of any depth. Files that
    are plainly no images are passed over and counted.

    Raises:
        InputError: what `layout.read` refuses; a file that should be an image and is of no use, a class without
            images; and see `selftaught.data.files.collection`.
    """
    try:
        return _collect(folder, split_by)
    except InputError as error:
        if unread := _unread(folder):
            raise InputError(f"{error}; {unread}") from error
        raise


def _collect(folder: Path, split_by: str | None) -> Collection:
    found = layout.read(folder)
    labelled: list[Labelled] = []
    problems: list[str] = []
    for place in found.places:
        for image in place.tree.walk():
            try:
                labelled.append(Labelled(image, state(image), place.label, place.part))
            except InputError as error:
                problems.append(str(error))
    problems += found.problems
    if problems:
        raise InputError(together(problems))
    notes = [*found.notes, *_descriptions(found), *_companions(found), *filter(None, [_unread(folder)])]
    return collection(folder, labelled, shown(folder), notes, split_by)


def _unread(folder: Path) -> str:
    """What to say of a file in the folder or those of its parts that may hold the labels; empty without one."""
    try:
        folders, files = listing(folder)
        for inner in folders:
            if not inner.is_symlink() and (part_of(inner.name) or is_generic(inner.name)):
                files += listing(inner)[1]
    except InputError:
        return ""  # told already
    found = [path for path in files if path.suffix.lower() in _TABLES_NOT_READ]
    return f"{shown(found[0])} is not read: if it holds the labels, save it as CSV" if found else ""


def _descriptions(found: layout.Layout) -> list[str]:
    """What lies within classes and describes other pictures there, such as masks."""
    folders = [tree for place in found.places for tree in place.tree.all_descriptions()]
    masks = [path for place in found.places for path in place.tree.all_masks()]
    notes = []
    if folders:
        count = sum(1 for tree in folders for _ in tree.walk())
        where = listed([shown(tree.path) for tree in folders])
        notes.append(f"not used, because they describe the images beside them: {count:,} images in {where}")
    if masks:
        what = "it describes the image" if len(masks) == 1 else "they describe the images"
        count, such = len(masks), shown(masks[0].name)
        images = "1 image" if count == 1 else f"{count:,} images"
        notes.append(f"not used, because {what} of the same name beside: {images} (such as {such})")
    return notes


def _companions(found: layout.Layout) -> list[str]:
    notes = []
    if outside := [path.name for tree in found.passages for path in tree.others]:
        notes.append(f"not used, because outside the classes' folders: {shown(listed(outside))}")
    kinds = Counter[str]()
    for tree in found.passages:
        kinds.update(tree.hidden())
    for place in found.places:
        kinds.update(place.tree.companions())
    if kinds:
        total = sum(kinds.values())
        what = "it is no image: 1 file" if total == 1 else f"they are no images: {total:,} files"
        named = [f"{count:,} {kind}" for kind, count in kinds.most_common(8)]
        more = f" and {len(kinds) - 8} more kinds" if len(kinds) > 8 else ""
        notes.append(f"not used, because {what} ({', '.join(named)}{more})")
    return notes
