"""The seal of an unfinished run's checkpoint: what the file is to be, and how much of its metrics it vouches for.

torch writes a checkpoint as a ZIP archive, the end of which is free for a comment: there the seal is, JSON with the
SHA-256 of everything before it, and the length and the SHA-256 of the metrics.jsonl that belongs to it. Lines after
that were written by a process that was killed before its next checkpoint. Checkpoints of older versions have none.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from selftaught.files import sealing
from selftaught.files.reading import DamagedError, read_bytes

REMEDY = "remove it to start from the beginning"

_END = b"PK\x05\x06"
_END_SIZE = 22
"""Bytes of the record at the end of a ZIP archive, the last two of which are the length of the comment after it."""

_KNOWN = ("sha256", "metrics_bytes", "metrics_sha256")


@dataclass(frozen=True)
class Seal:
    """Of the checkpoint itself, and how many bytes of metrics.jsonl with which digest belong to it."""

    sha256: str
    metrics_bytes: int
    metrics_sha256: str


def sealed(content: bytes, metrics_bytes: int, metrics_sha256: str) -> bytes:
    """A ZIP archive without a comment, with its seal."""
    if content[-_END_SIZE:][:4] != _END or content[-2:] != b"\0\0":
        return content  # not as torch writes it today: without a seal its parts still have their checksums
    values = (sealing.sha256(content), metrics_bytes, metrics_sha256)
    comment = sealing.seal(dict(zip(_KNOWN, values, strict=True)))
    return content[:-2] + len(comment).to_bytes(2, "little") + comment


def read(path: Path) -> Seal | None:
    """The seal of a checkpoint, all of which is what was written; None where it has none.

    Raises:
        DamagedError: it is not.
    """
    content = read_bytes(path, remedy=REMEDY)
    start = content.rfind(_END)
    if start < 0:
        raise DamagedError(path, "it is cut off, or no checkpoint", REMEDY)
    comment = content[start + _END_SIZE :]
    if int.from_bytes(content[start + _END_SIZE - 2 :][:2], "little") != len(comment):
        raise DamagedError(path, "it is cut off", REMEDY)
    if not comment:
        return None
    seal = _seal(path, comment)
    if sealing.sha256(content[: start + _END_SIZE - 2] + b"\0\0") != seal.sha256:
        raise DamagedError(path, "it is not what the run wrote", REMEDY)
    return seal


def _seal(path: Path, comment: bytes) -> Seal:
    values = sealing.unseal(path, comment, (), REMEDY)
    try:
        return Seal(*(kind(values[name]) for name, kind in zip(_KNOWN, (str, int, str), strict=True)))
    except (KeyError, ValueError, TypeError):
        raise DamagedError(path, "its seal is none", REMEDY) from None


def metrics(path: Path, checkpoint: Path, remedy: str) -> bytes:
    """What of an unfinished run's metrics.jsonl its checkpoint vouches for: nothing, where there is no checkpoint yet.

    Raises:
        DamagedError: one of them is not what the run wrote.
    """
    if not os.path.lexists(checkpoint):
        return b""
    seal = _tail(checkpoint)
    if seal is None:
        return read_bytes(path, remedy=remedy) if os.path.lexists(path) else b""
    if not seal.metrics_bytes:
        return b""
    content = read_bytes(path, remedy=remedy)[: seal.metrics_bytes]
    if sealing.sha256(content) != seal.metrics_sha256:
        raise DamagedError(path, "it is not what the run wrote", remedy)
    return content


def _tail(path: Path) -> Seal | None:
    """The seal from the end of the file alone."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 2**16 - _END_SIZE))
        end = file.read()
    comment = end[end.rfind(_END) + _END_SIZE :]
    return _seal(path, comment) if _END in end and comment else None
