"""Files that other programs read, though something beside their pixels is wrong or odd."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from selftaught import data
from selftaught.data import loading, mending, pictures
from selftaught.data.preparation import Preparation
from tests.data.blobs import collection
from tests.data.conftest import encode, random_pictures

PHOTO = np.asarray(
    Image.fromarray(random_pictures(1, (9, 12))[0]).resize((120, 90), Image.Resampling.BICUBIC)
)


def _jpeg(**options):
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).save(buffer, "JPEG", quality=85, **options)
    return buffer.getvalue()


def _noted(blob):
    [found], endless = pictures.decode_several(blob, [Preparation()])
    return found, endless


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0, "restart_marker_blocks": 3}]
)
def test_a_jpeg_that_lacks_its_end_marker_alone_is_read(options):
    whole = _jpeg(**options)
    expected, noted = _noted(whole)
    assert not noted
    for lost in (1, 2):
        array, noted = _noted(whole[:-lost])
        np.testing.assert_array_equal(array, expected)
        assert noted


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_that_lacks_any_of_its_pixels_is_refused(options):
    whole = _jpeg(**options)
    for lost in (3, 4, 10, 100, len(whole) // 2, len(whole) - 20):
        with pytest.raises(ValueError, match=r"(?i)truncated|picture|stream"):
            _noted(whole[:-lost])


def test_a_progressive_jpeg_cut_between_two_scans_is_refused():
    """What is there is whole, and a coarser picture: only the list of its scans tells."""
    whole = _jpeg(progressive=True)
    scans = [place for place in range(len(whole)) if whole[place : place + 2] == b"\xff\xda"]
    assert len(scans) > 4
    tables = [place for place in range(scans[0], len(whole)) if whole[place : place + 2] == b"\xff\xc4"]
    for place in tables:
        with pytest.raises(ValueError):  # noqa: PT011  (Pillow has several words for it)
            _noted(whole[:place])


def test_what_other_programs_forgive_is_forgiven():
    png, jpeg, gif = encode(PHOTO), _jpeg(), encode(PHOTO[..., 0], "GIF")
    assert [_noted(blob)[1] for blob in (png, png + b"rest", jpeg + b"rest", gif)] == [False] * 4
    array, noted = _noted(png[:-12])  # without the chunk IEND
    np.testing.assert_array_equal(array, PHOTO)
    assert noted
    with pytest.raises(ValueError, match="truncated"):
        _noted(png[: len(png) // 2])


def _chunk(kind, content, checksum=None):
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _with(png, *chunks, before=b"IDAT"):
    start = png.index(before) - 4
    return png[:start] + b"".join(chunks) + png[start:]


MEGABYTES = zlib.compress(b"\0" * 30_000_000)
LARGE = {
    "a profile": _chunk(b"iCCP", b"icc\0\0" + MEGABYTES),
    "a packed text": _chunk(b"zTXt", b"Comment\0\0" + MEGABYTES),
    "a packed international text": _chunk(b"iTXt", b"Comment\0\1\0\0\0" + MEGABYTES),
    "an international text": _chunk(b"iTXt", b"Comment\0\0\0\0\0" + b"x" * 2_000_000),
    "a checksum that is wrong": _chunk(b"tEXt", b"Comment\0hello", 1),
}


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("chunk", LARGE.values(), ids=LARGE)
def test_a_png_is_read_for_its_pixels_whatever_its_texts_are(chunk, before):
    blob = _with(encode(PHOTO), chunk, before=before)
    tracemalloc.start()
    array, noted = _noted(blob)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(array, PHOTO)
    assert not noted
    assert pictures.header(blob)[:3] == (90, 120, False)
    assert peak < 4 * len(blob) + 4e6  # nothing is unpacked beyond Pillow's bound


def test_many_texts_are_too_many_together(monkeypatch):
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 1000)
    texts = [_chunk(b"tEXt", b"Comment\0" + b"x" * 300)] * 9
    np.testing.assert_array_equal(_noted(_with(encode(PHOTO), *texts))[0], PHOTO)


def test_bombs_are_not_unpacked_one_after_the_other(monkeypatch):
    unpacked = []
    real = zlib.decompressobj

    def counting(*given):
        unpacked.append(given)
        return real(*given)

    blob = _with(encode(PHOTO), *[LARGE["a packed text"]] * 300)
    monkeypatch.setattr(mending.zlib, "decompressobj", counting)
    np.testing.assert_array_equal(Image.open(io.BytesIO(mending.without_large_texts(blob))), PHOTO)
    assert len(unpacked) < 70  # a mebibyte each


def test_what_turns_a_png_upright_is_kept_beside_a_large_profile():
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'
    blob = _with(encode(PHOTO), LARGE["a profile"], _chunk(b"iTXt", xmp))
    np.testing.assert_array_equal(_noted(blob)[0], np.rot90(PHOTO, -1))


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.parametrize(
    ("blob", "said"),
    [
        (HEIC, "it is a HEIC picture: convert it to JPEG or PNG, or 'pip install pillow-heif'"),
        (b"%PDF-1.7\n", "it is a PDF document"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x">', "it is an SVG drawing"),
        (b"\n<!DOCTYPE html><html><p>Not found</p>", "it is a web page, perhaps of a download that failed"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "it is not a picture in any format that can be decoded"),
    ],
)
def test_what_it_is_instead_of_a_picture_is_said(monkeypatch, blob, said):
    monkeypatch.setattr(pictures, "_register_heif", lambda: None)
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind != "HEIF"])
    with pytest.raises(ValueError, match=said):
        pictures.decode(blob)


def test_heic_pictures_are_read_where_the_package_is_there():
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(Image.fromarray(PHOTO)).save(buffer, quality=100, chroma=444)
    array = pictures.decode(buffer.getvalue())
    assert np.abs(array.astype(int) - PHOTO).mean() < 3
    assert pictures.header(buffer.getvalue())[:3] == (90, 120, False)


def test_what_was_odd_is_counted_and_one_is_named(monkeypatch):
    def save(kind, **options):
        buffer = io.BytesIO()
        frames = [Image.fromarray(PHOTO + np.uint8(shade)) for shade in (0, 90)]
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], **options)
        return buffer.getvalue()

    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in PHOTO)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 120, 90, 16, 2, 0, 0, 0))
    deep = b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    odd = [
        PHOTO,
        _jpeg()[:-2],
        PHOTO,
        _jpeg()[:-1],
        save("GIF"),
        save("WEBP", lossless=True),
        save("MPO"),
        deep,
    ]
    monkeypatch.setattr(loading, "open_source", lambda _, split_by=None: collection(odd, [PHOTO, PHOTO]))
    for _ in range(2):  # the second time from the cache
        found = data.load("x", image_size=9)
        assert found.notes[1:4] == (
            "2 pictures (such as picture 1) lack the end of the file but none of their pixels: read as other programs "
            "do",
            "2 pictures (such as picture 4) have several frames or pages, of which the first is used",
            "1 picture (picture 7) has colour channels of 16 bits, of which the upper 8 are used (65,535 is full "
            "intensity)",
        )
    assert (found.train_images[5] == found.train_images[0]).all()
