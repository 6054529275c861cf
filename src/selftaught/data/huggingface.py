"""Arrow data in the Hugging Face image layout, from Parquet files or from the Hub.

One column is a struct of `bytes` (an encoded picture) and `path`; another holds labels: whole numbers, whose names
are in the schema's metadata, or names.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from selftaught.data.encoded import Collection, Part, Pictures
from selftaught.data.parts import absent, check_classes, divide
from selftaught.errors import InputError, shown

if TYPE_CHECKING:
    import pyarrow as pa

_LABEL_COLUMNS = ("label", "fine_label", "labels", "class", "category", "target")


@dataclass(frozen=True)
class Layout:
    """The columns of pictures and labels, and the names of the classes where the schema has them."""

    pictures: str
    labels: str
    classes: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class Labels:
    """A column of labels as it is stored; `origin` names the file or split in messages."""

    origin: str
    layout: Layout
    values: "pa.ChunkedArray"


@dataclass(frozen=True, eq=False)
class Split:
    """Pictures and the labels of all of them, in one or several pieces."""

    pictures: Pictures
    labels: Sequence[Labels]


def layout(schema: "pa.Schema", origin: str) -> Layout:
    """The columns that matter of a schema; `origin` is its file or split in messages.

    Raises:
        InputError: there are none, or the metadata cannot be read.
    """
    features = _features(schema, origin)
    labels = _label_column(schema, features, origin)
    names = features.get(labels, {}).get("names")
    classes = tuple(map(str, names)) if names and isinstance(names, list) else None
    return Layout(_picture_column(schema, features, origin), labels, classes)


def _features(schema: "pa.Schema", origin: str) -> dict[str, dict[str, Any]]:
    """What the metadata says of the columns that are described one by one (not nested ones)."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    if metadata is None:
        return {}
    try:
        features = json.loads(metadata)["info"]["features"].items()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{origin}: its Hugging Face metadata cannot be read ({error}): write it anew"
        ) from error
    return {name: feature for name, feature in features if isinstance(feature, dict)}


def _label_column(schema: "pa.Schema", features: Mapping[str, dict[str, Any]], origin: str) -> str:
    named = [name for name in _LABEL_COLUMNS if name in schema.names]
    declared = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    if named:
        return named[0]
    if len(declared) == 1:
        return declared[0]
    raise InputError(
        f"{origin}: no column of labels (looked for {', '.join(_LABEL_COLUMNS)}; found {', '.join(schema.names)})"
    )


def _picture_column(schema: "pa.Schema", features: Mapping[str, dict[str, Any]], origin: str) -> str:
    import pyarrow as pa

    def holds_pictures(field: "pa.Field") -> bool:
        if not pa.types.is_struct(field.type):
            return False
        kinds = {inner.name: inner.type for inner in field.type}
        path = kinds.get("path", pa.null())
        return _is_binary(kinds.get("bytes")) and (_is_text(path) or pa.types.is_null(path))

    found = [field.name for field in schema if holds_pictures(field)]
    declared = [name for name in found if features.get(name, {}).get("_type") == "Image"]
    if not found:
        raise InputError(
            f"{origin}: no column of pictures (a struct of 'bytes', binary, and 'path', a string; found "
            f"{', '.join(schema.names)})"
        )
    return (declared or found)[0]


def _is_binary(kind: "pa.DataType | None") -> bool:
    import pyarrow as pa

    # Where every picture is a file, a column without bytes.
    tests = pa.types.is_binary, pa.types.is_large_binary, pa.types.is_null
    return kind is not None and any(test(kind) for test in tests)


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def blob(cell: Mapping[str, Any] | None, where: str, folders: Sequence[Path]) -> bytes:
    """The encoded picture of a cell, from its bytes or else from the file that it names.

    Args:
        cell: `bytes` and `path`, either of which may be None.
        where: the row, for messages.
        folders: where a relative path starts (the first), and those that hold every file which may be read.

    Raises:
        InputError: there is neither, or the file cannot be read or lies elsewhere.
    """
    if cell and cell["bytes"] is not None:
        return bytes(cell["bytes"])
    if not cell or not cell.get("path"):
        raise InputError(f"{where}: no picture; remove the row or put the picture's bytes into the file")
    try:
        real = Path(os.path.realpath(folders[0] / cell["path"]))
        if any(real.is_relative_to(os.path.realpath(folder)) for folder in folders):
            return real.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(
            f"{where}: {cell['path']!r} cannot be read: put the picture's bytes into the row"
        ) from error
    raise InputError(
        f"{where}: {cell['path']!r} cannot leave {shown(folders[0])}: put the picture's bytes into the row"
    )


def collection(splits: Mapping[str, Split], where: str, key: str, notes: Sequence[str] = ()) -> Collection:
    """The splits as a collection.

    Args:
        splits: by part (train, test, validation).
        where: the source, for messages.
        key: see `Collection`.
        notes: what is known already.

    Raises:
        InputError: labels that are no labels, classes that differ between the pieces or are fewer than two, no
            training part.
    """
    notes = list(notes)
    for piece in (piece for split in splits.values() for piece in split.labels):
        _check_kind(piece)
    if "test" in splits and _unlabelled(splits["test"]):
        notes.append(f"the test part of {where} is not used: it has no labels")
        splits = {part: split for part, split in splits.items() if part != "test"}
    train, test, more = divide(splits, where)
    classes, codes = _encode([*train.labels, *(test.labels if test else [])])
    learned = Part(train.pictures, torch.cat(codes[: len(train.labels)]))
    tested = Part(test.pictures, torch.cat(codes[len(train.labels) :])) if test else None
    tested_labels = tested.labels if tested else None
    check_classes(classes, learned.labels, tested_labels, where)
    missing = [f"{where}: {problem}" for problem in absent(classes, learned.labels, tested_labels)]
    return Collection(classes, learned, tested, key, notes=(*notes, *more, *missing))


def _unlabelled(split: Split) -> bool:
    """Whether the labels are withheld, as those of a contest are: -1 or nothing in every row."""
    return all(set(piece.values.unique().to_pylist()) <= {None, -1} for piece in split.labels)


def _encode(pieces: Sequence[Labels]) -> tuple[tuple[str, ...], list[Tensor]]:
    """The names of the classes, and the labels of each piece, int64 (N,)."""
    first = pieces[0]
    values = [_checked(piece) for piece in pieces]
    for piece, kind in zip(pieces, values, strict=True):
        if piece.layout.classes != first.layout.classes or type(kind[0]) is not type(values[0][0]):
            raise InputError(f"{piece.origin} and {first.origin} do not name the same classes")
    if first.layout.classes:
        return first.layout.classes, [torch.tensor(labels, dtype=torch.int64) for labels in values]
    names = sorted(set().union(*values))
    code = {name: label for label, name in enumerate(names)}
    return tuple(map(str, names)), [torch.tensor([code[name] for name in labels]) for labels in values]


def _check_kind(piece: Labels) -> None:
    """Refuse a column that can hold no labels; one of nothing but nulls has withheld ones."""
    import pyarrow as pa

    kind = _kind(piece)
    if not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise InputError(
            f"{piece.origin}: column {piece.layout.labels!r} must hold whole numbers or names, it holds {kind}"
        )


def _kind(piece: Labels) -> "pa.DataType":
    import pyarrow as pa

    kind = piece.values.type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _checked(piece: Labels) -> list[Any]:
    """The labels as numbers or names; InputError, with the row, for what cannot be one."""
    where = f"{piece.origin}: column {piece.layout.labels!r}"
    values = piece.values.to_pylist()
    if not values:
        raise InputError(f"{where} is empty: there are no rows")
    if _is_text(_kind(piece)):
        for row, value in enumerate(values):
            if not value:
                raise InputError(f"{where}, row {row}: no label: add it, or remove the row")
        return values
    count = len(piece.layout.classes or ())
    for row, value in enumerate(values):
        if value is None or value < 0 or (count and value >= count):
            bound = f"0..{count - 1}" if count else "0 or more"
            raise InputError(f"{where}, row {row}: label {value} is out of range ({bound})")
    return values
