"""A column of Parquet files that divides their rows into parts, as one of a table does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from selftaught.data import huggingface, parquet_column
from selftaught.data.dividing import Candidates, takes
from selftaught.data.labels import is_text
from selftaught.errors import InputError, shown

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_PARTS = 50
"""A column of texts with more different ones in a piece is no column of parts."""


@dataclass(frozen=True)
class Division:
    """What a column says.

    Attributes:
        column: its name; None where none divides the rows.
        positions: by part, int64 (N,), the rows of all files one after the other.
        notes: what to tell, one line each.
    """

    column: str | None = None
    positions: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Sequence[str] = ()


def find(paths: Sequence[Path], used: set[str], by_file: str | None) -> Division:
    """The column that divides the rows of some files, if there is one.

    Args:
        paths: the files.
        used: the columns of pictures and labels.
        by_file: what divides the rows already, if anything does.

    Raises:
        InputError: a row's value names no part though others do, or the column cannot be read.
    """
    names = _columns(paths, used)
    candidates = Candidates(names)
    for position in candidates.positions:
        for path in paths:
            _look(path, names[position], position, candidates)
    chosen, parts, notes = candidates.choose(by_file)
    if chosen is None:
        return Division(notes=notes)
    column = names[chosen]
    values = np.array([part for path in paths for part in _parts(path, column, parts)], dtype=str)
    positions = {
        part: torch.from_numpy(np.flatnonzero(values == part)) for part in sorted(set(values.tolist()))
    }
    return Division(column, positions, notes)


def values(path: Path, column: str) -> list[str]:
    """A column's values as texts; InputError for a row without one, or where the file cannot be read."""
    found = [different[place] for different, at in _pieces(path, column) for place in at.tolist()]
    if "" in found:
        raise huggingface.no_value(column, shown(path), found.index(""))
    return found


def _columns(paths: Sequence[Path], used: set[str]) -> list[str]:
    """The names of those columns that may say a part: texts; whole numbers, yes and no where the name says so."""
    found: dict[str, int] = {}
    for path in paths:
        try:
            with parquet_column.reading(path) as file:
                schema = file.schema_arrow
                single = [name for name in schema.names if schema.names.count(name) == 1]
                for name in single:
                    if name not in used and _may_say(name, schema.field(name).type):
                        found[name] = found.get(name, 0) + 1
        except parquet_column.failures() as error:
            raise parquet_column.unreadable(path, error) from error
    return [name for name, count in found.items() if count == len(paths)]


def _may_say(name: str, kind: "pa.DataType") -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if is_text(kind):
        return True
    simple = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind)
    return simple and Candidates([name]).is_known(0)


def _look(path: Path, column: str, position: int, candidates: Candidates) -> None:
    """Add a file's values; a column that is not known by its name and cannot be read is given up."""
    if position not in candidates.positions:
        return
    known = candidates.is_known(position)
    try:
        for different, _ in _pieces(path, column):
            few = known or len(different) <= _MOST_PARTS
            candidates.add(position, different if few else [""])
            if position not in candidates.positions:
                return
    except InputError:
        if known:
            raise
        candidates.add(position, [""])


def _parts(path: Path, column: str, meaning: Mapping[str, str]) -> Iterator[str]:
    row = 0
    for different, at in _pieces(path, column):
        for place in at.tolist():
            value = different[place]
            if value not in meaning:
                raise InputError(
                    f"{shown(path)}: column {shown(column)!r}, row {row}: unknown {shown(value)[:100]!r}: write "
                    f"{takes(column)}"
                )
            yield meaning[value]
            row += 1


def _pieces(path: Path, column: str) -> Iterator[tuple[list[str], np.ndarray]]:
    """For each piece of a column its different values as texts, and for each row, int64 (N,), which of them it has."""
    import pyarrow as pa

    try:
        for piece in parquet_column.pieces(path, column):
            array = piece if pa.types.is_dictionary(piece.type) else piece.dictionary_encode()
            # A null is an empty text, which names no part.
            different = ["" if v is None else str(v).strip() for v in [*array.dictionary.to_pylist(), None]]
            at = array.indices.cast(pa.int64()).fill_null(len(different) - 1).to_numpy()
            used, at = np.unique(at, return_inverse=True)
            yield [different[place] for place in used], at
    except parquet_column.failures() as error:
        raise parquet_column.unreadable(path, error) from error
