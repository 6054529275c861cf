"""One column of a Parquet file, in pieces whose memory is bounded by what they hold, not by how many rows they are.

A file of two kilobytes can claim a thousand million rows, or say one value of ten megabytes a thousand times. So values
are read as a dictionary of the different ones, and a column that unpacks to far more than its file is refused: encoded
pictures hardly become smaller.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from selftaught.data.image_files import regular
from selftaught.data.labels import is_bytes, is_text, value_type
from selftaught.errors import InputError, shown

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_RATIO, _FREE = 100, 64 * 2**20
"""A column may take so many bytes for each byte of its file, and so many whatever the file's size."""

_BYTES_PER_ROW = 16
"""At least so many bytes a row takes in memory, whatever is in it."""

AT_ONCE = 256 * 2**20
"""A group of rows with so many bytes is read at once, with its repetitions; a larger one bit by bit."""

_ROWS, _BATCH = 256, 64 * 2**20
"""Unpacked rows come in batches of at most so many rows and, where a row takes less, bytes."""


def reading(path: Path, dictionary: list[str] | None = None) -> "pq.ParquetFile":
    """The file, opened; InputError where it is no regular file, or is no Parquet."""
    import pyarrow.parquet as pq

    regular(path)
    try:
        return pq.ParquetFile(path, read_dictionary=dictionary)
    except failures() as error:
        raise unreadable(path, error) from error


def failures() -> tuple[type[Exception], ...]:
    """What pyarrow raises for files that are damaged, or made to do damage."""
    import pyarrow as pa

    python = KeyError, IndexError, OverflowError, MemoryError, UnicodeError, RuntimeError
    return pa.ArrowException, OSError, *python


def unreadable(path: Path, error: Exception) -> InputError:
    """The refusal of a file that cannot be read."""
    reason = (str(error) or type(error).__name__).splitlines()[0][:200]
    if isinstance(error, UnicodeError):
        reason = "its names are not text in UTF-8"
    return InputError(f"{shown(path)} cannot be read as Parquet ({shown(reason)}): replace or remove it")


def size(metadata: "pq.FileMetaData", group: int | None = None) -> int:
    """The bytes of all columns when they are decompressed, as the file says: in one group of rows, or in all.

    What it says of single columns is not asked for: pyarrow ends the process where that is damaged.
    """
    groups = range(metadata.num_row_groups) if group is None else [group]
    return sum(metadata.row_group(number).total_byte_size for number in groups)


def check(path: Path, metadata: "pq.FileMetaData") -> None:
    """Refuse a file that says of itself that it takes far more memory than its size makes plausible."""
    rows = sum(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    _Allowance(path).take(max(size(metadata), _BYTES_PER_ROW * max(rows, metadata.num_rows)))


class _Allowance:
    """How many bytes a column may still take."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.stat().st_size
        self._left = _FREE + _RATIO * self._file

    def take(self, count: int) -> None:
        """Raises InputError where there is less left."""
        self._left -= count
        if self._left < 0:
            most = (_FREE + _RATIO * self._file) / 2**20
            raise InputError(
                f"{shown(self._path)} has {self._file:,} bytes, but unpacks to more than {most:,.0f} MiB: that is no "
                "collection of pictures; remove it"
            )


def pieces(path: Path, column: str) -> "Iterator[pa.Array]":
    """The column's arrays in the order of the rows. Bytes and texts are dictionary arrays, but in groups of many bytes.

    Raises:
        InputError: the file cannot be read, or unpacks to far more than its size.
    """
    try:
        with reading(path) as file:
            check(path, file.metadata)
            allowance = _Allowance(path)
            with reading(path, _texts(file.schema_arrow.field(column))) as compact:
                for number in range(file.metadata.num_row_groups):
                    for piece in _group(file, compact, column, number):
                        allowance.take(weight(piece))
                        yield piece
    except failures() as error:
        raise unreadable(path, error) from error


def _texts(field: "pa.Field") -> list[str]:
    """The paths of bytes and texts in a column, which can be read as dictionaries."""
    import pyarrow as pa

    if pa.types.is_struct(field.type):
        return [f"{field.name}.{text}" for inner in field.type for text in _texts(inner)]
    fixed = pa.types.is_fixed_size_binary(value_type(field.type))
    return [field.name] if is_text(field.type) or (is_bytes(field.type) and not fixed) else []


def _group(
    file: "pq.ParquetFile", compact: "pq.ParquetFile", column: str, number: int
) -> "Iterator[pa.Array]":
    claimed = size(file.metadata, number)
    if claimed <= AT_ONCE:
        yield from compact.read_row_group(number, columns=[column])[column].chunks
        return
    # So few rows that they fit even if each is as large as the whole.
    rows = max(1, min(_ROWS, 4 * AT_ONCE // claimed))
    for batch in file.iter_batches(rows, row_groups=[number], columns=[column]):
        yield batch.column(0)


def weight(array: "pa.Array") -> int:
    """The bytes of an array when each value is written out as often as it occurs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(array.type):
        return sum(weight(child) for child in array.flatten())
    if not pa.types.is_dictionary(array.type):
        return array.nbytes
    lengths = pc.binary_length(array.dictionary).cast(pa.int64())
    return (pc.sum(lengths.take(array.indices)).as_py() or 0) + array.indices.nbytes


def unpacked(array: "pa.Array") -> "Iterator[pa.Array]":
    """The array with each value written out, in slices of bounded size."""
    mean = max(1, weight(array) // max(1, len(array)))
    rows = max(1, min(_ROWS, _BATCH // max(mean, _longest(array))))
    for start in range(0, len(array), rows):
        yield plain(array.slice(start, rows))


def _longest(array: "pa.Array") -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(array.type):
        return sum(_longest(child) for child in array.flatten())
    if not pa.types.is_dictionary(array.type) or not len(array.dictionary):
        return 1
    return pc.max(pc.binary_length(array.dictionary)).as_py() or 1


def plain(array: "pa.Array") -> "pa.Array":
    """The array with each value written out."""
    import pyarrow as pa

    if pa.types.is_struct(array.type):
        children = [plain(child) for child in array.flatten()]
        return pa.StructArray.from_arrays(children, names=[f.name for f in array.type], mask=array.is_null())
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
