"""Decoded data kept on disk, because decoding costs time and a study loads the same data many times.

It lies in ``$XDG_CACHE_HOME/selftaught``, by default ``~/.cache/selftaught``, and may be deleted at any time.
"""

import hashlib
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import __version__ as pillow_version
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from selftaught.data import pictures

_LOG = logging.getLogger(__name__)
_STALE_SECONDS = 24 * 3600


def folder() -> Path:
    """Where decoded data is kept: ``$XDG_CACHE_HOME/selftaught``, by default ``~/.cache/selftaught``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selftaught"


def read(key: str) -> dict[str, Tensor] | None:
    """What was written under `key` by this version of the decoder; None where that is missing or damaged.

    The tensors are mapped into memory: processes that read the same entry share it, and what is not used costs no
    memory. Writing into one changes a private copy.
    """
    try:
        with safe_open(_path(key), framework="pt") as file:
            checksum = file.metadata()["crc32"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return tensors if _checksum(tensors) == checksum else None
    except (OSError, SafetensorError, KeyError, TypeError):
        return None


def write(key: str, tensors: Mapping[str, Tensor]) -> None:
    """Keep contiguous tensors under `key`. A cache that cannot be written costs a warning and nothing else.

    They go to a temporary file that is then renamed, so that no reader ever sees half of them, and of two writers
    the last one wins with the same content.
    """
    path, temporary = _path(key), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
        os.close(handle)
        save_file(dict(tensors), temporary, {"crc32": _checksum(tensors)})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        _LOG.warning("decoded data is not cached, the next run decodes it again: %s", error)
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _path(key: str) -> Path:
    name = hashlib.sha256(repr((key, pictures.VERSION, pillow_version)).encode()).hexdigest()
    return folder() / f"{name}.safetensors"


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32, in hex. Against accidents, on every start: 60 ms for CIFAR-10, where SHA-256 may take a second."""
    total = 0
    for name in sorted(tensors):
        array = tensors[name].numpy()
        total = zlib.crc32(repr((name, array.dtype.str, array.shape)).encode(), total)
        total = zlib.crc32(array.reshape(-1).view(np.uint8).data, total)
    return f"{total:08x}"


def _sweep(place: Path) -> None:
    """Remove what writers that were killed have left behind."""
    for path in place.glob("*.tmp"):
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            path.unlink(missing_ok=True)
