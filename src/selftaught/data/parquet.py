"""Folders of Parquet files in the Hugging Face image layout, perhaps divided by name: ``train-*.parquet``, ..."""

import hashlib
import os
import re
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from selftaught.data import cache, huggingface
from selftaught.data.encoded import Collection
from selftaught.data.parts import PARTS, part_of
from selftaught.errors import InputError, shown

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# A part with so many bytes of encoded pictures is held in memory. The files of a larger one are unpacked into the
# cache, where a row can be reached at once: Parquet itself has to be decompressed by thousands of rows.
_IN_MEMORY = 256 * 2**20
_ROWS_PER_BATCH = 256


def find(folder: Path) -> dict[str, list[Path]]:
    """The files in a folder, or else in its sub-folder ``data``, by part and in the order of their names.

    Files that are not named after a part (train, test, validation, ...) count, as "train", where none is; else they
    are under "". Empty where there are no Parquet files.
    """
    for place in (folder, folder / "data"):
        files = sorted(path for path in place.glob("*.parquet") if not path.name.startswith("."))
        parts: dict[str, list[Path]] = {}
        for path in files:
            parts.setdefault(part_of(re.split(r"[-_.]", path.name)[0]) or "", []).append(path)
        if parts:
            return {"train": files} if set(parts) == {""} else parts
    return {}


def collect(parts: dict[str, list[Path]], where: str) -> Collection:
    """The files that `find` found; `where` is the source in messages.

    Raises:
        InputError: a file is no Parquet or has no such columns, a label is none; the message names the file and
            the row. And see `selftaught.data.huggingface.collection`.
    """
    notes = [f"not used, because it names no part: {shown(path)}" for path in parts.get("", [])]
    splits = {}
    content = hashlib.sha256()
    for part in PARTS:
        if part in parts:
            files, labels = zip(*map(_open, parts[part]), strict=True)
            splits[part] = huggingface.Split(Rows(files), labels)
            content.update(
                repr((part, [(file.path.name, file.state, file.column) for file in files])).encode()
            )
    return huggingface.collection(splits, where, content.hexdigest(), notes)


@dataclass(frozen=True)
class File:
    """A Parquet file: its column of pictures, its rows, the pictures' bytes, and what changes when the file does.

    `origin` is its path in messages.
    """

    path: Path
    origin: str
    column: str
    rows: int
    size: int
    state: tuple[int, ...]


def _open(path: Path) -> tuple[File, huggingface.Labels]:
    """A file's outline and labels; of the pictures nothing is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    origin = shown(path)
    try:
        with pq.ParquetFile(path) as file:
            found = huggingface.layout(file.schema_arrow, origin)
            labels = file.read(columns=[found.labels])[found.labels]
            size = _size(file.metadata, found.pictures)
        seen = path.stat()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(_unreadable(path, error)) from error
    state = (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    return File(path, origin, found.pictures, len(labels), size, state), huggingface.Labels(
        origin, found, labels
    )


def _size(metadata: "pq.FileMetaData", column: str) -> int:
    """The bytes of a column when it is decompressed, in all groups of rows."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    return sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] == column)


def _unreadable(path: Path, error: Exception) -> str:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return f"{shown(path)} cannot be read as Parquet ({reason}): replace or remove it"


class Rows:
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
            small = sum(file.size for file in self._files) <= _IN_MEMORY
            self._columns[number] = (_load if small else _map)(self._files[number])
        cell = self._columns[number][row].as_py()
        return huggingface.blob(cell, self.name(index), [self._files[number].path.parent])

    def name(self, index: int) -> str:
        """The file and its row, counted from 0."""
        number, row = self._place(index)
        return f"{self._files[number].origin}, row {row}"

    def _place(self, index: int) -> tuple[int, int]:
        number = bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)


def _load(source: File) -> "pa.ChunkedArray":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(source.path) as file:
            return file.read(columns=[source.column])[source.column]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(_unreadable(source.path, error)) from error


def _map(source: File) -> "pa.ChunkedArray":
    """The column from a copy in the cache, which is mapped into memory and made where there is none."""
    import pyarrow as pa

    name = hashlib.sha256(repr((source.path.absolute(), source.column, source.state)).encode()).hexdigest()
    copy = cache.folder() / f"{name}.arrow"
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(copy.with_suffix(".lock")):
            if not copy.exists() or not _is_whole(copy):
                _unpack(source, copy)
        return pa.ipc.open_file(pa.memory_map(str(copy))).read_all()[source.column]
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{shown(source.path)} cannot be unpacked into {shown(copy.parent)} ({error}): free space there, or set "
            "XDG_CACHE_HOME to another folder"
        ) from error


def _is_whole(copy: Path) -> bool:
    """Whether the file opens: what damages one mostly cuts its end off."""
    import pyarrow as pa

    try:
        pa.ipc.open_file(pa.memory_map(str(copy)))
    except (pa.ArrowException, OSError):
        return False
    return True


def _unpack(source: File, copy: Path) -> None:
    """Write to a temporary file and rename it, so that a copy is always a whole one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=copy.parent)
    os.close(handle)
    try:
        with pq.ParquetFile(source.path) as file:
            schema = pa.schema([file.schema_arrow.field(source.column)])
            with pa.OSFile(temporary, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                for batch in file.iter_batches(_ROWS_PER_BATCH, columns=[source.column]):
                    writer.write_batch(batch)
        os.replace(temporary, copy)
    finally:
        Path(temporary).unlink(missing_ok=True)
