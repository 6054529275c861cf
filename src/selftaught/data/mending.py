"""Files that are damaged or odd beside their pixels: what a picture needs is taken from them, the rest is left."""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import PngImagePlugin

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_TEXTS = {b"iCCP", b"iTXt", b"tEXt", b"zTXt"}
"""Chunks that say something about a PNG picture and have no part in its pixels."""

_JPEG = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd9\xff]")
_FRAMES, _SCAN = {0xC0, 0xC1, 0xC2}, 0xDA
_ODD_BITS = (b"\x55\x12\xa9" * 40, b"\xaa\xe7\x31" * 40)
"""What a JPEG decoder takes for picture data; they begin with another bit each."""


def without_large_texts(blob: bytes) -> bytes:
    """A PNG without those texts and profiles that Pillow refuses the whole picture for; anything else as it is.

    They are those that are larger than Pillow's bounds (1 MiB each when unpacked, 64 MiB together) and those whose
    checksum is wrong. None is unpacked beyond the bound.
    """
    if not blob.startswith(_PNG):
        return blob
    kept, start, total = [], 0, 0
    for kind, first, last in _chunks(blob):
        if kind not in _TEXTS:
            continue
        # Nor are any more of them once as much as Pillow's bound has been unpacked in vain.
        size = 0 if total > PngImagePlugin.MAX_TEXT_MEMORY else _unpacked(kind, blob[first + 8 : last - 4])
        sound = zlib.crc32(blob[first + 4 : last - 4]) == struct.unpack(">I", blob[last - 4 : last])[0]
        total += size
        if not sound or size > PngImagePlugin.MAX_TEXT_CHUNK or total > PngImagePlugin.MAX_TEXT_MEMORY:
            kept.append(blob[start:first])
            start = last
    return b"".join([*kept, blob[start:]]) if start else blob


def lacks_end(blob: bytes) -> bool:
    """Whether a PNG or JPEG has no end, which nobody needs who has all of its pixels."""
    if blob.startswith(_JPEG):
        return blob.rfind(_JPEG_END) < blob.rfind(b"\xff\xda")
    return blob.startswith(_PNG) and _PNG_END not in blob


def with_end(blob: bytes, decode: Callable[[bytes], np.ndarray]) -> bytes | None:
    """A file that cannot be decoded, with the end that it lacks; None where it lacks more, or something else.

    A JPEG that is cut off within its end marker gets an end in place of what is missing. It is returned only if
    `decode` gives the same pixels whatever stands there, and if no scan is missing: then none of them was lost.
    """
    candidates = _with_ends(blob)
    mended = next(candidates, None)
    pixels = None if mended is None else _attempt(decode, mended)
    if pixels is None:
        return None
    for other in map(partial(_attempt, decode), candidates):
        if other is None or not np.array_equal(pixels, other):
            return None
    return mended


def _with_ends(blob: bytes) -> Iterator[bytes]:
    if blob.startswith(_JPEG) and _has_all_scans(blob):
        # A marker's first byte alone would make a marker of what follows.
        scan = blob.removesuffix(b"\xff")
        yield from (scan + odd + _JPEG_END for odd in (b"", *_ODD_BITS))


def _has_all_scans(blob: bytes) -> bool:
    """Whether a JPEG's scans, as far as they are there, bring every coefficient of every component to its last bit."""
    missing: dict[int, set[int]] = {}
    place = 2
    while found := _MARKER.search(blob, place):
        kind, start = found[0][1], found.end()
        place = start + int.from_bytes(blob[start : start + 2], "big")
        body = blob[start + 2 : place]
        if kind in _FRAMES and len(body) > 5:
            missing = {component: set(range(64)) for component in body[6::3]}
        elif kind == _SCAN and body and len(body) == 4 + 2 * body[0]:
            first, last, precision = body[-3:]
            if not precision & 15:
                for component in body[1:-3:2]:
                    missing.get(component, set()).difference_update(range(first, last + 1))
    return bool(missing) and not any(missing.values())


def _attempt(decode: Callable[[bytes], np.ndarray], blob: bytes) -> np.ndarray | None:
    try:
        return decode(blob)
    except ValueError:
        return None


def _chunks(blob: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, beginning and end of each whole chunk of a PNG up to its last."""
    first = len(_PNG)
    while first + 12 <= len(blob):
        length, kind = struct.unpack_from(">I4s", blob, first)
        last = first + 12 + length
        if last > len(blob):
            return
        yield kind, first, last
        if kind == b"IEND":
            return
        first = last


def _unpacked(kind: bytes, content: bytes) -> int:
    """How large a text or profile is when unpacked, or a number above Pillow's bound."""
    _, _, rest = content.partition(b"\0")
    if kind == b"iTXt":
        packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    else:
        packed, text = kind != b"tEXt", rest[1:] if kind != b"tEXt" else rest
    if not packed:
        return len(content)
    try:
        return len(zlib.decompressobj().decompress(text, PngImagePlugin.MAX_TEXT_CHUNK + 1))
    except zlib.error:
        return len(text)
