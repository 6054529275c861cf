"""Data sets of the Hugging Face Hub, downloaded (and kept) by `datasets`."""

import hashlib
import logging

from selftaught.data.cache import cached
from selftaught.data.dataset import Decoded
from selftaught.errors import InputError


class HubError(Exception):
    """The Hub did not give the data set; the message is the reason in one line."""


def read(hub_id: str, image_size: tuple[int, int] | None = None) -> Decoded:
    """The `train` and `test` splits of a data set of the Hub.

    Raises:
        HubError: the Hub cannot be reached or has no such data set.
        InputError: the data set has no such splits or columns, a picture cannot be decoded, ...
    """
    # Imported late: both take a second, and data from elsewhere does not need them.
    import datasets

    from selftaught.data import huggingface

    # Its retries are announced line by line; the outcome is ours to tell.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        splits = datasets.load_dataset(hub_id)
    except Exception as error:  # whatever the network stack raises
        raise HubError(
            f"{type(error).__name__}: {(str(error) or 'no reason given').splitlines()[0]}"
        ) from error
    shards = {}
    for part in ("train", "test"):
        if part not in splits:
            raise InputError(f"{hub_id} on the Hub has no split {part!r} (it has {', '.join(splits)})")
        table = splits[part].with_format("arrow")[:]
        shards[part] = huggingface.shard(table, splits[part].features, f"{hub_id} on the Hub, split {part!r}")
    content = hashlib.sha256()
    for part, shard in shards.items():
        content.update(repr((part, shard.classes, shard.labels.tolist())).encode())
        for chunk in shard.pictures.chunks:
            for blob in chunk.field("bytes").to_pylist():
                content.update(hashlib.sha256(blob or b"").digest())
    return cached(
        content.hexdigest(),
        image_size,
        lambda: huggingface.to_tensors([shards["train"]], [shards["test"]], image_size),
    )
