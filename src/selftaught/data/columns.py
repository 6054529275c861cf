"""The columns of a table of labels: which names the files, which the labels, which divides the images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from selftaught.data.dividing import Candidates, plain, takes
from selftaught.data.finder import cut
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
    """Which columns mean what.

    Attributes:
        names: all of them, as the header has them.
        file: the position of the files' names.
        label: the position of the labels.
        split: the position of the column that divides the images, if there is one.
        parts: what its values mean.
        group: the position of the column that says what belongs together, if there is one.
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

        Args:
            lines: the cells of all lines below the header.
            by_file: whether the images are divided already, since each part has a table of its own.
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
