"""Where labelled images come from: a name, a path or an id of the Hugging Face Hub."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from selftaught.data import digits, folder, hub, parquet, parquet_files, table
from selftaught.data.encoded import Collection
from selftaught.errors import InputError, shown, unknown

_HUB = "hub:"


@dataclass(frozen=True)
class Named:
    """A data set with a name: of the Hub, of which there may be a copy in ``$SELFTAUGHT_DATA/NAME``, or embedded."""

    name: str
    summary: str
    hub_id: str | None = None

    def open(self, split_by: str | None = None) -> Collection:
        """The data set as it is found; InputError where it is not, or has no such column."""
        if self.hub_id is None:
            if split_by is not None:
                raise InputError("the digits are not in groups: leave out --split-by, or name other data")
            return digits.collect()
        home = os.environ.get("SELFTAUGHT_DATA")
        if home and not Path(home).is_dir():
            raise InputError(
                f"SELFTAUGHT_DATA is {home}, which is not a folder: correct it, or unset it to use the Hub"
            )
        copy = Path(home) / self.name if home else None
        files = parquet_files.find(copy, trusted=True) if copy else None
        if files:
            found = parquet.collect(files, shown(copy or ""), split_by)
            if found.test is None:
                raise InputError(f"{copy} has no test-*.parquet beside the other part: complete the folder")
            return found
        try:
            return hub.collect(self.hub_id, split_by)
        except hub.HubError as error:
            place = f"no {self.name}/train-*.parquet in {home}" if home else "SELFTAUGHT_DATA is not set"
            raise InputError(
                f"data {self.name!r} not found: {place}, and {self.hub_id} did not come from the Hub ({error}); "
                f"set SELFTAUGHT_DATA to a folder with {self.name}/train-*.parquet and test-*.parquet, or get online"
            ) from error


_NAMED = [
    Named(
        "digits", "1,797 handwritten digits bundled with scikit-learn, grey 16x16, 10 classes; no download"
    ),
    Named("mnist", "70,000 handwritten digits, grey 28x28, 10 classes", "ylecun/mnist"),
    Named(
        "fashion-mnist", "70,000 pieces of clothing, grey 28x28, 10 classes", "zalando-datasets/fashion_mnist"
    ),
    Named("cifar10", "60,000 photographs, RGB 32x32, 10 classes", "uoft-cs/cifar10"),
    Named("cifar100", "60,000 photographs, RGB 32x32, 100 classes", "uoft-cs/cifar100"),
]
SOURCES = {source.name: source for source in _NAMED}

_BY_HUB_ID = {source.hub_id: source for source in _NAMED}


def open_source(name: str, split_by: str | None = None) -> Collection:
    """The labelled images that a name stands for; no picture is decoded.

    Args:
        name: in this order: a name in `SOURCES`; a folder of images, with one sub-folder per class or a table of
            labels; a folder of Parquet files; a table of labels; an id of the Hub (``owner/name``, or any id after
            ``hub:``).
        split_by: that of `selftaught.data.load`.

    Raises:
        InputError: there is no such thing, or it cannot be used; the message names the file, line or row.
    """
    if name in SOURCES:
        return SOURCES[name].open(split_by)
    path = local_path(name)
    if path:
        return _open_path(_typed(name), split_by)
    hub_id = name.removeprefix(_HUB)
    if hub_id == name and not _may_be_hub_id(name):
        raise _not_found(name)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", hub_id):
        raise InputError(f"{name!r} is no id of the Hub: write {_HUB}NAME or {_HUB}OWNER/NAME")
    if hub_id in _BY_HUB_ID:
        return _BY_HUB_ID[hub_id].open(split_by)
    try:
        return hub.collect(hub_id, split_by)
    except hub.HubError as error:
        here = "" if hub_id != name else f"there is no folder {name} here, and "
        raise InputError(
            f"{here}{hub_id} did not come from the Hub ({error}): check the name, get online, or, if it is private "
            "or gated, log in with 'hf auth login'"
        ) from error


def local_path(name: str) -> Path | None:
    """The absolute path of a folder or file that `name` stands for; None for other sources and what is missing."""
    if name in SOURCES or not name or not os.path.exists(_typed(name)):
        return None
    return Path(os.path.abspath(_typed(name)))


def _typed(name: str) -> Path:
    return Path(os.path.expanduser(name))


def _open_path(path: Path, split_by: str | None) -> Collection:
    if not path.is_dir():
        if table.is_table(path):
            return table.collect(path, split_by=split_by)
        raise InputError(
            f"{shown(path)} is neither a folder nor a table of labels ({', '.join(table.SUFFIXES)}): give the folder"
        )
    if files := parquet_files.find(path):
        return parquet.collect(files, shown(path), split_by)
    if labels := table.find(path):
        return table.collect(labels, path, split_by)
    return folder.collect(path, split_by)


def _may_be_hub_id(name: str) -> bool:
    """Whether a name has the form of an id and does not lie about below a folder that is here."""
    return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name)) and not os.path.exists(name.split("/")[0])


def _not_found(name: str) -> InputError:
    if os.sep in name or "/" in name or name.startswith((".", "~")) or os.path.splitext(name)[1]:
        return InputError(f"{name!r} does not exist: check the path of the folder or table of labels")
    return InputError(f"{unknown('data', name, SOURCES)}, and there is no folder of this name here")
