"""Random parts are cut from pictures as they were, not from pictures that have a network's input size already."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from selftaught import data
from selftaught.data import augment, loading
from selftaught.data.batches import Batches
from selftaught.data.decoding import Format
from selftaught.data.originals import Decoded, Held, Uncut
from selftaught.data.preparation import Preparation
from selftaught.data.sampling import seeded
from selftaught.errors import InputError
from selftaught.training import presets
from tests.data.blobs import collection
from tests.data.conftest import encode, random_pictures

SIZES = [(90, 70), (16, 40), (40, 16), (12, 9), (24, 24), (30, 200)]


def _photographs():
    return [random_pictures(1, size, seed=i)[0] for i, size in enumerate(SIZES)]


@pytest.fixture
def load(monkeypatch):
    found = collection(_photographs(), random_pictures(2, (20, 20)))
    monkeypatch.setattr(loading, "open_source", lambda _, split_by=None: found)

    def load(memory=None, **options):
        return data.load("x", 12, preparation=Preparation(**options), memory=memory, for_crops=True)

    load.found = found
    return load


def _batches(images, seed=3, **options):
    options = {"flip": True, "min_scale": 0.25, "originals": images.originals, **options}
    return Batches(images.train_images, images.train_labels, 4, images.mean, images.std, seed=seed, **options)


def test_stretched_pictures_are_kept_at_twice_the_input_or_as_they_were():
    uncut = Uncut(Format((3, 12, 10)))
    assert uncut.sizes(torch.tensor(SIZES)).tolist() == [
        [24, 20], [16, 20], [24, 16], [12, 9], [24, 20], [24, 20]
    ]  # fmt: skip
    # A part as wide and as high as the picture is what evaluation shows.
    kept = uncut.sizes(torch.tensor(SIZES)).double()
    assert torch.equal(uncut.proportions(torch.tensor(SIZES)), kept[:, 1] / kept[:, 0])


def test_pictures_whose_middle_is_cut_out_keep_their_proportions_within_bounds():
    uncut = Uncut(Format((3, 12, 12), crop=0.875))
    sizes = uncut.sizes(torch.tensor([*SIZES, (4000, 100)])).tolist()
    assert sizes == [[31, 24], [16, 40], [40, 16], [12, 9], [24, 24], [24, 96], [96, 24]]
    proportions = uncut.proportions(torch.tensor([*SIZES, (4000, 100)]))
    # Square in the original, where the kept one is as wide and high, or made narrower in one direction alone.
    assert (proportions[1:5] - 1).abs().max() < 1e-12
    assert proportions[5] == pytest.approx((96 / 200) / (24 / 30))
    assert proportions[6] == pytest.approx((24 / 100) / (96 / 4000))
    assert str(uncut) == "24x24 pixels at the shorter side"


def test_a_part_of_a_quarter_is_the_originals_pixel_by_pixel():
    pictures = random_pictures(3, (64, 64))
    held = Held(
        torch.from_numpy(np.stack(pictures).reshape(-1)),
        torch.arange(3) * 64 * 64 * 3,
        torch.full((3, 2), 64),
        torch.ones(3, dtype=torch.float64),
        3,
    )
    boxes = augment.Boxes(
        *torch.tensor([[0, 5, 32], [7, 0, 32], [32] * 3, [32] * 3]), torch.tensor([0, 0, 1]) > 0
    )
    [parts] = held.cut([torch.arange(3)], [boxes], (32, 32))
    expected = [pictures[0][:32, 7:39], pictures[1][5:37, :32], pictures[2][32:, 63:31:-1]]
    np.testing.assert_array_equal(parts.numpy(), np.stack(expected).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("options", [{}, {"crop": 0.875, "resample": "bicubic"}])
def test_batches_show_parts_of_the_originals_as_pillow_cuts_them(load, options):
    images = load(**options)
    x = torch.cat([x for x, _ in _batches(images).epoch(1)])
    generator = seeded(3, 1)
    order = torch.randperm(len(SIZES), generator=generator)
    uncut = Uncut(Format((3, 12, 12), **options))
    found = torch.tensor(SIZES)[order]
    boxes = augment.draw_boxes(
        len(SIZES), uncut.sizes(found), generator, 0.25, True, uncut.proportions(found)
    )
    filters = Image.Resampling.BICUBIC if options else Image.Resampling.BILINEAR
    for shown, picture, (height, width), *box in zip(
        x, order.tolist(), uncut.sizes(found).tolist(), *boxes, strict=True
    ):
        top, left, h, w, flip = map(int, box)
        assert 0 <= top <= top + h <= height
        assert 0 <= left <= left + w <= width
        kept = Image.fromarray(_photographs()[picture])
        if (height, width) != SIZES[picture]:
            kept = kept.resize((width, height), filters)
        part = kept.crop((left, top, left + w, top + h)).resize((12, 12), Image.Resampling.BILINEAR)
        part = np.asarray(ImageOps.mirror(part) if flip else part).transpose(2, 0, 1)
        mean, std = (np.array(values)[:, None, None] for values in (images.mean, images.std))
        assert np.abs((shown.numpy() * std + mean) * 255 - part).max() < 1.01  # Pillow rounds once per axis


def test_parts_of_long_pictures_are_not_distorted_where_evaluation_does_not():
    sizes = torch.tensor([[100, 300]]).expand(2000, 2)
    for crop, low, high in ((0.875, 3 / 4, 4 / 3), (None, 3 * 3 / 4, 3 * 4 / 3)):
        proportions = Uncut(Format((3, 200, 200), crop=crop)).proportions(sizes)
        boxes = augment.draw_boxes(2000, sizes, seeded(0, 0), 0.25, True, proportions)
        ratio = boxes.widths / boxes.heights
        assert low * 0.96 < ratio.min() < low * 1.05
        assert high * 0.95 < ratio.max() < high * 1.04
        share = boxes.widths * boxes.heights / 30_000
        assert share.min() > 0.24
        assert share.max() > (0.95 if crop is None else 0.3)


@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize("options", [{}, {"crop": 0.875}])
def test_held_or_decoded_each_time_the_batches_are_the_same_from_anywhere(
    monkeypatch, load, options, processes
):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", processes)
    held, streamed = load(**options), load(memory=0, **options)
    assert isinstance(held.originals, Held)
    assert isinstance(streamed.originals, Decoded)
    assert held.fingerprint == streamed.fingerprint
    state = torch.get_rng_state()
    expected = list(_batches(held).epoch(2))
    for images in (held, streamed):
        for first in (0, 1):
            got = list(_batches(images).epoch(2, first))
            for (x, y), (z, w) in zip(got, expected[first:], strict=True):
                assert torch.equal(x, z)
                assert torch.equal(y, w)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("memory", [None, 0])
def test_images_and_originals_are_made_of_one_decoding(load, cache_folder, memory):
    both = load(memory)
    # Once for the header.
    assert load.found.train.pictures.reads == 2 * len(SIZES)
    assert load.found.test.pictures.reads == 2 * 2
    kept = [part.clone() for part in (both.train_images[:], both.test_images[:])]
    cut = [x for x, _ in _batches(both).epoch(0)]
    del both
    for path in cache_folder.iterdir():
        path.unlink()
    plain = data.load("x", 12, memory=memory)
    reads = load.found.train.pictures.reads
    apart = load(memory)
    assert load.found.train.pictures.reads == reads + len(SIZES)
    for images in (plain, apart):
        assert torch.equal(images.train_images[:], kept[0])
        assert torch.equal(images.test_images[:], kept[1])
    for x, (expected, _) in zip(cut, _batches(apart).epoch(0), strict=True):
        assert torch.equal(x, expected)


def test_originals_of_one_filter_are_not_taken_for_those_of_another(load, cache_folder):
    load()
    after = load(resample="bicubic").originals.pixels.clone()
    for path in cache_folder.iterdir():
        path.unlink()
    assert torch.equal(load(resample="bicubic").originals.pixels, after)
    assert not torch.equal(load().originals.pixels, after)


def test_pictures_that_cannot_be_decoded_are_all_named_with_originals_as_well(load):
    for bad in (1, 4):
        load.found.train.pictures.blobs[bad] = load.found.train.pictures.blobs[bad][:60]
    with pytest.raises(InputError, match=r"picture 1.*picture 4"):
        load()


def test_the_second_time_nothing_is_decoded(load):
    first = load()
    reads = load.found.train.pictures.reads
    assert torch.equal(load().originals.pixels, first.originals.pixels)
    assert load.found.train.pictures.reads == reads
    assert first.notes[-1] == (
        "random crops are cut from the original pictures, kept at up to 24x24 pixels: 0.0075 MiB"
    )
    assert any("more than the 0 GiB that may be used" in note for note in load(memory=0).notes)


def test_a_picture_that_changed_meanwhile_is_named(monkeypatch, load):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", "0")
    images = load(memory=0)
    load.found.train.pictures.blobs[4] = encode(random_pictures(1, SIZES[4], seed=99)[0])
    with pytest.raises(InputError, match="picture 4 has changed while it was being used"):
        list(_batches(images).epoch(0))


def test_only_runs_that_cut_parts_keep_originals_and_are_named_after_it(tmp_path):
    folder = tmp_path / "pictures"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i, picture in enumerate(random_pictures(6, (40, 30), seed=ord(name))):
            (folder / name / f"{i}.png").write_bytes(encode(picture))
    plain = presets.resolve(str(folder), "ce", augment="crop", image_size=8)
    assert presets.data_of(plain).originals is None
    assert "crop_originals" not in plain.canonical()
    photo = presets.resolve(str(folder), "ce", augment="photo", image_size=8)
    assert photo.crop_originals
    assert photo.data_fingerprint == plain.data_fingerprint
    images = presets.data_of(photo)
    assert images.originals.sizes.tolist() == [[16, 16]] * len(images.train_labels)
    assert '"crop_originals":true' in photo.canonical()
    older = photo.model_copy(update={"crop_originals": False})  # of a record from before
    assert older.trial_id != photo.trial_id
    assert older.differences(photo) == ["crop_originals: False -> True"]
    assert presets.data_of(older).originals is None


def test_grey_pictures_are_cut_as_well(monkeypatch):
    grey = random_pictures(4, (30, 40), channels=1)
    monkeypatch.setattr(loading, "open_source", lambda _, split_by=None: collection(grey, grey[:2]))
    images = data.load("x", 10, for_crops=True)
    x = torch.cat([x for x, _ in _batches(images).epoch(0)])
    assert x.shape == (4, 1, 10, 10)
    buffer = io.BytesIO()
    Image.fromarray(grey[0]).resize((20, 20), Image.Resampling.BILINEAR).save(buffer, "PNG")
    kept = np.asarray(Image.open(buffer)).reshape(-1)
    np.testing.assert_array_equal(images.originals.pixels[:400].numpy(), kept)
