import pickle

import numpy as np
import pytest
import torch

from selftaught.data import decoding, streaming
from selftaught.data.decoding import Format
from selftaught.data.streaming import Selected, Streamed
from selftaught.errors import InputError
from tests.data.blobs import Blobs
from tests.data.conftest import encode, random_pictures

PICTURES = random_pictures(12)
PIXELS = torch.from_numpy(np.stack(PICTURES).transpose(0, 3, 1, 2).copy())
POSITIONS = torch.tensor([1, 2, 5, 7, 11])
CHOICES = [
    slice(1, 4),
    torch.tensor([4, 0, 0]),
    slice(0, 0),
    torch.tensor([], dtype=torch.int64),
    slice(None),
]


def _streamed(blobs=None):
    digests = torch.from_numpy(decoding.digest(PIXELS.numpy()))
    return Streamed(Blobs(blobs or map(encode, PICTURES)), Format((3, 6, 5)), POSITIONS, digests)


@pytest.mark.parametrize("images", [Selected(PIXELS, POSITIONS), _streamed()], ids=["selected", "streamed"])
@pytest.mark.parametrize("processes", ["0", "2"])
def test_images_are_those_at_the_positions(monkeypatch, images, processes):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", processes)
    expected = PIXELS[POSITIONS]
    assert images.shape == expected.shape
    assert len(images) == 5
    for choice, fetched in zip(CHOICES, streaming.fetch(images, CHOICES), strict=True):
        assert torch.equal(images[choice], expected[choice])
        assert torch.equal(fetched, expected[choice])
        assert fetched.dtype == torch.uint8


def test_streamed_images_are_decoded_by_other_processes_when_fetched(monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", "2")
    images = _streamed()
    assert len(list(streaming.fetch(images, CHOICES))) == len(CHOICES)
    assert images.source.reads == 0


def test_nothing_is_read_before_it_is_asked_for():
    images = _streamed()
    assert (images.shape, images.source.reads) == ((5, 3, 6, 5), 0)
    images[torch.tensor([3])]
    assert images.source.reads == 1


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_picture_that_changed_meanwhile_is_named(monkeypatch, processes):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", processes)
    blobs = [encode(picture) for picture in PICTURES]
    blobs[5] = encode(255 - PICTURES[5])
    images = _streamed(blobs)
    assert torch.equal(images[0:2], PIXELS[POSITIONS[:2]])
    with pytest.raises(InputError, match="has changed while it was being used") as refusal:
        list(streaming.fetch(images, [slice(0, 2), slice(2, 5)]))
    assert images.source.name(5) in str(refusal.value)


def test_streamed_images_can_be_sent_to_another_process():
    assert torch.equal(pickle.loads(pickle.dumps(_streamed()))[:], PIXELS[POSITIONS])


def test_a_picture_that_broke_meanwhile_is_named(monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", "2")
    images = _streamed([*map(encode, PICTURES[:7]), b"broken", *map(encode, PICTURES[8:])])
    fetched = streaming.fetch(images, [slice(0, 2), slice(2, 5)])
    assert torch.equal(next(fetched), PIXELS[[1, 2]])
    with pytest.raises(InputError, match=r"^picture 7: the picture cannot be decoded") as caught:
        next(fetched)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("positions", [range(12), range(3, 7), range(5, 6), range(0)])
def test_a_run_of_images_is_a_view(positions):
    part = streaming.part(PIXELS, torch.tensor(list(positions), dtype=torch.int64))
    assert torch.equal(part, PIXELS[list(positions)])
    assert part.untyped_storage().data_ptr() == PIXELS.untyped_storage().data_ptr()


def test_scattered_images_are_copied_only_if_they_are_few(monkeypatch):
    part = streaming.part(PIXELS, POSITIONS)
    assert isinstance(part, torch.Tensor)
    monkeypatch.setattr(streaming, "_COPIED_BYTES", 5 * 90 - 1)
    large = streaming.part(PIXELS, POSITIONS)
    assert isinstance(large, Selected)
    assert torch.equal(large[:], part)
