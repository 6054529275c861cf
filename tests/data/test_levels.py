"""Grey values of more than 8 bits become 0 to 255 by one rule for a whole collection."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from selftaught import data
from selftaught.data import levels, loading, pictures
from selftaught.data.preparation import Preparation
from selftaught.errors import InputError
from tests.data.blobs import collection
from tests.data.conftest import encode, random_pictures


def _save(values, kind="TIFF", **options):
    buffer = io.BytesIO()
    if values.dtype == np.dtype(">u2"):
        picture = Image.frombytes("I;16B", values.shape[::-1], values.tobytes())
    else:
        picture = Image.fromarray(values)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _values(count, low, high, dtype=np.uint16, size=(12, 10), seed=0):
    random = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.floating):
        found = random.uniform(low, high, (count, *size)).astype(dtype)
    else:
        found = random.integers(low, high + 1, (count, *size)).astype(dtype)
    found[:, 0, 0], found[:, 0, 1] = low, high
    return found


def _expected(values, black, white):
    """The definition: to the nearest of 256 levels, clipped."""
    share = (np.asarray(values, dtype=np.longdouble) - black) / (np.longdouble(white) - black)
    return np.clip(np.floor(share * 255 + 0.5), 0, 255).astype(int)


@pytest.fixture
def load(monkeypatch):
    def load(train, test, **options):
        monkeypatch.setattr(
            loading, "open_source", lambda _, split_by=None: collection(train, test, **options)
        )
        return data.load("x", **({"memory": options["memory"]} if "memory" in options else {}))

    return load


@pytest.mark.parametrize(
    ("low", "high", "dtype", "kind"),
    [
        (0, 4095, np.uint16, "PNG"),  # a detector of 12 bits
        (117, 3020, np.uint16, "TIFF"),
        (117, 3020, ">u2", "TIFF"),
        (0, 65535, np.uint16, "PNG"),
        (-1000, 3071, np.int32, "TIFF"),  # Hounsfield units
        (0, 2**31 - 1, np.int32, "TIFF"),
        (-0.25, 0.75, np.float32, "TIFF"),
    ],
)
def test_the_range_of_the_training_part_becomes_black_to_white_in_all_parts(load, low, high, dtype, kind):
    train, test = _values(6, low, high, dtype), _values(4, low, high, dtype, seed=1)
    found = load([_save(picture, kind) for picture in train], [_save(picture, kind) for picture in test])
    assert found.levels == (low, high)
    for images, values in ((found.train_images, train), (found.test_images, test)):
        assert images.shape[1] == 1
        assert np.abs(images[:, 0].numpy().astype(int) - _expected(values, low, high)).max() <= (
            dtype == np.float32
        )
    assert len(found.train_images.unique()) > 150
    [said] = [note for note in found.notes if "more than 8 bits" in note]
    assert f"{low:,} to {high:,}, the range of the training part, become black to white (0 to 255)" in said


def test_no_picture_is_scaled_by_a_range_of_its_own(load):
    dark, bright = np.full((6, 5), 1000, np.uint16), np.full((6, 5), 3000, np.uint16)
    found = load([_save(dark), _save(bright)] * 2, [_save(dark), _save(bright)])
    assert found.levels == (1000, 3000)
    assert found.test_images[:, 0, 0, 0].tolist() == [0, 255]
    flat = load([_save(dark)] * 4, [_save(dark)] * 2, key="flat")
    assert flat.train_images.unique().tolist() == [0]


def test_the_test_part_has_no_say_and_what_goes_beyond_is_told(load):
    train, test = _values(6, 100, 1000), _values(4, 100, 5000, seed=1)
    test[3] = 500
    found = load(list(map(_save, train)), list(map(_save, test)))
    assert found.levels == (100, 1000)
    assert (found.test_images[:, 0].numpy() == _expected(test, 100, 1000)).all()
    assert any("3 of the other 4 pictures go beyond and are clipped" in note for note in found.notes)


def test_a_few_hot_pixels_do_not_make_all_others_black(load):
    train = _values(6, 0, 4095, size=(64, 64))
    train[::2, 5, 5] = 65535
    found = load(list(map(_save, train)), list(map(_save, train[:2])))
    assert found.levels[0] < 10
    assert 4050 < found.levels[1] <= 4095
    assert len(found.train_images.unique()) == 256
    assert any("a few pixels have values as far as 0 or 65,535, which are clipped" in n for n in found.notes)
    # A bright spot of a hundred pixels is a thing, not a fault.
    train[0, 10:20, 10:20] = 65535
    assert load(list(map(_save, train)), list(map(_save, train[:2])), key="spot").levels == (0, 65535)


def test_among_pictures_of_8_bits_the_number_of_bits_decides(load):
    grey = random_pictures(3, (12, 10), channels=1)
    deep = _values(3, 7, 4000)
    found = load([*grey, *map(_save, deep)], [grey[0], _save(deep[0])])
    assert found.levels == (0, 4095)
    np.testing.assert_array_equal(found.train_images[:3, 0].numpy(), np.stack(grey))
    assert (found.train_images[3:, 0].numpy() == _expected(deep, 0, 4095)).all()
    assert any(
        "4 of 8 pictures (such as picture 3) have grey values of more than 8 bits, up to 4,000: 0 to 4,095 become "
        "black to white" in note
        for note in found.notes
    )
    colour = load(
        [*random_pictures(3), *(_save(_values(1, 0, 65000)[0]) for _ in range(3))], None, key="colour"
    )
    assert (colour.levels, colour.channels) == ((0, 65535), 3)


@pytest.mark.parametrize("values", [_values(2, 0, 1, np.float32), _values(2, -5, 900, np.int32)])
def test_among_pictures_of_8_bits_values_without_a_white_are_refused(load, values):
    with pytest.raises(
        InputError, match=r"picture 2\) have values from .* the others have 8 bits: .*convert all"
    ):
        load([*random_pictures(2), *map(_save, values)], random_pictures(2))


def test_values_that_are_no_numbers_are_named(load):
    values = _values(4, 0, 1, np.float32)
    values[2, 3, 3] = np.nan
    with pytest.raises(InputError, match=r"picture 2: .*some of its values are infinite or no numbers"):
        load(list(map(_save, values)), list(map(_save, values[:1])))


def test_unsigned_32_bits_keep_their_upper_half():
    values = np.array([[0, 2**31 - 1], [2**31, 2**32 - 1]], np.uint32)
    blob = bytearray(_save(values.view(np.int32)))
    # Pillow writes signed values: tag 339 (sample format), type 3 (short), one value, 2 (signed) becomes 1.
    place = blob.index(b"\x53\x01\x03\x00\x01\x00\x00\x00\x02")
    blob[place + 8] = 1
    with Image.open(io.BytesIO(blob)) as picture:
        np.testing.assert_array_equal(levels.values(picture), values)


def test_streamed_or_not_the_pictures_are_the_same(load):
    train, test = (list(map(_save, _values(5, 100, 3000, seed=seed))) for seed in (0, 1))
    held = load(train, test)
    loading_source = collection(train, test)
    streamed = data.load("x", memory=0)
    assert held.fingerprint == streamed.fingerprint
    assert held.levels == streamed.levels
    assert torch.equal(held.train_images, streamed.train_images[:])
    assert loading_source.key == "key"


def test_a_finished_runs_levels_are_used_as_they_are(load):
    new = _values(2, 0, 60000)
    blob = _save(new[0])
    array = pictures.decode(blob, Preparation(levels=(100, 3000)))
    assert (array == _expected(new[0], 100, 3000)).all()
    # A run from before: 65535 is white.
    assert (pictures.decode(blob, Preparation()) == _expected(new[0], 0, 65535)).all()
    load(list(map(_save, new)), list(map(_save, new)))
    assert data.load("x", preparation=Preparation(levels=levels.WHOLE)).levels == levels.WHOLE


def test_a_picture_of_8_bits_for_a_run_of_more_is_refused_unless_white_is_known():
    grey = encode(random_pictures(1, channels=1)[0])
    with pytest.raises(
        ValueError, match=r"8 bits, but the network .* 100 to 3000 became black to white: give it as"
    ):
        pictures.decode(grey, Preparation(levels=(100, 3000)))
    for white in (1023, 4095, 65535):
        assert (pictures.decode(grey, Preparation(levels=(0, white))) == pictures.decode(grey)).all()
