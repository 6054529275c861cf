"""Which column of a table or a Parquet file divides its pictures into parts, and what its values mean."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from selftaught.data.parts import UNLABELLED, division, part_of
from selftaught.errors import shown

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
