import base64
import io

import numpy as np
import pytest
from PIL import Image

from selftaught.report import pixels


def decode(uri: str) -> Image.Image:
    head, _, content = uri.partition(",")
    kind = head.removeprefix("data:image/").removesuffix(";base64")
    image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    assert image.format.lower() == kind
    return image


def test_small_pictures_are_kept_to_the_pixel():
    grey = np.arange(48, dtype=np.uint8).reshape(1, 6, 8)
    np.testing.assert_array_equal(np.asarray(decode(pixels.picture(grey))), grey[0])
    colour = np.arange(3 * 48, dtype=np.uint8).reshape(3, 6, 8)
    np.testing.assert_array_equal(np.asarray(decode(pixels.picture(colour))), colour.transpose(1, 2, 0))


def test_large_photographs_are_made_smaller():
    noise = np.random.default_rng(0).integers(0, 256, (3, 600, 300), dtype=np.uint8)
    uri = pixels.picture(noise)
    assert decode(uri).size == (96, 192)
    assert len(uri) < 30_000


def test_a_map_is_red_where_it_supports_blue_where_it_opposes_and_clear_at_zero():
    image = decode(pixels.saliency(np.array([[2.0, -2.0], [0.0, 1.0]], np.float32), 2.0)).convert("RGBA")
    pixel = np.asarray(image).astype(int)
    red, blue, nothing, half = pixel[0, 0], pixel[0, 1], pixel[1, 0], pixel[1, 1]
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert (red[3], blue[3], nothing[3]) == (255, 255, 0)
    assert half[3] == pytest.approx(128, abs=1)
    assert tuple(half[:3]) == tuple(red[:3])


def test_maps_of_any_size_and_scale():
    assert len(pixels.saliency(np.random.default_rng(0).normal(size=(224, 224)), 3.0)) < 6_000
    assert decode(pixels.saliency(np.zeros((3, 500)), 0.0)).size == (56, 1)
    assert np.asarray(decode(pixels.saliency(np.zeros((2, 2)), 0.0)).convert("RGBA"))[..., 3].max() == 0
    top = decode(pixels.saliency(np.full((1, 1), 9.0), 1.0)).convert("RGBA")  # beyond the scale
    assert np.asarray(top)[0, 0, 3] == 255


def test_a_matrix_shows_right_ones_and_mistakes_in_different_colours():
    confusion = np.array([[8, 2, 0], [0, 5, 5], [0, 0, 0]])  # no images of the last class
    pixel = np.asarray(decode(pixels.matrix(confusion))).astype(int)
    assert pixel.shape == (3, 3, 4)
    assert pixel[0, 0, 2] > pixel[0, 0, 0]
    assert pixel[0, 1, 0] > pixel[0, 1, 2]
    assert pixel[1, 2, 3] == 255  # the worst mistake
    assert 0 < pixel[0, 1, 3] < 255
    assert pixel[2, :, 3].tolist() == [0, 0, 0]
    assert decode(pixels.matrix(np.eye(1000, dtype=np.int64))).size == (200, 200)
    assert len(pixels.matrix(np.ones((1000, 1000), np.int64))) < 5_000
