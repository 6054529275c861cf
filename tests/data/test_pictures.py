import io
import math
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from selftaught.data import pictures
from selftaught.data.image_files import is_image
from selftaught.data.preparation import Preparation
from tests.data.conftest import encode, random_pictures

COLOUR, GREY = random_pictures(1, (6, 5))[0], random_pictures(1, (6, 5), channels=1)[0]
ALPHA = np.arange(30, dtype=np.uint8).reshape(6, 5) * 8


def _save(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _over_white(values, alpha):
    """The definition, in floats."""
    share = alpha / 255
    return values * (share[..., None] if values.ndim == 3 else share) + 255 * (
        1 - (share[..., None] if values.ndim == 3 else share)
    )


@pytest.mark.parametrize("array", [COLOUR, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_come_back_as_they_were(array, kind):
    np.testing.assert_array_equal(pictures.decode(encode(array, kind)), array)


def test_lossy_formats_come_back_nearly():
    ramp = np.tile(np.linspace(0, 255, 32, dtype=np.uint8), (32, 1))
    ramp = np.stack([ramp, ramp.T, 255 - ramp], axis=2)
    for kind in ("JPEG", "WEBP"):
        assert np.abs(pictures.decode(encode(ramp, kind)).astype(int) - ramp).mean() < 8


@pytest.mark.parametrize(
    ("mode", "kind", "grey"),
    [
        ("1", "PNG", True),
        ("L", "PNG", True),
        ("LA", "PNG", True),
        ("I", "TIFF", True),
        ("I;16", "PNG", True),
        ("I;16B", "TIFF", True),
        ("P", "PNG", False),
        ("RGB", "PNG", False),
        ("RGBA", "PNG", False),
        ("CMYK", "JPEG", False),
        ("CMYK", "TIFF", False),
        ("YCbCr", "TIFF", False),
        ("LAB", "TIFF", False),
    ],
)
def test_every_mode_becomes_grey_or_colour_as_its_header_said(mode, kind, grey):
    picture = Image.fromarray(GREY if grey else COLOUR)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
    elif mode == "I;16B":
        picture = Image.frombytes("I;16B", (5, 6), (GREY.astype(">u2") * 257).tobytes())
    else:
        picture = picture.convert(mode)
    blob = _save(picture, kind)
    array = pictures.decode(blob)
    assert (array.shape, array.dtype) == ((6, 5) if grey else (6, 5, 3), np.uint8)
    assert pictures.header(blob)[:3] == (6, 5, grey)
    for channels, shape in ((1, (6, 5)), (3, (6, 5, 3))):
        assert pictures.decode(blob, Preparation(channels=channels)).shape == shape


def test_colours_survive_other_colour_spaces():
    smooth = np.asarray(Image.fromarray(COLOUR).resize((32, 32), Image.Resampling.BICUBIC))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.fromarray(smooth), *profiles, outputMode="LAB")
    got = pictures.decode(_save(lab, "TIFF"))
    assert np.abs(got.astype(int) - smooth).mean() < 3
    cmyk = pictures.decode(_save(Image.fromarray(smooth).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(cmyk.astype(int) - smooth).mean() < 8


def test_transparency_is_laid_over_white():
    got = pictures.decode(encode(np.dstack([COLOUR, ALPHA])))
    assert np.abs(got - _over_white(COLOUR, ALPHA)).max() <= 1
    got = pictures.decode(_save(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])))
    assert got.ndim == 2
    assert np.abs(got - _over_white(GREY, ALPHA)).max() <= 1


def test_a_transparent_colour_or_palette_entry_is_white():
    grey = np.array([[10, 20], [30, 20]], dtype=np.uint8)
    got = pictures.decode(_save(Image.fromarray(grey), transparency=20))
    assert got.tolist() == [[10, 255], [30, 255]]
    colour = np.dstack([grey, grey, grey + 1])
    got = pictures.decode(_save(Image.fromarray(colour), transparency=(20, 20, 21)))
    assert got[:, 1].tolist() == [[255] * 3] * 2
    assert got[:, 0].tolist() == [[10, 10, 11], [30, 30, 31]]
    palette = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8)).convert("L")
    palette.putpalette([0, 0, 0, 90, 0, 0])  # becomes mode P
    got = pictures.decode(_save(palette, transparency=0))
    assert got.tolist() == [[[255] * 3, [90, 0, 0]], [[90, 0, 0], [255] * 3]]
    got = pictures.decode(_save(palette, "GIF", transparency=0))
    assert got[0, 0].tolist() == [255] * 3
    deep = np.array([[257, 20_000]], dtype=np.uint16)
    assert pictures.decode(_with_trns(_save(Image.fromarray(deep)), 20_000)).tolist() == [[1, 255]]


def _with_trns(png, value):
    """A 16-bit grey PNG in which one value is transparent; Pillow does not write it."""
    body = b"tRNS" + struct.pack(">H", value)
    chunk = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    start = png.index(b"IDAT") - 4
    return png[:start] + chunk + png[start:]


def test_an_opaque_alpha_channel_changes_nothing():
    solid = np.dstack([COLOUR, np.full((6, 5), 255, np.uint8)])
    np.testing.assert_array_equal(pictures.decode(encode(solid)), COLOUR)


@settings(max_examples=20)
@given(values=st.lists(st.integers(0, 65535), min_size=1, max_size=8))
def test_sixteen_bits_are_scaled_by_their_full_range(values):
    expected = [[math.floor(value * 255 / 65535 + 0.5) for value in values]]
    deep = np.array([values], dtype=np.uint16)
    assert pictures.decode(_save(Image.fromarray(deep))).tolist() == expected
    assert pictures.decode(_save(Image.fromarray(deep), "TIFF")).tolist() == expected
    big = Image.frombytes("I;16B", deep.shape[::-1], deep.astype(">u2").tobytes())
    assert pictures.decode(_save(big, "TIFF")).tolist() == expected
    pgm = f"P5 {len(values)} 1 65535\n".encode() + deep.astype(">u2").tobytes()
    assert pictures.decode(pgm).tolist() == expected


def test_a_sixteen_bit_colour_png_is_read():
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in COLOUR)

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 6, 16, 2, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(pictures.decode(png), COLOUR)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((4, 4), 0.5, np.float32), "floating-point.*convert"),
        (np.full((4, 4), 70_000, np.int32), "32 bits.*convert"),
        (np.full((4, 4), -1, np.int32), "32 bits.*convert"),
    ],
)
def test_values_whose_white_is_unknown_are_refused(array, reason):
    with pytest.raises(ValueError, match=reason):
        pictures.decode(_save(Image.fromarray(array), "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(kind, orientation):
    # From the EXIF standard: what is at the stored picture's first row and first column.
    turn = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    blob = _save(Image.fromarray(COLOUR), kind, exif=exif, **options)
    plain = pictures.decode(_save(Image.fromarray(COLOUR), kind, **options))
    np.testing.assert_array_equal(pictures.decode(blob), turn(plain))
    assert pictures.header(blob)[:3] == (*turn(plain).shape[:2], False)


def test_sixteen_bits_are_turned_upright_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = GREY.astype(np.uint16) * 257
    np.testing.assert_array_equal(
        pictures.decode(_save(Image.fromarray(deep), exif=exif)), np.rot90(GREY, -1)
    )


def test_broken_exif_data_does_not_spoil_a_picture():
    blob = _save(Image.fromarray(GREY), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    np.testing.assert_array_equal(pictures.decode(blob), GREY)
    assert pictures.header(blob)[:3] == (6, 5, True)


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.fromarray(np.full((6, 5), value, np.uint8)) for value in (40, 200)]
    for kind in ("GIF", "PNG", "TIFF"):
        blob = _save(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.unique(pictures.decode(blob)).tolist() == [40]


@settings(max_examples=20)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    resample=st.sampled_from(["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]),
)
def test_stretching_is_pillows(size, resample):
    big = random_pictures(1, (12, 20))[0]
    pillow = Image.fromarray(big).resize((size[1], size[0]), Image.Resampling[resample.upper()])
    got = pictures.decode(encode(big), Preparation(size=size, resample=resample))
    np.testing.assert_array_equal(got, np.asarray(pillow))


def test_bilinear_is_the_default_and_anti_aliased():
    stripes = np.tile(np.array([[0, 255]], dtype=np.uint8), (8, 16))
    got = pictures.decode(encode(stripes), Preparation(size=(2, 2))).astype(int)
    assert np.abs(got - 127).max() <= 3


@settings(max_examples=30)
@given(
    height=st.integers(4, 60),
    width=st.integers(4, 60),
    side=st.integers(1, 24),
    crop=st.sampled_from([0.5, 0.875, 0.95, 1.0]),
)
def test_cropping_is_that_of_the_usual_evaluation_transform(height, width, side, crop):
    # Resize the shorter side to round(side / crop), keep the proportions (rounded down), cut the centre out.
    picture = Image.fromarray(random_pictures(1, (height, width))[0])
    short, long = round(side / crop), int(round(side / crop) * max(height, width) / min(height, width) + 1e-9)
    h, w = (short, long) if height <= width else (long, short)
    top, left = (h - side) // 2, (w - side) // 2
    scaled = np.asarray(picture.resize((w, h), Image.Resampling.BICUBIC))
    got = pictures.decode(_save(picture), Preparation(size=(side, side), crop=crop, resample="bicubic"))
    np.testing.assert_array_equal(got, scaled[top : top + side, left : left + side])


@pytest.mark.parametrize("size", [(4, 12), (12, 4), (9, 9)])
def test_a_crop_may_be_oblong_and_keeps_proportions(size):
    y, x = np.mgrid[:64, :48]
    disc = (((y - 31.5) ** 2 + (x - 23.5) ** 2) < 15**2).astype(np.uint8) * 255
    got = pictures.decode(encode(disc), Preparation(size=size, crop=1.0))
    assert got.shape == size
    whole = max(size[0] / 64, size[1] / 48)
    share = got.mean() / 255 * size[0] * size[1]
    seen = (
        min(size[0], 30 * whole) * min(size[1], 30 * whole) if min(size) == 4 else math.pi * (15 * whole) ** 2
    )
    assert share == pytest.approx(seen, rel=0.25)


def test_a_sliver_is_refused_rather_than_enlarged_to_gigabytes():
    sliver = encode(np.zeros((1, 4000), np.uint8))
    assert pictures.decode(sliver, Preparation(size=(224, 224))).shape == (224, 224)
    with pytest.raises(ValueError, match="1x4000 pixels are too long and narrow"):
        pictures.decode(sliver, Preparation(size=(224, 224), crop=0.875))


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "empty"),
        (b"not a picture", "not a picture in any format"),
        (encode(COLOUR)[:60], "."),
        (encode(COLOUR, "BMP")[:-20], "truncated"),
        (_save(Image.fromarray(np.zeros((64, 64, 3), np.uint8)), "JPEG")[:-100], "(?i)truncated"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_reason(blob, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        pictures.decode(blob)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


@settings(max_examples=100)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"]))
def test_damaged_bytes_give_a_picture_or_a_value_error(data, kind):
    content = bytearray(encode(COLOUR, kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    for read in (pictures.decode, pictures.header):
        with suppress(ValueError):
            read(bytes(content))


def _claims(height, width):
    """A PNG file that says it is this large and holds next to nothing."""
    blob = bytearray(encode(GREY))
    blob[16:24] = struct.pack(">II", width, height)
    blob[29:33] = struct.pack(">I", zlib.crc32(blob[12:29]))
    return bytes(blob)


def test_a_decompression_bomb_is_refused_unread():
    for read in (pictures.decode, pictures.header):
        with pytest.raises(
            ValueError, match=r"^it has 200 megapixels, and 179 is the most.*: scale it down$"
        ):
            read(_claims(20_000, 10_000))


def test_a_photograph_of_more_pixels_than_pillow_warns_of_is_read(monkeypatch):
    assert pictures.header(_claims(9000, 12_000))[:3] == (9000, 12_000, True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # above it Pillow warns, above twice as many it raises
    np.testing.assert_array_equal(pictures.decode(encode(GREY)), GREY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 14)
    with pytest.raises(ValueError, match="megapixels"):
        pictures.decode(encode(GREY))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n%%EndComments\nshowpage\n%%EOF\n"


def _iptc(content):
    """The IPTC format: a grey picture of 5 x 6, in a file of any format inside."""
    fields = {(3, 20): b"\5", (3, 30): b"\6", (3, 60): b"\1\0", (3, 120): b"\5", (8, 10): content}
    return b"".join(
        b"\x1c" + bytes(tag) + struct.pack(">H", len(value)) + value for tag, value in fields.items()
    )


@pytest.mark.parametrize("blob", [EPS, _iptc(EPS)], ids=["EPS", "EPS in IPTC"])
def test_nothing_is_handed_to_another_program(monkeypatch, blob):
    started = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *given: started.append(given))
    with Image.open(io.BytesIO(blob)) as picture, suppress(Exception):
        picture.load()
    assert started.pop()  # the file is one that Pillow would hand over
    for read in (pictures.decode, pictures.header):
        with pytest.raises(ValueError, match="not a picture in any format that can be decoded"):
            read(blob)
    assert not started


def test_suffixes_and_contents_are_of_the_same_formats():
    assert {"JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"} <= set(pictures.formats())
    for suffix, kind in Image.registered_extensions().items():
        assert is_image(f"x{suffix}") == (kind in pictures.formats()), suffix


def test_odd_metadata_causes_no_warnings(recwarn):
    exif = Image.Exif()
    exif[0x0112] = 99
    pictures.decode(_save(Image.fromarray(GREY), exif=exif))
    palette = Image.fromarray(COLOUR).convert("P")
    pictures.decode(_save(palette, transparency=bytes([0] * 10)))
    assert not list(recwarn)


def test_a_stack_of_grey_has_one_channel():
    stack = pictures.stack([GREY, GREY[::-1]])
    assert (stack.shape, stack.dtype) == ((2, 1, 6, 5), torch.uint8)
    np.testing.assert_array_equal(stack[1, 0].numpy(), GREY[::-1])


def test_one_colour_picture_makes_a_stack_rgb():
    stack = pictures.stack([GREY, COLOUR])
    assert stack.shape == (2, 3, 6, 5)
    assert stack.is_contiguous()
    for channel in range(3):
        np.testing.assert_array_equal(stack[0, channel].numpy(), GREY)
    np.testing.assert_array_equal(stack[1].numpy(), COLOUR.transpose(2, 0, 1))
