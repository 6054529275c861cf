"""Folders of images: which of their sub-folders are classes, which are parts that hold the classes, and which neither.

It is decided on the evidence of all of them together: ``train`` beside ``bus`` and ``car`` is a class, ``train_data``
beside ``test_data`` is a part. What has more than one meaning is refused.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from selftaught.data.encoded import Collection
from selftaught.data.image_files import Labelled, collection, listing, state
from selftaught.data.parts import PARTS, UNLABELLED, division, is_generic, part_of
from selftaught.data.tree import Tree, are_folds, are_pieces
from selftaught.errors import InputError, listed, shown, together

_TABLES_NOT_READ = {".jsonl", ".ndjson", ".xlsx", ".xls", ".ods"}


def collect(folder: Path, split_by: str | None = None) -> Collection:
    """The images of a folder; the names of the sub-folders are the classes. `split_by` is that of `data.load`.

    Below a class, images may lie in folders of any depth. Files that are plainly no images are passed over and counted.

    Raises:
        InputError: what `_read` refuses; a file that should be an image and is of no use, a class without
            images; and see `selftaught.data.image_files.collection`.
    """
    try:
        return _collect(folder, split_by)
    except InputError as error:
        if unread := _unread(folder):
            raise InputError(f"{error}; {unread}") from error
        raise


def _collect(folder: Path, split_by: str | None) -> Collection:
    found = _read(folder)
    labelled, problems = list[Labelled](), list[str]()
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


def _descriptions(found: "Layout") -> list[str]:
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


def _companions(found: "Layout") -> list[str]:
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


_TAKES = "one sub-folder of images per class, or a CSV file with the columns file and label"


@dataclass(frozen=True, eq=False)
class Place:
    """A folder whose images are all of one class and one part (train, test, validation)."""

    tree: Tree
    label: str
    part: str


@dataclass
class Layout:
    """Where which images are, which folders were looked at for that, and what was left aside, one line each."""

    places: list[Place] = field(default_factory=list)
    passages: list[Tree] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _read(root: Path) -> Layout:
    """The layout of a folder.

    Classes are the sub-folders of the folder itself or of the only one in it; or of its parts (train, test,
    validation, whatever stands around these words); or they hold the parts themselves. Sub-folders without images
    are left aside where they plainly are something else, such as annotations; else they are among the problems.

    Raises:
        InputError: there are no sub-folders with images; images that belong to no class; folders whose meaning is not
            plain, or that are the folds of a cross-validation; a link that leaves the folder or leads in a circle.
    """
    found = Layout()
    home = _descend(Tree(root), found)
    children = _children(home, found)
    parts = _parts(home, children)
    if parts:
        _read_parts(home, parts, found)
    elif not _read_divided_classes(home, children, found):
        _refuse_pieces(home, children, found)
        found.places = [_place(child, child, "train") for child in children]
        if home.path != root:
            found.notes.append(f"the classes are the sub-folders of {shown(home.path)}")
    return found


def _place(tree: Tree, label: Tree, part: str) -> Place:
    # A Mac writes accented letters as two characters, other systems as one.
    return Place(tree, unicodedata.normalize("NFC", shown(label.name)), part)


def _descend(tree: Tree, found: Layout) -> Tree:
    """The folder that holds more than a single one with everything in it: past ``data`` or ``dataset/images``."""
    while not tree.pictures and len(tree.folders) == 1:
        [only] = tree.folders
        enough = only.folders and not only.pictures
        if not enough or part_of(only.name) or not all(f.is_documentation for f in tree.without_pictures):
            break
        _set_aside(tree, found)
        tree = only
    return tree


def _children(tree: Tree, found: Layout) -> list[Tree]:
    """The sub-folders with images, of which there is at least one; what else lies there is set aside or refused."""
    _set_aside(tree, found)
    if not tree.folders:
        seen = "images, but no sub-folders" if tree.pictures else "no images"
        raise InputError(f"{shown(tree.path)} holds {seen}: it takes {_TAKES}")
    if tree.pictures:
        raise InputError(
            f"{shown(tree.pictures[0])} belongs to no class: move it into the folder of its class"
        )
    if are_folds([child.name for child in tree.folders if not part_of(child.name)]):
        raise InputError(
            f"{shown(tree.path)} is divided into folds ({_names(tree.folders)}), which are not classes: put the "
            "images of all folds into one folder per class, or name one fold"
        )
    return tree.folders


def _set_aside(tree: Tree, found: Layout) -> None:
    found.passages.append(tree)
    documentation = [folder for folder in tree.without_pictures if folder.is_documentation]
    if documentation:
        found.notes.append(f"not used, because without images: {_names(documentation)} in {shown(tree.path)}")
    if tree.descriptions:
        found.notes.append(
            f"not used, because they describe the images beside them: {_names(tree.descriptions)} in {shown(tree.path)}"
        )
    found.problems += [
        f"{shown(folder.path)} has no images: add some, or remove the folder"
        for folder in tree.without_pictures
        if folder not in documentation
    ]


def _parts(home: Tree, children: Sequence[Tree]) -> dict[str, Tree]:
    """The folders that are parts, by part; empty where they are classes."""
    groups = division(child.name for child in children)
    if not groups:
        return {}
    if len(groups) > 1:
        raise InputError(
            f"{shown(home.path)} is divided more than once ({'; '.join(', '.join(map(shown, g)) for g in groups)}): "
            "put one folder per class into one folder called train, and others into one called test"
        )
    [named] = groups
    others = [child for child in children if child.name not in named]
    by_name = {child.name: child for child in children}
    if others and len(named) == 1 and _is_class(by_name[next(iter(named))], others):
        return {}
    if others:
        raise InputError(
            f"{shown(home.path)} is divided into {', '.join(map(shown, named))}, but also has {_names(others)}: move "
            "what is no part elsewhere, or rename what is a class"
        )
    parts: dict[str, Tree] = {}
    for name, part in named.items():
        if part in parts:
            raise InputError(
                f"{shown(home.path)} has two folders for one part: {shown(parts[part].name)}, {shown(name)}: join them"
            )
        parts[part] = by_name[name]
    return parts


def _is_class(tree: Tree, others: Sequence[Tree]) -> bool:
    """Whether the only folder that is called like a part is a class: `train` among `bus` and `car`.

    It is if it has images of its own, or if it holds other folders than those beside it do, like them.
    """
    if tree.pictures:
        return True
    inner = {sub.name for sub in tree.folders}
    return len(others) > 1 and all(
        child.folders and not child.pictures and inner.isdisjoint(sub.name for sub in child.folders)
        for child in others
    )


def _read_parts(home: Tree, parts: dict[str, Tree], found: Layout) -> None:
    for part in PARTS:
        if part in parts:
            place = _within_part(parts[part], part)
            if part != "train" and _is_unlabelled(place):
                _note_unlabelled(place, found)
            else:
                found.places += [_place(child, child, part) for child in _classes_of_part(place, found)]
    if UNLABELLED in parts:
        _note_unlabelled(parts[UNLABELLED], found)
    if not any(place.part == "train" for place in found.places) and "train" in parts:
        raise InputError(f"{shown(parts['train'].path)} holds no classes: it takes {_TAKES}")


def _within_part(tree: Tree, part: str) -> Tree:
    """Past a folder that only repeats what its parent says: ``seg_train/seg_train``, ``test/images``."""
    while not tree.pictures and len(tree.folders) == 1:
        [only] = tree.folders
        repeats = only.name == tree.name or part_of(only.name) == part or is_generic(only.name)
        if not repeats or tree.without_pictures:
            break
        tree = only
    return tree


def _is_unlabelled(tree: Tree) -> bool:
    return bool(tree.pictures) and not tree.folders


def _note_unlabelled(tree: Tree, found: Layout) -> None:
    count = sum(1 for _ in tree.walk())
    found.notes.append(f"not used, because in no folder of a class: {count:,} images in {shown(tree.path)}")


def _classes_of_part(tree: Tree, found: Layout) -> list[Tree]:
    children = _children(tree, found)
    for group in division(child.name for child in children):
        if len(set(group.values())) > 1:
            raise InputError(
                f"{shown(tree.path)} is itself divided into {', '.join(map(shown, group))}: keep one division"
            )
    _refuse_pieces(tree, children, found)
    return children


def _read_divided_classes(home: Tree, children: Sequence[Tree], found: Layout) -> bool:
    """Classes that hold parts: CLASS/train, CLASS/test."""
    divided = {child: named for child in children if (named := _division_of_class(child))}
    if not any(len(set(named.values())) > 1 for named in divided.values()):
        return False
    if undivided := [child for child in children if child not in divided]:
        first = next(iter(divided))
        raise InputError(
            f"{shown(first.path)} is divided into {', '.join(map(shown, divided[first]))}, but "
            f"{shown(undivided[0].path)} is not: divide all classes or none"
        )
    for child, named in divided.items():
        for sub in child.folders:
            if named[sub.name] == UNLABELLED:
                _note_unlabelled(sub, found)
            else:
                found.places.append(_place(sub, child, named[sub.name]))
        found.passages.append(child)
    found.notes.append(f"each class in {shown(home.path)} is divided into parts of its own")
    return True


def _division_of_class(tree: Tree) -> dict[str, str] | None:
    groups = division(child.name for child in tree.folders)
    whole = len(groups) == 1 and len(groups[0]) == len(tree.folders) and not tree.pictures
    return groups[0] if whole else None


def _refuse_pieces(home: Tree, children: Sequence[Tree], found: Layout) -> None:
    """Refuse folders that hold the same folders each, where those may be the classes; tell of them in any case."""
    if len(children) < 2 or any(child.pictures for child in children):
        return
    inner = [{sub.name for sub in _past_generic(child).folders} for child in children]
    common, everything = set.intersection(*inner), set.union(*inner)
    same = shown(listed(sorted(common)))
    alike = 2 * len(common) >= len(everything) and len(common) > 1
    if (common and are_pieces([child.name for child in children])) or (
        alike and len(common) >= len(children)
    ):
        raise InputError(
            f"each of {_names(children)} in {shown(home.path)} holds folders called {same}: if those are the classes, "
            "put the images of each into one folder; if not, put the images of each class directly into its folder"
        )
    if alike:
        found.notes.append(
            f"each class in {shown(home.path)} holds folders called {same}, whose images are taken together: if those "
            "are the classes, put the images of each into one folder"
        )
    elif all(inner) and any(len(names) > 1 for names in inner):
        found.notes.append(
            f"each class in {shown(home.path)} is one with all of its sub-folders, {len(everything):,} in all "
            f"({shown(listed(sorted(everything)))}): if those are the classes, move them up beside each other"
        )


def _past_generic(tree: Tree) -> Tree:
    while not tree.pictures and len(tree.folders) == 1 and is_generic(tree.folders[0].name):
        [tree] = tree.folders
    return tree


def _names(folders: Sequence[Tree]) -> str:
    return shown(listed([folder.name for folder in folders]))
