"""Folders of Parquet files in the Hugging Face image layout: ``train-*.parquet`` and ``test-*.parquet``."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selftaught.data.cache import cached
from selftaught.data.dataset import Decoded
from selftaught.errors import InputError


@dataclass(frozen=True)
class ParquetFiles:
    """The files of both parts, in the order of their names."""

    train: tuple[Path, ...]
    test: tuple[Path, ...]


def find(folder: Path) -> ParquetFiles | None:
    """The files in a folder, None where there are none.

    Raises:
        InputError: the folder has files of one part only.
    """
    files = {part: tuple(sorted(folder.glob(f"{part}-*.parquet"))) for part in ("train", "test")}
    if not any(files.values()):
        return None
    for part, found in files.items():
        if not found:
            raise InputError(f"{folder} has no {part}-*.parquet beside the other part: complete the folder")
    return ParquetFiles(**files)


def read(files: ParquetFiles, image_size: tuple[int, int] | None = None) -> Decoded:
    """All images of the files, from the cache where these very bytes have been decoded before.

    Raises:
        InputError: a file that is no Parquet, has no such columns, a picture that cannot be decoded, a label out
            of range; the message names the file and the row.
    """
    return cached(_digest(files), image_size, lambda: _decode(files, image_size))


def _digest(files: ParquetFiles) -> str:
    content = hashlib.sha256()
    for part in (files.train, files.test):
        content.update(f"{len(part)} files;".encode())
        for path in part:
            content.update(hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()


def _decode(files: ParquetFiles, image_size: tuple[int, int] | None) -> Decoded:
    # Imported late: `datasets` takes a second, and a cached data set needs nothing of it.
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features

    from selftaught.data import huggingface

    def shards(paths: Sequence[Path]) -> list[huggingface.Shard]:
        found = []
        for path in paths:
            try:
                table = pq.read_table(path)
                features = Features.from_arrow_schema(table.schema)
            except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"{path} cannot be read as Parquet in the Hugging Face layout: {reason}"
                ) from error
            found.append(huggingface.shard(table, features, str(path)))
        return found

    return huggingface.to_tensors(shards(files.train), shards(files.test), image_size)
