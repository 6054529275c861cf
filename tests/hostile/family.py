"""What every family of hostile inputs is made with."""

import io
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.hostile.harness import Case, Said
from tests.hostile.values import MARKER, SCRIPT

QUICK = [
    "--model",
    "resnet8",
    "--image-size",
    "8",
    "--epochs",
    "1",
    "--batch-size",
    "8",
    "--threads",
    "1",
    "-q",
]

Family = Callable[[int, Path], Case]
"""Case number k, made from k alone, given the folder of the template: `run`, `study` and `good`, their pictures."""


def executed(_: str, __: Said) -> dict[str, Any]:
    """Whether something left a mark, or would in a browser; the mark is removed."""
    mark = Path(os.environ[MARKER])
    pages = [
        path.read_bytes() for path in (*Path().glob("*.html"), *Path().glob("*/*.html")) if path.is_file()
    ]
    left = mark.exists() or Path("owned").exists() or any(SCRIPT.encode() in page for page in pages)
    shutil.rmtree(mark, ignore_errors=True)
    return {"executed": left}


def picture(chance: random.Random, size: int = 6) -> bytes:
    """A PNG of noise."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (size, size), chance.randbytes(size * size * 3)).save(buffer, "PNG")
    return buffer.getvalue()


def lies(chance: random.Random) -> bytes:
    """A safetensors file whose header says other things than the bytes."""
    shape = chance.choice(([2**40], [2**31, 2**31], [-1], [0], [3, 10], [], [1] * 1000))
    kind = chance.choice(("F32", "F64", "I64", "BF16", "F8_E4M3", "X99", "U8", "BOOL"))
    offsets = chance.choice(([0, 2**40], [0, 120], [120, 0], [-1, 5], [0, 0]))
    header = json.dumps(
        {chance.choice(("logits", "labels", "x")): {"dtype": kind, "shape": shape, "data_offsets": offsets}}
    ).encode()
    length = chance.choice((len(header), len(header), 2**63, 0, 2**40))
    return struct.pack("<Q", length) + header + bytes(120)
