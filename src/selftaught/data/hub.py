"""Data sets of the Hugging Face Hub, downloaded, kept and memory-mapped by `datasets`."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.data import arrow
from selftaught.data.encoded import Collection
from selftaught.data.labels import Labels
from selftaught.data.parts import part_of
from selftaught.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset


class HubError(Exception):
    """The Hub did not give the data set; the message is the reason in one line."""


class HubRows:
    """Pictures in the rows of a split, not decoded."""

    def __init__(self, dataset: "Dataset", column: str, origin: str) -> None:
        # Imported here and not above, as all of `datasets`: it takes more than a second.
        from datasets import Image

        self._dataset = dataset.select_columns([column]).cast_column(column, Image(decode=False))
        self._column = column
        self._origin = origin

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, index: int) -> bytes:
        """The picture's bytes, or its file's content; InputError where there is neither."""
        return arrow.blob(self._dataset[index][self._column], self.name(index), _kept_files())

    def name(self, index: int) -> str:
        """The split and its row, counted from 0."""
        return f"{self._origin}, row {index}"


def _kept_files() -> list[Path]:
    """The folders that downloads are kept in; a row that names any other file is after something of the user's."""
    import datasets
    import huggingface_hub

    return [
        Path(datasets.config.HF_DATASETS_CACHE),
        Path(datasets.config.DOWNLOADED_DATASETS_PATH),
        Path(datasets.config.EXTRACTED_DATASETS_PATH),
        Path(huggingface_hub.constants.HF_HUB_CACHE),
    ]


def collect(hub_id: str, split_by: str | None = None) -> Collection:
    """A data set of the Hub; `split_by` is that of `data.load`.

    Raises:
        HubError: the Hub cannot be reached or has no such data set, or not for everybody.
        InputError: the data set has no training part or no columns of pictures and labels, a label is none.
    """
    where = f"{hub_id} on the Hub"
    splits, notes = _named(_load(hub_id), where)
    found, unused = {}, list[str]()
    content = hashlib.sha256()
    for part, dataset in splits.items():
        origin = f"{where}, split {str(dataset.split or part)!r}"
        layout = arrow.layout(dataset.features.arrow_schema, origin)
        unused += arrow.unused(dataset.features.arrow_schema, layout, origin)
        labels = dataset.select_columns([layout.labels]).with_format("arrow")[:][layout.labels]
        pictures = HubRows(dataset, layout.pictures, origin)
        named = [Labels(origin, layout.labels, layout.classes, labels)]
        found[part] = arrow.Split(pictures, named, _groups(dataset, split_by, origin))
        content.update(repr((part, dataset._fingerprint, layout)).encode())
    return arrow.collection(found, where, content.hexdigest(), [*notes, *dict.fromkeys(unused)])


def _groups(dataset: "Dataset", split_by: str | None, origin: str) -> list[str] | None:
    """The values of a column as texts."""
    if split_by is None:
        return None
    if split_by not in dataset.features:
        raise arrow.no_column(split_by, origin, list(dataset.features))
    found = dataset.select_columns([split_by]).with_format("arrow")[:][split_by].to_pylist()
    if None in found:
        raise arrow.no_value(split_by, origin, found.index(None))
    return list(map(str, found))


def _load(hub_id: str) -> "Mapping[str, Dataset]":
    import datasets

    # Its retries are announced line by line; the outcome is ours to tell.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    # Before version 4 it would ask the user whether to run the data set's own code.
    datasets.config.HF_DATASETS_TRUST_REMOTE_CODE = False
    try:
        return datasets.load_dataset(hub_id)
    except Exception as error:  # whatever the network stack raises
        reason = (str(error) or "no reason given").splitlines()[0]
        raise HubError(f"{type(error).__name__}: {reason}") from error


def _named(splits: "Mapping[str, Dataset]", where: str) -> "tuple[dict[str, Dataset], list[str]]":
    """The splits by part, and what to tell of the others; a single one is everything, whatever its name."""
    if len(splits) == 1:
        return {"train": next(iter(splits.values()))}, []
    parts: dict[str, Any] = {}
    notes = []
    for name, dataset in splits.items():
        part = part_of(name)
        if part and part not in parts:
            parts[part] = dataset
        else:
            notes.append(f"the split {name!r} of {where} is not used")
    if not parts:
        raise InputError(
            f"{where} has no split 'train' (it has {', '.join(splits)}): choose another data set"
        )
    return parts, notes
