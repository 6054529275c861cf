"""What the columns of a table of labels or a Parquet file mean: which names the files, the labels, the parts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from selftaught.data.finder import cut
from selftaught.data.parts import UNLABELLED, division, part_of
from selftaught.errors import InputError, shown

# In the order of preference, as `plain` writes them.
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


@dataclass(frozen=True)
class Row:
    """What a line says; `part` is None where the table is not divided, `group` where it has no such column."""

    file: str
    label: str
    part: str | None
    group: str | None = None


@dataclass(frozen=True)
class Columns:
    """The names of all columns, and the positions of those that name the files, the labels, the part and the group.

    `parts` is what the values of the column that divides the images mean.
    """

    names: tuple[str, ...]
    file: int
    label: int
    split: int | None = None
    parts: dict[str, str] | None = None
    group: int | None = None

    @classmethod
    def of(cls, header: Sequence[str], where: str) -> "Columns":
        """The columns of a header, not yet `divided`.

        Raises:
            InputError: it names no column of files, or none of labels.
        """
        names = tuple(name.strip() for name in header)
        written = [plain(name) for name in names]
        file, label = (
            _column(written, names, known, what, where)
            for known, what in ((_FILE, "files"), (_LABEL, "labels"))
        )
        return cls(names, file, label)

    def divided(self, lines: Iterable[Sequence[str]], by_file: bool) -> tuple["Columns", list[str]]:
        """With the column that divides the images, and what to say of columns that might have been used and are not.

        `lines` are the cells below the header; `by_file` is whether each part has a table of its own already.
        """
        candidates = Candidates(self.names, (self.file, self.label))
        for cells in lines:
            for position in candidates.positions:
                candidates.add(position, [_cell(cells, position)])
        split, parts, notes = candidates.choose("each part has a table" if by_file else None)
        notes = self._other_labels([plain(name) for name in self.names]) + notes
        return (self if split is None else replace(self, split=split, parts=parts)), notes

    def grouped(self, name: str | None) -> "Columns":
        """With the column of this name, if there is one, as that of the groups."""
        return replace(self, group=self.names.index(name)) if name in self.names else self

    def _other_labels(self, written: Sequence[str]) -> list[str]:
        others = [name for name, known in zip(self.names, written, strict=True) if known in _LABEL]
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
        group = None
        if self.group is not None:
            group = _needed(cells, self.group, shown(self.names[self.group]), where)
        if self.split is None or self.parts is None:
            return Row(file, label, None, group)
        name = self.names[self.split]
        value = _needed(cells, self.split, shown(name), where)
        part = self.parts.get(value)
        if part is None:
            raise InputError(f"{where}: unknown {shown(name)} {cut(value)}: write {takes(name)}")
        return Row(file, label, part, group)


def _column(written: Sequence[str], names: Sequence[str], known: Sequence[str], what: str, where: str) -> int:
    for name in known:
        if name in written:
            return written.index(name)
    found = shown(", ".join(names))[:200] or "nothing"
    raise InputError(
        f"{where} has no column of {what} (its header says {found}): name one of them {known[0]!r}"
    )


def _cell(cells: Sequence[str], position: int) -> str:
    return cells[position].strip() if position < len(cells) else ""


def _needed(cells: Sequence[str], position: int, what: str, where: str) -> str:
    text = _cell(cells, position)
    if not text:
        raise InputError(f"{where}: no {what}: add it, or remove the line")
    return text


# Columns whose values may be the names of parts, in the order of preference.
_DIVIDING = "split set subset partition part phase usage stage fold folds kfold cvfold".split()  # noqa: SIM905

# Columns of yes and no: the part of a yes, and that of a no.
_FLAGS = {
    "istest": ("test", "train"),
    **dict.fromkeys(("istrain", "istraining"), ("train", "test")),
    **dict.fromkeys(("isvalid", "isval", "isvalidation"), ("validation", "train")),
}
_YES, _NO = {"1", "1.0", "true", "t", "yes", "y"}, {"0", "0.0", "false", "f", "no", "n"}
_KNOWN = (*_DIVIDING, *_FLAGS)

_MOST_VALUES = 50


def plain(name: str) -> str:
    """A column's name without capitals and what separates words.

    >>> plain("File Name"), plain("is_test")
    ('filename', 'istest')
    """
    return "".join(character for character in name.lower() if character not in " _-.")


def takes(name: str) -> str:
    """What the column of this name may say, for a refusal of anything else."""
    return "yes or no" if plain(name) in _FLAGS else "train, test or val"


class Candidates:
    """The columns that may divide the pictures, with their different values, as the rows are gone through.

    A column does if its name says so, or if all of its values are names of parts, whatever it is called.

    Args:
        names: of all columns.
        passed: the positions of those that mean something else.
    """

    def __init__(self, names: Sequence[str], passed: Collection[int] = ()) -> None:
        self._names = names
        self._values: dict[int, set[str]] = {at: set() for at in range(len(names)) if at not in passed}

    @property
    def positions(self) -> list[int]:
        """The columns that are still to be looked at."""
        return list(self._values)

    def add(self, position: int, values: Iterable[str]) -> None:
        """What further rows have in a column; one that cannot divide the pictures is given up."""
        seen = self._values[position]
        for value in values:
            if value in seen or len(seen) > _MOST_VALUES:
                continue
            if not self.is_known(position) and not part_of(value) and value.lower() not in _YES | _NO:
                del self._values[position]
                return
            seen.add(value)

    def is_known(self, position: int) -> bool:
        """Whether the column's name alone says that it divides the pictures."""
        return plain(self._names[position]) in _KNOWN

    def choose(self, by_file: str | None = None) -> tuple[int | None, dict[str, str], list[str]]:
        """The column that divides the pictures, the part of each of its values, and what to say of that and others.

        Args:
            by_file: what divides them already, if anything does: "each part has a table".
        """
        chosen, meaning, notes = None, dict[str, str](), list[str]()
        order = sorted(
            self._values, key=lambda at: _KNOWN.index(plain(self._names[at])) if self.is_known(at) else 99
        )
        for position in order:
            name, values = self._names[position], self._values[position]
            parts = _meaning(plain(name), values) if self.is_known(position) else _plain_parts(values)
            says = f"the column {shown(name)!r} does not divide the images: "
            if parts is None and self.is_known(position):
                notes.append(says + f"its values ({_listed(values)}) name no parts")
            elif parts is None:
                if plain(f"is_{name}") in _FLAGS and {v.lower() in _YES for v in values} == {True, False}:
                    notes.append(says + f"call it is_{shown(name)} if it should")
            elif by_file or chosen is not None:
                notes.append(says + (by_file or f"{shown(self._names[chosen or 0])!r} does"))
            elif not self.is_known(position) and "train" not in parts.values():
                notes.append(says + f"none of its values ({_listed(values)}) is train")
            else:
                chosen, meaning = position, parts
                if plain(name) != "split":
                    notes.append(f"the column {shown(name)!r} divides the images")
        return chosen, meaning, notes


def _meaning(column: str, values: Collection[str]) -> dict[str, str] | None:
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
        group: Mapping[str, str] = (
            groups[0] if len(groups) == 1 else {value: part for value in values if (part := part_of(value))}
        )
        meaning = {value: part for value, part in group.items() if part != UNLABELLED}
    return meaning if meaning or column == "split" else None


def _plain_parts(values: Collection[str]) -> dict[str, str] | None:
    """The part that each value names, where all do and there are several parts."""
    parts = {value: part for value in values if (part := part_of(value))}
    return parts if len(parts) == len(values) and len(set(parts.values())) > 1 else None


def _listed(values: Collection[str]) -> str:
    few = sorted(values)[:4]
    return ", ".join(shown(value)[:40] for value in few) + (", ..." if len(values) > len(few) else "")
