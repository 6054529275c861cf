"""Decoded data kept on disk, because decoding costs time and a study loads the same data many times.

It lies in ``$XDG_CACHE_HOME/selftaught``, by default ``~/.cache/selftaught``, and may be deleted at any time.
"""

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xxhash
from PIL import __version__ as pillow_version
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from selftaught.data import pictures

_LOG = logging.getLogger(__name__)
_STALE_SECONDS = 24 * 3600
_DIGEST = "xxh3_128"


def folder() -> Path:
    """Where decoded data is kept: ``$XDG_CACHE_HOME/selftaught``, by default ``~/.cache/selftaught``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selftaught"


class DamagedError(Exception):
    """An entry is there and not what was written; the message says so in one line."""


def read(key: str) -> dict[str, Tensor] | None:
    """What was written under `key` by this version of the decoder, checked byte by byte; None where nothing was.

    The tensors are mapped into memory: processes that read the same entry share it. Writing changes a private copy.

    Raises:
        DamagedError: the entry is damaged, or another one's.
    """
    path = _path(key)
    try:
        if not path.exists():
            return None
        if path.is_file():  # a pipe would keep us waiting for ever
            with safe_open(path, framework="pt") as file:
                about = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            if about[_DIGEST] == _digest(key, tensors):
                return tensors
    except FileNotFoundError:  # somebody removed it just now
        return None
    except (OSError, SafetensorError, KeyError, TypeError):
        pass
    raise DamagedError(f"the decoded copies in {path} are damaged: they are made anew from the pictures")


def write(key: str, tensors: Mapping[str, Tensor]) -> None:
    """Keep contiguous tensors under `key`. A cache that cannot be written costs a warning and nothing else.

    Of two writers the last one wins with the same content.
    """
    path = _path(key)
    try:
        with replaced(path) as temporary:
            _sweep(path.parent)
            save_file(dict(tensors), temporary, {_DIGEST: _digest(key, tensors)})
            if path.is_dir():
                shutil.rmtree(path)
    except (OSError, SafetensorError) as error:
        _LOG.warning("decoded data is not cached, the next run decodes it again: %s", error)


@contextmanager
def replaced(path: Path) -> Iterator[str]:
    """A temporary file to write to, which then gets the name `path`, so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
    os.close(handle)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _path(key: str) -> Path:
    name = hashlib.sha256(repr((key, pictures.VERSION, pillow_version)).encode()).hexdigest()
    return folder() / f"{name}.safetensors"


def _digest(key: str, tensors: Mapping[str, Tensor]) -> str:
    """XXH3, 128 bits in hex, of an entry's key and content.

    Against accidents, on every start: it is as fast as the memory, ten times as fast as SHA-256. It does not protect
    from somebody who writes into the folder on purpose.
    """
    total = xxhash.xxh3_128(key.encode())
    for name in sorted(tensors):
        array = tensors[name].numpy()
        total.update(repr((name, array.dtype.str, array.shape)).encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _sweep(place: Path) -> None:
    """Remove what writers that were killed have left behind."""
    for path in place.glob("*.tmp"):
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            path.unlink(missing_ok=True)
