"""The columns of a table of labels: which names the files, which the labels, which divides the images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from selftaught.data.finder import cut
from selftaught.data.parts import UNLABELLED, division, part_of
from selftaught.errors import InputError, shown

# In the order of preference, as `_plain` writes them.
_FILE = tuple(
    """
    file filename filepath path image imagepath filenames files filepaths paths images imagename imagefile imagefilename
    imagefilepath imageid img imgpath imgname imgfile imgid picture photo id
    """.split()  # noqa: SIM905  (easier to read than quotes)
)
_LABEL = tuple(
    """
    label class category target labels classes categories targets classname classlabel labelname categoryname
    targetname classid labelid categoryid y
    """.split()  # noqa: SIM905  (easier to read than quotes)
)

# Columns whose values may be the names of parts.
_DIVIDING = (
    "split",
    "set",
    "subset",
    "partition",
    "part",
    "phase",
    "usage",
    "stage",
    "fold",
    "folds",
    "kfold",
    "cvfold",
)

# Columns of yes and no: the part of a yes, and that of a no.
_FLAGS = {
    "istest": ("test", "train"),
    "istrain": ("train", "test"),
    "istraining": ("train", "test"),
    "isvalid": ("validation", "train"),
    "isval": ("validation", "train"),
    "isvalidation": ("validation", "train"),
}
_YES, _NO = {"1", "1.0", "true", "t", "yes", "y"}, {"0", "0.0", "false", "f", "no", "n"}

_MOST_VALUES = 50


@dataclass(frozen=True)
class Row:
    """What a line says; `part` is None where the table is not divided."""

    file: str
    label: str
    part: str | None


@dataclass(frozen=True)
class Columns:
    """Which columns mean what.

    Attributes:
        names: all of them, as the header has them.
        file: the position of the files' names.
        label: the position of the labels.
        split: the position of the column that divides the images, if there is one.
        parts: what its values mean.
    """

    names: tuple[str, ...]
    file: int
    label: int
    split: int | None = None
    parts: dict[str, str] | None = None

    @classmethod
    def of(cls, header: Sequence[str], where: str) -> "Columns":
        """The columns of a header, not yet `divided`.

        Raises:
            InputError: it names no column of files, or none of labels.
        """
        names = tuple(name.strip() for name in header)
        plain = [_plain(name) for name in names]
        file, label = (
            _column(plain, names, known, what, where)
            for known, what in ((_FILE, "files"), (_LABEL, "labels"))
        )
        return cls(names, file, label)

    def divided(self, lines: Iterable[Sequence[str]], by_file: bool) -> tuple["Columns", list[str]]:
        """With the column that divides the images, and what to say of columns that might have been used and are not.

        Args:
            lines: the cells of all lines below the header.
            by_file: whether the images are divided already, since each part has a table of its own.
        """
        plain = [_plain(name) for name in self.names]
        candidates = sorted(
            (position for position, name in enumerate(plain) if name in _DIVIDING or name in _FLAGS),
            key=lambda position: [*_DIVIDING, *_FLAGS].index(plain[position]),
        )
        values: dict[int, set[str]] = {position: set() for position in candidates}
        for cells in lines if candidates else []:
            for position, seen in values.items():
                if len(seen) <= _MOST_VALUES:
                    seen.add(_cell(cells, position))
        found, notes = self, self._other_labels(plain)
        for position in candidates:
            parts = _meaning(plain[position], values[position])
            if parts is None:
                notes.append(
                    f"the column {shown(self.names[position])!r} does not divide the images: its values "
                    f"({_listed(values[position])}) name no parts"
                )
            elif by_file or found.split is not None:
                divides = (
                    "each part has a table" if by_file else f"{shown(self.names[found.split or 0])!r} does"
                )
                notes.append(
                    f"the column {shown(self.names[position])!r} does not divide the images: {divides}"
                )
            else:
                found = replace(found, split=position, parts=parts)
                if plain[position] != "split":
                    notes.append(f"the column {shown(self.names[position])!r} divides the images")
        return found, notes

    def _other_labels(self, plain: Sequence[str]) -> list[str]:
        others = [name for name, known in zip(self.names, plain, strict=True) if known in _LABEL]
        others.remove(self.names[self.label])
        if not others:
            return []
        return [
            f"the labels are those of the column {shown(self.names[self.label])!r}, not of "
            f"{', '.join(map(repr, map(shown, others)))}"
        ]

    def row(self, cells: Sequence[str], where: str) -> Row:
        """What a line says.

        Raises:
            InputError: it lacks its file, its label or its part, or the part is none.
        """
        file, label = _needed(cells, self.file, "file", where), _needed(cells, self.label, "label", where)
        if self.split is None or self.parts is None:
            return Row(file, label, None)
        name = self.names[self.split]
        value = _needed(cells, self.split, shown(name), where)
        part = self.parts.get(value)
        if part is None:
            takes = "yes or no" if _plain(name) in _FLAGS else "train, test or val"
            raise InputError(f"{where}: unknown {shown(name)} {cut(value)}: write {takes}")
        return Row(file, label, part)


def _plain(name: str) -> str:
    """A column's name without capitals and what separates words.

    >>> _plain("File Name"), _plain("is_test")
    ('filename', 'istest')
    """
    return "".join(character for character in name.lower() if character not in " _-.")


def _column(plain: Sequence[str], names: Sequence[str], known: Sequence[str], what: str, where: str) -> int:
    for name in known:
        if name in plain:
            return plain.index(name)
    found = shown(", ".join(names))[:200] or "nothing"
    raise InputError(
        f"{where} has no column of {what} (its header says {found}): name one of them {known[0]!r}"
    )


def _meaning(column: str, values: set[str]) -> dict[str, str] | None:
    """The part that each value of a column stands for; None where it does not divide the images.

    A column called split must, and so must one with some values that are parts: other values are then refused.
    """
    if column in _FLAGS:
        yes, no = _FLAGS[column]
        meaning = {
            value: yes if value.lower() in _YES else no for value in values if value.lower() in _YES | _NO
        }
    else:
        groups = division(values)
        group = (
            groups[0] if len(groups) == 1 else {value: part for value in values if (part := part_of(value))}
        )
        meaning = {value: part for value, part in group.items() if part != UNLABELLED}
    return meaning if meaning or column == "split" else None


def _cell(cells: Sequence[str], position: int) -> str:
    return cells[position].strip() if position < len(cells) else ""


def _needed(cells: Sequence[str], position: int, what: str, where: str) -> str:
    text = _cell(cells, position)
    if not text:
        raise InputError(f"{where}: no {what}: add it, or remove the line")
    return text


def _listed(values: set[str]) -> str:
    few = sorted(values)[:4]
    return ", ".join(shown(value)[:40] for value in few) + (", ..." if len(values) > len(few) else "")
