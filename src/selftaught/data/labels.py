"""Columns of labels in Arrow's types as class names and numbers 0..C-1."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from selftaught.data.parts import ordered
from selftaught.errors import InputError, shown

if TYPE_CHECKING:
    import pyarrow as pa


_LONGEST = 1000


@dataclass(frozen=True, eq=False)
class Labels:
    """A column of labels as it is stored.

    Attributes:
        origin: its file or split in messages.
        column: its name.
        classes: the names of the classes that its numbers stand for; None where the labels themselves are names.
        values: whole numbers (perhaps as floating point), yes and no, or texts; in dictionaries or not.
    """

    origin: str
    column: str
    classes: tuple[str, ...] | None
    values: "pa.ChunkedArray"

    @property
    def where(self) -> str:
        """The column in messages."""
        return f"{self.origin}: column {shown(self.column)!r}"


def is_text(kind: "pa.DataType") -> bool:
    """Whether a type is one of text, in a dictionary or not."""
    import pyarrow as pa

    kind, types = value_type(kind), pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_bytes(kind: "pa.DataType") -> bool:
    """Whether a type is one of bytes, in a dictionary or not."""
    import pyarrow as pa

    types = pa.types
    tests = types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary
    return any(test(value_type(kind)) for test in tests)


def value_type(kind: "pa.DataType") -> "pa.DataType":
    """The type of a column's values, which may be in a dictionary."""
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def check_kind(piece: Labels) -> None:
    """Refuse a column that can hold no labels; one of nothing but nulls has withheld ones.

    Raises:
        InputError: its type is none of whole numbers, floating-point numbers, yes and no, and text.
    """
    import pyarrow as pa

    kind, types = value_type(piece.values.type), pa.types
    tests = types.is_integer, types.is_floating, types.is_boolean, types.is_null
    if not is_text(kind) and not any(test(kind) for test in tests):
        raise InputError(f"{piece.where} must hold whole numbers or names, it holds {shown(kind)}")


def are_withheld(piece: Labels) -> bool:
    """Whether a column says nothing, as that of a contest's test part: -1, or nothing, or no number in every row."""
    values = piece.values.unique().to_pylist()
    return all(value is None or value == -1 or value != value for value in values)


def encode(pieces: Sequence[Labels]) -> tuple[tuple[str, ...], list[Tensor]]:
    """The names of the classes, and the labels of each piece, int64 (N,).

    Raises:
        InputError: a piece has no rows, a row has no label, or one that is no class; pieces have different classes.
    """
    first = pieces[0]
    found = [_checked(piece) for piece in pieces]
    for piece, (names, _) in zip(pieces, found, strict=True):
        if piece.classes != first.classes or type(names[0]) is not type(found[0][0][0]):
            raise InputError(f"{piece.origin} and {first.origin} do not name the same classes")
    if first.classes:
        return first.classes, [torch.from_numpy(np.array(names, dtype=np.int64)[at]) for names, at in found]
    everything = set().union(*(names for names, _ in found))
    classes = ordered(everything) if isinstance(found[0][0][0], str) else sorted(everything)
    code = {name: label for label, name in enumerate(classes)}
    codes = [np.array([code[name] for name in names], dtype=np.int64)[at] for names, at in found]
    return tuple(map(shown, classes)), list(map(torch.from_numpy, codes))


def _checked(piece: Labels) -> tuple[list[Any], np.ndarray]:
    """The different labels of a column, names or numbers, and for each row, int64 (N,), which of them it has."""
    if not len(piece.values):
        raise InputError(f"{piece.where} is empty: there are no rows")
    different, at = _different(piece)

    def refuse(bad: Callable[[Any], bool], complaint: str) -> None:
        flags = np.array([bad(value) for value in different])[at]
        if flags.any():
            row = int(flags.argmax())
            raise InputError(f"{piece.where}, row {row}: {complaint.format(shown(different[at[row]])[:100])}")

    if is_text(piece.values.type):
        refuse(lambda name: not name, "no label: add it, or remove the row")
        refuse(lambda name: len(name) > _LONGEST, f"a label of more than {_LONGEST:,} characters ({{}}...)")
        return different, at
    refuse(lambda value: isinstance(value, float) and not value.is_integer(), "label {} is no whole number")
    count = len(piece.classes or ()) or 2**63
    bound = f"0..{count - 1}" if piece.classes else "0 or more"
    refuse(lambda value: value is None or not 0 <= value < count, f"label {{}} is out of range ({bound})")
    numbers = [value if isinstance(value, bool) and not piece.classes else int(value) for value in different]
    return numbers, at


def _different(piece: Labels) -> tuple[list[Any], np.ndarray]:
    """The different values of a column, None for a null, and which of them each row has."""
    import pyarrow as pa

    values = piece.values
    if pa.types.is_float16(values.type):
        values = values.cast(pa.float64())
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    whole = values.unify_dictionaries().combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    try:
        different = [*whole.dictionary.to_pylist(), None]
    except UnicodeError as error:
        raise InputError(f"{piece.where} has a label that is not text in UTF-8: write it anew") from error
    at = whole.indices.cast(pa.int64()).fill_null(len(different) - 1).to_numpy()
    used, at = np.unique(at, return_inverse=True)
    return [different[position] for position in used], at
