import hashlib
import os

import numpy as np
import pytest
import torch

from selftaught.data import decoding, workers
from selftaught.data.decoding import Format
from selftaught.errors import InputError
from tests.data.blobs import Blobs, photographs
from tests.data.conftest import encode, random_pictures

COLOUR = random_pictures(150)
GREY = random_pictures(3, channels=1)
FORM = Format((3, 6, 5))


def _quiet(done, total):
    pass


def _decoded(source, form, keep, on_progress=_quiet):
    """The facts of each picture and the pixels, (N, K, H, W)."""
    [made], endless = decoding.decode_all(source, [(form, keep)], on_progress)
    return decoding.Facts(*made.facts, endless), None if made.pixels is None else made.pixels.view(
        -1, *form.shape
    )


def test_the_survey_reads_sizes_and_kinds():
    source = Blobs([encode(COLOUR[0]), encode(GREY[0]), encode(random_pictures(1, (9, 2))[0])])
    survey = decoding.survey(source, _quiet)
    assert survey.sizes.tolist() == [[6, 5], [6, 5], [9, 2]]
    assert survey.grey.tolist() == [False, True, False]


def test_facts_and_pixels_are_those_of_each_picture():
    facts, pixels = _decoded(Blobs(map(encode, COLOUR)), FORM, True)
    expected = np.stack(COLOUR).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(pixels.numpy(), expected)
    np.testing.assert_array_equal(facts.sums.numpy(), expected.sum((2, 3)))
    np.testing.assert_array_equal(facts.squares.numpy(), (expected.astype(np.int64) ** 2).sum((2, 3)))
    digest = hashlib.sha256(b"(3, 6, 5)" + expected[77].tobytes()).digest()
    assert facts.digests[77].numpy().tobytes() == digest
    assert len(facts.digests.unique(dim=0)) == 150


def test_grey_and_colour_become_what_the_format_says():
    mixed = Blobs([encode(COLOUR[0]), encode(GREY[0])])
    _, pixels = _decoded(mixed, FORM, True)
    for channel in range(3):
        np.testing.assert_array_equal(pixels[1, channel].numpy(), GREY[0])
    _, pixels = _decoded(mixed, Format((1, 6, 5)), True)
    np.testing.assert_array_equal(pixels[1, 0].numpy(), GREY[0])


def test_the_same_pixels_have_the_same_digest_whatever_the_file():
    source = Blobs([encode(COLOUR[0], kind) for kind in ("PNG", "BMP", "TIFF")])
    facts, _ = _decoded(source, FORM, False)
    assert len(facts.digests.unique(dim=0)) == 1
    wide, _ = _decoded(Blobs([encode(np.zeros((2, 8), np.uint8))]), Format((1, 2, 8)), False, _quiet)
    high, _ = _decoded(Blobs([encode(np.zeros((8, 2), np.uint8))]), Format((1, 8, 2)), False, _quiet)
    assert not torch.equal(wide.digests, high.digests)


def test_without_keeping_pixels_the_facts_are_the_same():
    source = Blobs(photographs(70))
    with_pixels, pixels = _decoded(source, FORM, True)
    facts, nothing = _decoded(source, FORM, False)
    assert nothing is None
    assert pixels.shape == (70, 3, 6, 5)
    assert all(torch.equal(*pair) for pair in zip(facts, with_pixels, strict=True))


class _FromElsewhere(Blobs):
    """Pictures that only other processes can read."""

    def __init__(self, blobs):
        super().__init__(blobs)
        self.home = os.getpid()

    def read(self, index):
        if index >= 64 and os.getpid() == self.home:
            raise AssertionError("read in this process")
        return super().read(index)


def test_many_pictures_are_decoded_by_other_processes_with_the_same_result(monkeypatch):
    blobs = photographs(150)
    here = _decoded(Blobs(blobs), FORM, True)
    seen = decoding.survey(Blobs(blobs), _quiet)
    monkeypatch.setattr(workers, "_PATIENCE", 0.0)
    monkeypatch.setenv("SELFTAUGHT_WORKERS", "2")
    facts, pixels = _decoded(_FromElsewhere(blobs), FORM, True)
    assert torch.equal(pixels, here[1])
    assert all(torch.equal(*pair) for pair in zip(facts, here[0], strict=True))
    survey = decoding.survey(_FromElsewhere(blobs), _quiet)
    assert all(torch.equal(*pair) for pair in zip(survey, seen, strict=True))


def test_progress_reaches_the_end():
    calls = []
    _decoded(Blobs(map(encode, COLOUR)), FORM, False, lambda *call: calls.append(call))
    assert calls == [(64, 150), (128, 150), (150, 150)]


ALSO = "picture 120: the picture cannot be decoded \\(it is not a picture[^;]*: remove or replace it"


@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.parametrize(
    ("blob", "complaint"),
    [
        (
            b"",
            f"^picture 100: the picture cannot be decoded \\(it is empty\\): remove or replace it; {ALSO}$",
        ),
        (b"text", f"^picture 100: .*not a picture.*remove or replace it; {ALSO}$"),
        (encode(COLOUR[0], "BMP")[:-9], f"^picture 100: .*truncated.*remove or replace it; {ALSO}$"),
        (None, "^picture 100 is gone$"),
    ],
)
def test_what_cannot_be_decoded_is_named(monkeypatch, blob, complaint, processes):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", "2")
    monkeypatch.setattr(workers, "_PATIENCE", 0.0 if processes else 60.0)
    blobs = [encode(picture) for picture in COLOUR]
    blobs[100], blobs[120] = blob, b"also broken"
    with pytest.raises(InputError, match=complaint):
        _decoded(Blobs(blobs), FORM, True)


def test_thirty_broken_pictures_are_one_refusal():
    blobs = [encode(picture) for picture in COLOUR]
    for position in range(0, 150, 5):
        blobs[position] = b"broken"
    for look in (
        lambda: decoding.survey(Blobs(blobs), _quiet),
        lambda: _decoded(Blobs(blobs), FORM, True),
    ):
        with pytest.raises(InputError, match=r"^picture 0: .*; picture 20: .* replace it; and 25 more$"):
            look()
