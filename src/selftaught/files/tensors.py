"""Safetensors files from a stranger: their header is checked before anything is made of it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from selftaught.files.reading import DamagedError

SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
"""Bytes of an element, by type."""

_MOST_HEADER = 2**25
_MOST_AXES = 16


@dataclass(frozen=True)
class Header:
    """What a file says it holds: types and shapes by name, and texts about it."""

    tensors: dict[str, tuple[str, tuple[int, ...]]]
    metadata: dict[str, str]

    @property
    def elements(self) -> int:
        """How many numbers it holds in all."""
        return sum(math.prod(shape) for _, shape in self.tensors.values())


def header(path: Path, content: bytes, remedy: str) -> Header:
    """The header of a safetensors file, after every byte of the file was found to belong to one of its tensors.

    Raises:
        DamagedError: it is no such file, a type is unknown, or header and content do not fit.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, _MOST_HEADER):
        raise DamagedError(path, "it is cut off, or no safetensors file", remedy)
    try:
        entries = json.loads(content[8 : 8 + length])
        metadata = entries.pop("__metadata__", {})
        tensors = {name: _tensor(name, entry) for name, entry in entries.items()}
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("its metadata are no texts")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else "its header is none"
        raise DamagedError(path, reason, remedy) from None
    ends = sorted(entry["data_offsets"] for entry in entries.values())
    places = [[0, 0], *ends, [len(content) - 8 - length] * 2]
    if any(a[1] != b[0] for a, b in pairwise(places)):
        raise DamagedError(path, "its header does not fit its content", remedy)
    return Header(tensors, metadata)


def _tensor(name: str, entry: Any) -> tuple[str, tuple[int, ...]]:
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in SIZES:
        raise ValueError(f"{name[:60]!a} has the unknown type {str(dtype)[:20]!a}")
    whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end)) and len(shape) <= _MOST_AXES
    if not whole or math.prod(shape) * SIZES[dtype] != end - begin:
        raise ValueError(f"the shape of {name[:60]!a} does not fit its content")
    return dtype, tuple(shape)


def arrays(path: Path, content: bytes, remedy: str) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file as arrays.

    Raises:
        DamagedError: as of `header`, or a type that numpy does not have.
    """
    header(path, content, remedy)
    try:
        return load(content)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise DamagedError(path, str(error) or type(error).__name__, remedy) from None


def checked(
    path: Path,
    found: Mapping[str, np.ndarray],
    axes: Mapping[str, tuple[type, str]],
    remedy: str,
    **sizes: int,
) -> dict[str, np.ndarray]:
    """The tensors of the given types and axes, one letter each; a letter stands for one size in the whole file.

    Raises:
        DamagedError: one is missing, or has another type or shape, or a value that is not finite.
    """
    missing = [name for name in axes if name not in found]
    if missing:
        raise DamagedError(path, f"it has no {', '.join(missing)}", remedy)
    for name, (dtype, letters) in axes.items():
        array = found[name]
        if array.dtype != dtype:
            raise DamagedError(path, f"{name} is {array.dtype} instead of {dtype.__name__}", remedy)
        fits = array.ndim == len(letters) and all(
            sizes.setdefault(letter, size) == size for letter, size in zip(letters, array.shape, strict=True)
        )
        if not fits:
            raise DamagedError(path, f"{name} has the wrong shape {array.shape}", remedy)
        if not np.isfinite(array).all():
            raise DamagedError(path, f"{name} is not finite", remedy)
    return {name: found[name] for name in axes}
