"""Folders of Parquet files in the Hugging Face image layout, perhaps divided by name: ``train-*.parquet``, ..."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from selftaught.data import arrow, cache, parquet_column
from selftaught.data.columns import Candidates, takes
from selftaught.data.encoded import Collection
from selftaught.data.labels import Labels, is_text, value_type
from selftaught.data.parquet_files import Found
from selftaught.data.parts import PARTS
from selftaught.errors import InputError, shown

if TYPE_CHECKING:
    import pyarrow as pa

# A part with so many bytes of encoded pictures is held in memory. The files of a larger one are unpacked into the
# cache, where a row can be reached at once: Parquet itself has to be decompressed by thousands of rows.
_IN_MEMORY = 256 * 2**20

_MOST_PARTS = 50
"""A column of texts with more different ones in a piece is no column of parts."""


def collect(found: Found, where: str, split_by: str | None = None) -> Collection:
    """The files that `parquet_files.find` found; `where` is the source in messages, `split_by` that of `data.load`.

    Raises:
        InputError: a file is no Parquet, has no such columns or unpacks to far more than its size, a label is none;
            the message names the file and the row. And see `selftaught.data.arrow.collection`.
    """
    splits, used, more = {}, set[str](), list[str]()
    content = hashlib.sha256()
    for part in PARTS:
        if part in found.parts:
            files, labels, unused = zip(*map(_open, found.parts[part]), strict=True)
            more += [note for notes in unused for note in notes]
            used.update(file.column for file in files)
            used.update(piece.column for piece in labels)
            splits[part] = arrow.Split(ParquetRows(files), labels, _groups(files, split_by))
            content.update(
                repr((part, [(file.path.name, file.state, file.column) for file in files])).encode()
            )
    division = _division(found, used)
    if division.column is not None:
        content.update(repr(("divided by", division.column)).encode())
    notes = [*found.notes, *dict.fromkeys(more), *division.notes]
    return arrow.collection(splits, where, content.hexdigest(), notes, division.positions)


def _groups(files: Sequence["File"], split_by: str | None) -> list[str] | None:
    """The values of a column, of all rows one after the other."""
    if split_by is None:
        return None
    for file in files:
        with parquet_column.reading(file.path) as opened:
            names = opened.schema_arrow.names
        if split_by not in names:
            raise arrow.no_column(split_by, file.origin, names)
    return [value for file in files for value in _texts(file.path, split_by)]


def _division(found: Found, used: set[str]) -> "Division":
    by_file = None if list(found.parts) == ["train"] else "each part has files of its own"
    paths = [path for part in PARTS for path in found.parts.get(part, [])]
    return _divided_by(paths, used, by_file)


@dataclass(frozen=True)
class File:
    """A Parquet file: its name in messages, column of pictures, rows, bytes, and what changes when the file does."""

    path: Path
    origin: str
    column: str
    rows: int
    size: int
    state: tuple[int, ...]


def _open(path: Path) -> tuple[File, Labels, list[str]]:
    """A file's outline and labels, and what to say of other columns; of the pictures nothing is read."""
    import pyarrow as pa

    origin = shown(path)
    try:
        with parquet_column.reading(path) as file:
            found = arrow.layout(file.schema_arrow, origin)
            unused = arrow.unused(file.schema_arrow, found, origin)
            rows, size = file.metadata.num_rows, parquet_column.size(file.metadata)
            parquet_column.check(path, file.metadata)
            kind = file.schema_arrow.field(found.labels).type
        labels = list(parquet_column.pieces(path, found.labels))
        values = pa.chunked_array(labels) if labels else pa.chunked_array([], kind)
        seen = path.stat()
    except parquet_column.failures() as error:
        raise parquet_column.unreadable(path, error) from error
    if rows != len(values):
        raise InputError(
            f"{origin} is damaged: {rows:,} rows, but {len(values):,} labels: replace or remove it"
        )
    state = (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    outline = File(path, origin, found.pictures, rows, size, state)
    return outline, Labels(origin, found.labels, found.classes, values), unused


class ParquetRows:
    """Pictures in the rows of Parquet files, read when the first one is asked for."""

    def __init__(self, files: Sequence[File]) -> None:
        self._files = tuple(files)
        self._ends = list(accumulate(file.rows for file in self._files))
        self._columns: dict[int, pa.ChunkedArray] = {}

    def __len__(self) -> int:
        return self._ends[-1]

    def __getstate__(self) -> dict[str, Any]:
        """Without what has been read: another process maps or reads it itself."""
        return {**self.__dict__, "_columns": {}}

    def read(self, index: int) -> bytes:
        """The picture's bytes; InputError where there are none or the file cannot be read (any more)."""
        number, row = self._place(index)
        if number not in self._columns:
            self._columns[number] = self._column(self._files[number])
        cell = self._columns[number][row].as_py()
        return arrow.blob(cell, self.name(index), [self._files[number].path.parent])

    def _column(self, file: File) -> "pa.ChunkedArray":
        small = sum(file.size for file in self._files) <= _IN_MEMORY
        column = (_load if small else _map)(file)
        if len(column) != file.rows:
            raise InputError(
                f"{file.origin} is damaged: {len(column):,} pictures, but {file.rows:,} labels: replace or remove it"
            )
        return column

    def name(self, index: int) -> str:
        """The file and its row, counted from 0."""
        number, row = self._place(index)
        return f"{self._files[number].origin}, row {row}"

    def _place(self, index: int) -> tuple[int, int]:
        number = bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)


def _without_pictures(source: File) -> str:
    return f"{source.origin} is damaged, it holds no pictures: replace or remove it"


def _load(source: File) -> "pa.ChunkedArray":
    import pyarrow as pa

    pieces = list(parquet_column.pieces(source.path, source.column))
    if not pieces:
        raise InputError(_without_pictures(source))
    if sum(map(parquet_column.weight, pieces)) <= _IN_MEMORY:
        pieces = list(map(parquet_column.plain, pieces))  # a row is then found twice as fast
    return pa.chunked_array(pieces)


def _map(source: File) -> "pa.ChunkedArray":
    """The column from a copy in the cache, which is mapped into memory and made where there is none."""
    import pyarrow as pa

    name = hashlib.sha256(repr((source.path.absolute(), source.column, source.state)).encode()).hexdigest()
    copy = cache.folder() / f"{name}.arrow"
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(copy.with_suffix(".lock")):
            # What damages a file mostly cuts its end off, without which it does not open.
            with suppress(pa.ArrowException, OSError):
                return _mapped(copy, source.column)
            _unpack(source, copy)
        return _mapped(copy, source.column)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{shown(source.path)} cannot be unpacked into {shown(copy.parent)} ({error}): free space there, or set "
            "XDG_CACHE_HOME to another folder"
        ) from error


def _mapped(copy: Path, column: str) -> "pa.ChunkedArray":
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(copy))).read_all()[column]


def _unpack(source: File, copy: Path) -> None:
    import pyarrow as pa

    with cache.replaced(copy) as temporary, pa.OSFile(temporary, "wb") as sink:
        writer, schema = None, None
        for piece in parquet_column.pieces(source.path, source.column):
            for array in parquet_column.unpacked(piece):
                batch = pa.record_batch([array], names=[source.column])
                schema = schema or batch.schema  # a large group of rows may come in another one
                writer = writer or pa.ipc.new_file(sink, schema)
                writer.write_batch(batch.cast(schema))
        if writer is None:
            raise InputError(_without_pictures(source))
        writer.close()


@dataclass(frozen=True)
class Division:
    """The column that divides the rows (None: none does), the rows of each part, int64 (N,), and what to tell."""

    column: str | None = None
    positions: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Sequence[str] = ()


def _divided_by(paths: Sequence[Path], used: set[str], by_file: str | None) -> Division:
    """The column that divides the rows of files, none of the `used` ones; `by_file` says what divides them already.

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


def _texts(path: Path, column: str) -> list[str]:
    """A column's values as texts; InputError for a row without one, or where the file cannot be read."""
    found = [different[place] for different, at in _pieces(path, column) for place in at.tolist()]
    if "" in found:
        raise arrow.no_value(column, shown(path), found.index(""))
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

    if is_text(kind):
        return True
    kind = value_type(kind)
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
