import re

import psutil
import pytest
import torch

from selftaught.data import sizing
from selftaught.data.decoding import Survey
from selftaught.data.preparation import Preparation
from selftaught.errors import InputError

MIXED = [(48, 64), (640, 480), (100, 80), (100, 80)]


def _survey(sizes, grey=False):
    none = torch.zeros(len(sizes), dtype=torch.bool)
    grey = torch.tensor(grey).expand(len(sizes))
    return Survey(torch.tensor(sizes, dtype=torch.int32), grey, none, none, none, torch.zeros(len(sizes), 4))


@pytest.mark.parametrize(
    ("asked", "model", "usual", "sizes", "size", "said"),
    [
        ((9, 8), (7, 7), (6, 6), MIXED, (9, 8), "of 3 sizes, .* stretched to 9x8, not the model's own 7x7"),
        ((8, 8), None, (6, 6), [(64, 64)] * 4, (8, 8), "of 64x64 pixels .* are resized to 8x8, as --image-size asks"),
        ((8, 8), (7, 7), (6, 6), [(8, 8)] * 4, (8, 8), None),
        (None, (7, 7), (6, 6), [(7, 7)] * 3, (7, 7), None),
        (None, None, (6, 6), MIXED, (6, 6), None),
        (None, None, None, [(28, 28)] * 4, (28, 28), None),
        (None, None, None, [(64, 3)] * 4, (64, 3), None),
        (None, (7, 7), None, MIXED, (7, 7), "of 3 sizes, from 48x64 to 640x480 .* stretched to 7x7, as the model asks"),
        (None, None, None, MIXED, (64, 64), "of 3 sizes, from 48x64 to 640x480 .* stretched to 64x64: --image-size"),
        (None, None, None, [(480, 640)] * 4, (64, 64), "of 480x640 pixels .* are stretched to 64x64: --image-size"),
        (None, None, None, [(65, 20)] * 2, (20, 20), "of 65x20 pixels .* are stretched to 20x20"),
        (None, None, None, [(8, 9), (20, 12), (30, 31)], (12, 12), "from 8x9 to 30x31"),
    ],
)  # fmt: skip
def test_who_decides_on_the_size_and_what_is_said(asked, model, usual, sizes, size, said):
    form, note = sizing.settle(asked, Preparation(size=model), usual, _survey(sizes))
    assert form.shape == (3, *size)
    if said is None:
        assert note is None
    else:
        assert re.search(said, note)
        assert "\n" not in note


@pytest.mark.parametrize(
    ("grey", "asked", "channels"), [(True, None, 1), (False, None, 3), (True, 3, 3), (False, 1, 1)]
)
def test_all_grey_is_grey_unless_the_model_says(grey, asked, channels):
    form, _ = sizing.settle(None, Preparation(channels=asked), None, _survey([(8, 8)], grey))
    assert form.shape == (channels, 8, 8)


def test_one_colour_picture_makes_all_colour():
    survey = _survey([(8, 8)] * 3, [True, False, True])
    assert sizing.settle(None, Preparation(), None, survey)[0].shape == (3, 8, 8)


def test_how_the_model_crops_is_kept_and_said():
    form, note = sizing.settle(None, Preparation((7, 7), crop=0.9, resample="bicubic"), None, _survey(MIXED))
    assert (form.crop, form.resample) == (0.9, "bicubic")
    assert note.endswith(
        "scaled and cropped to 7x7 (the middle, 90 % of the shorter side), as the model asks"
    )


@pytest.mark.parametrize(
    ("crop", "stretch", "said"),
    [
        (0.875, False, "scaled and cropped to 8x8 (the middle, 87.5 % of the shorter side)"),
        (1.0, False, "scaled and cropped to 8x8 (the middle, all of the shorter side)"),
        (0.8, True, "stretched and cropped to 8x8 (the middle, 80 % of each side)"),
        (1.0, True, "stretched to 8x8"),
    ],
)
def test_the_size_that_was_asked_for_keeps_the_models_crop_and_is_said(crop, stretch, said):
    asks = Preparation((7, 7), crop=crop, stretch=stretch)
    form, note = sizing.settle((8, 8), asks, None, _survey(MIXED))
    assert (form.crop, form.stretch) == (crop, stretch)
    assert note.endswith(f"{said}, not the model's own 7x7")


def test_the_budget_is_the_callers_then_the_environments_then_half_of_what_is_free(monkeypatch):
    monkeypatch.delenv("SELFTAUGHT_MEMORY", raising=False)
    assert 0 < sizing.budget() < psutil.virtual_memory().total
    monkeypatch.setenv("SELFTAUGHT_MEMORY", "0.5")
    assert sizing.budget() == 2**29
    assert sizing.budget(7) == 7
    assert sizing.budget(0) == 0


@pytest.mark.parametrize("value", ["much", "", "nan", "inf", "-1", "4 GiB"])
def test_a_budget_that_is_none_is_refused(monkeypatch, value):
    monkeypatch.setenv("SELFTAUGHT_MEMORY", value)
    with pytest.raises(InputError, match=f"SELFTAUGHT_MEMORY is '{value}' but should be"):
        sizing.budget()
