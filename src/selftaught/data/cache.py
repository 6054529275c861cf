"""Decoded data kept on disk, because decoding costs seconds and a study loads the same data many times."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import __version__ as pillow_version
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from selftaught.data import pictures
from selftaught.data.dataset import Decoded

_LOG = logging.getLogger(__name__)


def folder() -> Path:
    """Where decoded data is kept: ``$XDG_CACHE_HOME/selftaught``, by default ``~/.cache/selftaught``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selftaught"


def cached(source_digest: str, image_size: tuple[int, int] | None, decode: Callable[[], Decoded]) -> Decoded:
    """What `decode` returns, from the cache if it is there whole, else decoded and kept.

    The key is the source's digest, the size and the decoder's version. A cache that is broken, missing or not
    writable costs the time to decode and nothing else.
    """
    key = repr((source_digest, image_size, pictures.VERSION, pillow_version))
    path = folder() / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    decoded = _read(path)
    if decoded is None:
        decoded = decode()
        _write(path, decoded)
    return decoded


def _read(path: Path) -> Decoded | None:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        decoded = Decoded(tuple(json.loads(metadata["classes"])), **tensors)
        return decoded if decoded.digest == metadata["digest"] else None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _write(path: Path, decoded: Decoded) -> None:
    """Write to a temporary file beside `path` and rename it, so that no reader ever sees half a file."""
    metadata = {"classes": json.dumps(decoded.classes), "digest": decoded.digest}
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
        os.close(handle)
        save_file(decoded.tensors(), temporary, metadata)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        _LOG.warning("decoded data is not cached, the next run decodes it again: %s", error)
        if temporary:
            Path(temporary).unlink(missing_ok=True)
