"""Digests of files that are too large to read again and again."""

import hashlib
from functools import lru_cache
from pathlib import Path


def of_file(path: Path) -> str:
    """SHA-256 (hex), computed once for as long as the file's size and time stay: weights take seconds to read."""
    stat = path.stat()
    return _of_state(path, stat.st_size, stat.st_mtime_ns)


@lru_cache
def _of_state(path: Path, _size: int, _changed: int) -> str:
    content = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            content.update(block)
    return content.hexdigest()
