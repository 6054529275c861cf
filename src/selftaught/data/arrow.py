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

from selftaught.data.encoded import Chosen, Collection, Part, Pictures
from selftaught.data.labels import Labels, are_withheld, check_kind, encode, is_bytes, is_text
from selftaught.data.parts import absent, check_classes, divide
from selftaught.errors import InputError, listed, shown

if TYPE_CHECKING:
    import pyarrow as pa

# In the order of preference, in small letters.
_PICTURE_COLUMNS = "image img picture photo image_bytes bytes jpg jpeg png content data".split()  # noqa: SIM905
_LABEL_COLUMNS = ("label", "fine_label", "labels", "class", "category", "target")
_LONGEST_METADATA = 2**24


@dataclass(frozen=True)
class Layout:
    """The columns of pictures and labels, and the names of the classes where the schema has them."""

    pictures: str
    labels: str
    classes: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class Split:
    """Pictures and the labels of all of them, in one or several pieces, and their groups where asked for."""

    pictures: Pictures
    labels: Sequence[Labels]
    groups: Sequence[str] | None = None


def layout(schema: "pa.Schema", origin: str) -> Layout:
    """The columns that matter of a schema, whose file or split is `origin`; InputError where there are none."""
    features = _features(schema, origin)
    labels = _label_column(schema, features, origin)
    names = features.get(labels, {}).get("names")
    classes = tuple(map(shown, names)) if names and isinstance(names, list) else None
    return Layout(_picture_column(schema, features, origin), labels, classes)


def unused(schema: "pa.Schema", found: Layout, origin: str) -> list[str]:
    """What to say of further columns than the `layout` found that could be those of pictures or labels, a line each."""
    features = _features(schema, origin)
    kind = _is_picture_struct if _is_picture_struct(schema.field(found.pictures).type) else is_bytes
    others = {
        "pictures": (found.pictures, [field.name for field in schema if kind(field.type)]),
        "labels": (found.labels, [name for name in schema.names if _may_be_labels(name, features)]),
    }
    lines = []
    for what, (taken, all_of_them) in others.items():
        if left := [repr(shown(name)) for name in all_of_them if name != taken]:
            lines.append(f"the {what} are those of the column {shown(taken)!r}, not of {listed(left)}")
    return lines


def _may_be_labels(name: str, features: Mapping[str, dict[str, Any]]) -> bool:
    declared = features.get(name, {}).get("_type") == "ClassLabel"
    return declared or name in _LABEL_COLUMNS or name.lower().endswith(("_label", "_class", "_category"))


def _features(schema: "pa.Schema", origin: str) -> dict[str, dict[str, Any]]:
    """What the metadata says of the columns that are described one by one (not nested ones)."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    if metadata is None:
        return {}
    if len(metadata) > _LONGEST_METADATA:
        raise InputError(f"{origin}: its Hugging Face metadata has {len(metadata):,} bytes: write it anew")
    try:
        features = json.loads(metadata)["info"]["features"].items()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{origin}: its Hugging Face metadata cannot be read ({shown(error)}): write it anew"
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
        f"{origin}: no column of labels (looked for {', '.join(_LABEL_COLUMNS)}; found "
        f"{shown(', '.join(schema.names))})"
    )


def _picture_column(schema: "pa.Schema", features: Mapping[str, dict[str, Any]], origin: str) -> str:
    """A struct of bytes and path, or else a column of bytes: the one that is declared, or has a usual name."""
    for holds_pictures in (_is_picture_struct, is_bytes):
        found = [field.name for field in schema if holds_pictures(field.type)]
        declared = [name for name in found if features.get(name, {}).get("_type") == "Image"]
        usual = [name for known in _PICTURE_COLUMNS for name in found if name.lower() == known]
        chosen = declared or usual or found
        if len(chosen) > 1 and not declared and not usual and holds_pictures is is_bytes:
            raise InputError(
                f"{origin}: any of the columns {shown(', '.join(found))} may be that of the pictures: call it 'image'"
            )
        if chosen:
            return chosen[0]
    raise InputError(
        f"{origin}: no column of pictures (a struct of 'bytes', binary, and 'path', a string, or a binary column; "
        f"found {shown(', '.join(schema.names))})"
    )


def _is_picture_struct(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        return False
    inner = {field.name: field.type for field in kind}
    content, path = inner.get("bytes"), inner.get("path", pa.null())
    # Where every picture is a file, a column without bytes.
    has_bytes = content is not None and (is_bytes(content) or pa.types.is_null(content))
    return has_bytes and (is_text(path) or pa.types.is_null(path))


def blob(cell: Mapping[str, Any] | bytes | None, where: str, folders: Sequence[Path]) -> bytes:
    """The encoded picture of a cell in the row `where`, from its bytes or else from the file that it names.

    A relative path starts at the first of the `folders`, and only files in them are read.

    Raises:
        InputError: there is neither, or the file cannot be read or lies elsewhere.
    """
    if isinstance(cell, bytes):
        return cell
    if cell and cell["bytes"] is not None:
        return bytes(cell["bytes"])
    if not cell or not cell.get("path"):
        raise InputError(f"{where}: no picture; remove the row or put the picture's bytes into the file")
    try:
        real = Path(os.path.realpath(folders[0] / cell["path"]))
        if any(real.is_relative_to(os.path.realpath(folder)) for folder in folders):
            if not real.is_file():
                raise OSError  # a pipe would be waited for
            return real.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(
            f"{where}: {cell['path']!r} cannot be read: put the picture's bytes into the row"
        ) from error
    raise InputError(
        f"{where}: {cell['path']!r} cannot leave {shown(folders[0])}: put the picture's bytes into the row"
    )


def no_column(name: str, where: str, columns: Sequence[str]) -> InputError:
    """What to say where pictures in rows should be grouped by a column that is not there."""
    return InputError(
        f"{where} has no column {shown(name)!r} to split by (it has {shown(', '.join(columns))}): name one of them"
    )


def no_value(name: str, where: str, row: int) -> InputError:
    """What to say of a row that belongs to no group."""
    return InputError(f"{where}, row {row}: no {shown(name)}, by which to split: add it, or remove the row")


def _rows(part: Part, at: Tensor) -> Part:
    groups = None if part.groups is None else [part.groups[row] for row in at.tolist()]
    return Part(Chosen(part.pictures, at), part.labels[at], groups)


def collection(
    splits: Mapping[str, Split],
    where: str,
    key: str,
    notes: Sequence[str] = (),
    division: Mapping[str, Tensor] | None = None,
) -> Collection:
    """The splits of the source `where`, by part (train, test, validation), as a collection.

    `division` has, by part, the rows, int64 (N,), of a single split that is divided by a column of its own.

    Raises:
        InputError: labels that are no labels, classes that differ between the pieces or are fewer than two, no
            training part.
    """
    notes = list(notes)
    for piece in (piece for split in splits.values() for piece in split.labels):
        check_kind(piece)
    if "test" in splits and all(are_withheld(piece) for piece in splits["test"].labels):
        notes.append(f"the test part of {where} is not used: it has no labels")
        splits = {part: split for part, split in splits.items() if part != "test"}
    train, test, more = divide(splits, where)
    classes, codes = encode([*train.labels, *(test.labels if test else [])])
    learned = Part(train.pictures, torch.cat(codes[: len(train.labels)]), train.groups)
    tested = Part(test.pictures, torch.cat(codes[len(train.labels) :]), test.groups) if test else None
    if division:
        rows = {part: _rows(learned, at) for part, at in division.items()}
        learned, tested, more = divide(rows, where)
    tested_labels = tested.labels if tested else None
    check_classes(classes, learned.labels, tested_labels, where)
    missing = [f"{where}: {problem}" for problem in absent(classes, learned.labels, tested_labels)]
    return Collection(classes, learned, tested, key, notes=(*notes, *more, *missing))
