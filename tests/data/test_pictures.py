import io

import numpy as np
import pytest
import torch
from PIL import Image

from selftaught.data import pictures
from tests.data.conftest import encode, random_pictures

COLOUR, GREY = random_pictures(1, (6, 5))[0], random_pictures(1, (6, 5), channels=1)[0]


def _save(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


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
    ("mode", "shape"), [("1", (6, 5)), ("L", (6, 5)), ("LA", (6, 5)), ("P", (6, 5, 3)), ("RGBA", (6, 5, 3))]
)
def test_modes_become_grey_or_rgb(mode, shape):
    array = pictures.decode(_save(Image.fromarray(COLOUR).convert(mode)))
    assert (array.shape, array.dtype) == (shape, np.uint8)


def test_transparency_is_dropped():
    seen = np.dstack([COLOUR, np.zeros((6, 5), np.uint8)])
    np.testing.assert_array_equal(pictures.decode(encode(seen)), COLOUR)


def test_a_photograph_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees clockwise to be upright
    array = pictures.decode(_save(Image.fromarray(COLOUR), exif=exif))
    np.testing.assert_array_equal(array, np.rot90(COLOUR, -1))


def test_resizing_is_pillows_bilinear():
    big = random_pictures(1, (12, 20))[0]
    expected = np.asarray(Image.fromarray(big).resize((8, 5), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(pictures.decode(encode(big), (5, 8)), expected)


def test_deep_pixels_are_refused_not_clipped():
    deep = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    with pytest.raises(ValueError, match=r"more than 8 bits.*convert"):
        pictures.decode(_save(deep))


@pytest.mark.parametrize("blob", [b"", b"not a picture", encode(COLOUR)[:60], encode(COLOUR, "BMP")[:-20]])
def test_what_is_no_picture_is_refused_with_a_reason(blob):
    with pytest.raises(ValueError, match=r".") as caught:
        pictures.decode(blob)
    assert "\n" not in str(caught.value)


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
