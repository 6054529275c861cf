"""A folder as it is looked at to find out what its sub-folders mean: which of them hold pictures, and where."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from selftaught.data.image_files import check_link, is_picture, is_plain_companion, scan
from selftaught.data.parts import is_generic, words
from selftaught.errors import InputError, shown

# What makers of data sets call the folders of pictures that are no examples, but describe those in a folder beside.
_DESCRIPTIONS = frozenset(
    """
    anno annot annotation annotations annots box boxes bbox bboxes depth gt groundtruth ground truth label labels
    mask masks segmentation segmentations trimap trimaps xml xmls
    """.split()  # noqa: SIM905  (easier to read than quotes)
)

_MASK = re.compile(r"(.+)[ _-](?:masks?|seg|segmentation|labels?)(?:[ _-]?\d+)?", re.IGNORECASE | re.DOTALL)


class Tree:
    """A folder and all that is below it, read as it is needed. Links are followed, but not out of the root."""

    def __init__(self, path: Path, root: str | None = None, above: Sequence[str] = ()) -> None:
        self.path, self.name = path, path.name
        self._root = root or os.path.realpath(path)
        self._above = (*above, check_link(path, self._root))
        if self._above[-1] in above:
            raise InputError(f"{shown(path)} is a link that leads in a circle: remove it")

    @cached_property
    def _found(self) -> tuple[list[Path], list[Path], list[str]]:
        folders, others, passed = scan(self.path)
        for path in others:
            if path.is_symlink():
                check_link(path, self._root)
        return folders, others, passed

    @cached_property
    def _children(self) -> list["Tree"]:
        return [Tree(path, self._root, self._above) for path in self._found[0]]

    @cached_property
    def pictures(self) -> list[Path]:
        """The pictures in the folder itself, by the order of their names; some may be of no use."""
        return [path for path in self._found[1] if is_picture(path)]

    @cached_property
    def _is_pictured(self) -> bool:
        return bool(self.pictures) or any(child._is_pictured for child in self._children)

    @cached_property
    def folders(self) -> list["Tree"]:
        """The sub-folders with pictures of examples in them or below them, by the order of their names."""
        pictured = [child for child in self._children if child._is_pictured]
        return [child for child in pictured if child not in self.descriptions]

    @cached_property
    def descriptions(self) -> list["Tree"]:
        """The sub-folders with pictures that describe those of another sub-folder: masks beside images."""
        pictured = [child for child in self._children if child._is_pictured]
        if not any(is_generic(child.name) for child in pictured):
            return []
        return [child for child in pictured if (found := words(child.name)) and set(found) <= _DESCRIPTIONS]

    @cached_property
    def without_pictures(self) -> list["Tree"]:
        """The other sub-folders."""
        return [child for child in self._children if not child._is_pictured]

    @property
    def is_documentation(self) -> bool:
        """Whether it holds files, and none that could be meant for a picture by its suffix."""
        below = [path for folder in self._below() for path in folder._found[1]]
        return bool(below) and all(is_plain_companion(path.name) for path in below)

    @cached_property
    def masks(self) -> list[Path]:
        """The pictures that describe one beside them by its name and a word more: ``1_mask.png`` beside ``1.png``."""
        stems = {path.stem for path in self.pictures}
        return [p for p in self.pictures if (named := _MASK.fullmatch(p.stem)) and named[1] in stems]

    def walk(self) -> Iterator[Path]:
        """All pictures of examples in it and below it, in an order that does not depend on the file system."""
        masks = set(self.masks)
        yield from (path for path in self.pictures if path not in masks)
        for child in self.folders:
            yield from child.walk()

    def all_descriptions(self) -> Iterator["Tree"]:
        """The descriptions in it and below it."""
        yield from self.descriptions
        for child in self.folders:
            yield from child.all_descriptions()

    def all_masks(self) -> Iterator[Path]:
        """The masks in it and below it, as far as `walk` goes."""
        yield from self.masks
        for child in self.folders:
            yield from child.all_masks()

    @property
    def others(self) -> list[Path]:
        """The visible files in the folder itself that are no pictures."""
        pictures = set(self.pictures)
        return [path for path in self._found[1] if path not in pictures]

    def hidden(self) -> Counter[str]:
        """How many hidden entries, and such as systems leave behind, the folder itself has, by kind."""
        return Counter(_kind(name) for name in self._found[2])

    def companions(self) -> Counter[str]:
        """How many files in it and below it are passed over, by kind: a suffix, or what hides it."""
        kinds = Counter[str]()
        for folder in self._below():
            kinds.update(_kind(path.name) for path in folder.others)
            kinds.update(folder.hidden())
        return kinds

    def _below(self) -> Iterator["Tree"]:
        yield self
        for child in self._children:
            yield from child._below()


def _kind(name: str) -> str:
    if name.startswith(".") or name.endswith("/"):
        return "._*" if name.startswith("._") else shown(name)
    return shown(os.path.splitext(name)[1].lower()) or "without a suffix"


_FOLD = re.compile(r"(k?folds?|cv)[ _-]*\d+|\d+(st|nd|rd|th)?[ _-]*fold", re.IGNORECASE)
_PIECE = re.compile(
    r"(part|batch|split|set|subset|chunk|half|session|shard|piece|section)[ _-]*(\d+|[a-z])", re.IGNORECASE
)


def are_folds(names: Sequence[str]) -> bool:
    """Whether names are those of a cross-validation's folds: fold0, fold_1.

    >>> are_folds(["fold1", "fold2"]), are_folds(["fold", "crease"])
    (True, False)
    """
    return len(names) > 1 and all(_FOLD.fullmatch(name) for name in names)


def are_pieces(names: Sequence[str]) -> bool:
    """Whether names only number pieces of one whole: batch1, batch2; part_a, part_b.

    >>> are_pieces(["batch1", "batch2"]), are_pieces(["set", "match"])
    (True, False)
    """
    return len(names) > 1 and all(_PIECE.fullmatch(name) for name in names)
