"""JSON files that notice when they are no longer what was written: they hold a digest of their own content.

The digest is the SHA-256 of the canonical JSON (sorted keys, no spaces) of everything but itself. Files of versions
before this one have none; nothing can be said of them but whether their keys are known.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from selftaught.files.reading import MOST_TEXT, DamagedError, read_bytes

KEY = "digest"


def sha256(content: bytes, name: str = "") -> str:
    """The digest of a file's content; of a text it is that with Unix line ends, which git may have changed."""
    if name.endswith((".json", ".jsonl", ".md", ".csv", ".html")):
        content = content.replace(b"\r\n", b"\n")
    return hashlib.sha256(content).hexdigest()


def digest(values: dict[str, Any]) -> str:
    """The digest that a file of these values holds."""
    rest = {name: value for name, value in values.items() if name != KEY}
    return sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def seal(values: dict[str, Any]) -> bytes:
    """A JSON file of these values and their digest."""
    plain = json.loads(json.dumps(values))
    whole = plain | {KEY: digest(plain)}
    try:
        text = json.dumps(whole, indent=2, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half characters, which stand for bytes of a path that are no text
        text = json.dumps(whole, indent=2).encode()
    return text + b"\n"


def unseal(path: Path, content: bytes, known: Collection[str] | None, remedy: str) -> dict[str, Any]:
    """The values of a file, with its digest where it has one.

    Args:
        path: the file, for messages.
        content: of the file.
        known: the keys that a file without a digest may have; None for any.
        remedy: what to do where it is damaged.

    Raises:
        DamagedError: it is no JSON object, its digest is that of another content, or it has none and unknown keys.
    """
    try:
        values = json.loads(content, parse_float=_float)
    except (ValueError, RecursionError):
        raise DamagedError(path, "it is no JSON", remedy) from None
    if not isinstance(values, dict):
        raise DamagedError(path, "it is no JSON object", remedy)
    if KEY in values and values[KEY] is not None:
        if values[KEY] != digest(values):
            raise DamagedError(path, "its digest is that of another content", remedy)
    elif known is not None and (strange := sorted(set(values) - {*known, KEY})):
        raise DamagedError(path, f"nobody knows what its {strange[0][:40]!a} is", remedy)
    return values


def read(path: Path, known: Collection[str] | None, remedy: str) -> dict[str, Any]:
    """The values of a file, see `unseal`."""
    return unseal(path, read_bytes(path, MOST_TEXT, remedy), known, remedy)


def _float(text: str) -> float:
    """A number as Python writes it: 1E-05, which is the same number, was somebody else's doing."""
    if "E" in text:
        raise ValueError(text)
    return float(text)
