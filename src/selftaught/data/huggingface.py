"""Arrow tables in the Hugging Face image layout, from Parquet files or from the Hub, to tensors.

One column is a struct of `bytes` (an encoded picture) and `path`; another holds integer labels, whose names
are in the features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from datasets import ClassLabel, Features
from torch import Tensor

from selftaught.data import pictures
from selftaught.data.dataset import Decoded
from selftaught.errors import InputError

_LABEL_COLUMNS = ("label", "fine_label", "labels")


@dataclass(frozen=True, eq=False)
class Shard:
    """Encoded pictures and their labels, int64 (N,); `origin` is the file's name, for messages."""

    origin: str
    pictures: pa.ChunkedArray
    labels: Tensor
    classes: tuple[str, ...] | None


def shard(table: pa.Table, features: Features, origin: str) -> Shard:
    """The columns that matter of a table; InputError where there are none or a label is out of range."""
    label_column = _label_column(table, origin)
    label_feature = features.get(label_column)
    classes = tuple(label_feature.names) if isinstance(label_feature, ClassLabel) else None
    pictures_column = _picture_column(table, origin)
    labels = _labels(table[label_column], classes, f"{origin}: column {label_column!r}")
    return Shard(origin, table[pictures_column], labels, classes)


def to_tensors(train: Sequence[Shard], test: Sequence[Shard], image_size: tuple[int, int] | None) -> Decoded:
    """Decode all pictures. They become grey if all are grey, else RGB.

    Raises:
        InputError: a picture that cannot be decoded, sizes that differ while no `image_size` is given, classes
            that differ between the shards; the message names the file and the row.
    """
    classes = _common_classes([*train, *test])
    decoder = _Decoder(image_size)
    train_images = [array for part in train for array in decoder.arrays(part)]
    test_images = [array for part in test for array in decoder.arrays(part)]
    images = pictures.stack(train_images + test_images)
    return Decoded(
        classes,
        images[: len(train_images)],
        torch.cat([part.labels for part in train]),
        images[len(train_images) :],
        torch.cat([part.labels for part in test]),
    )


class _Decoder:
    """Decodes rows, and remembers the first one's size for the comparison with the others."""

    def __init__(self, image_size: tuple[int, int] | None) -> None:
        self.image_size = image_size
        self.first: tuple[int, ...] | None = None

    def arrays(self, part: Shard) -> list[np.ndarray]:
        row, arrays = 0, []
        for chunk in part.pictures.chunks:
            for blob in chunk.field("bytes").to_pylist():
                arrays.append(self._array(blob, f"{part.origin}, row {row}"))
                row += 1
        return arrays

    def _array(self, blob: bytes | None, where: str) -> np.ndarray:
        if blob is None:
            raise InputError(f"{where}: no picture; remove the row or put the picture's bytes into the file")
        try:
            array = pictures.decode(blob, self.image_size)
        except ValueError as error:
            raise InputError(f"{where}: the picture cannot be decoded: {error}") from error
        self.first = self.first or array.shape[:2]
        if array.shape[:2] != self.first:
            raise InputError(
                f"{where}: the picture is {array.shape[0]}x{array.shape[1]}, the first one "
                f"{self.first[0]}x{self.first[1]}: choose one image size for all (--image-size)"
            )
        return array


def _label_column(table: pa.Table, origin: str) -> str:
    for name in _LABEL_COLUMNS:
        if name in table.column_names:
            return name
    raise InputError(
        f"{origin}: no column of labels (looked for {', '.join(_LABEL_COLUMNS)}; "
        f"found {', '.join(table.column_names)})"
    )


def _picture_column(table: pa.Table, origin: str) -> str:
    for field in table.schema:
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return field.name
    raise InputError(
        f"{origin}: no column of pictures (a struct of 'bytes' and 'path'; found {', '.join(table.column_names)})"
    )


def _labels(column: pa.ChunkedArray, classes: tuple[str, ...] | None, where: str) -> Tensor:
    if not pa.types.is_integer(column.type):
        raise InputError(f"{where} must hold whole numbers, it holds {column.type}")
    if not len(column):
        raise InputError(f"{where} is empty: the file has no rows")
    count = len(classes) if classes else np.iinfo(np.int64).max
    values = [-1 if value is None else value for value in column.to_pylist()]
    for row, value in enumerate(values):
        if not 0 <= value < count:
            bound = f"0..{count - 1}" if classes else "0 or more"
            raise InputError(f"{where}, row {row}: label {column[row]} is out of range ({bound})")
    return torch.tensor(values, dtype=torch.int64)


def _common_classes(shards: Sequence[Shard]) -> tuple[str, ...]:
    first = shards[0]
    for other in shards[1:]:
        if other.classes != first.classes:
            raise InputError(f"{other.origin} and {first.origin} do not name the same classes")
    if first.classes:
        return first.classes
    return tuple(str(label) for label in range(1 + max(int(part.labels.max()) for part in shards)))
