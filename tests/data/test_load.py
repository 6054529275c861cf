import hashlib
import io
import json
import multiprocessing
import socket

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from selftaught import data
from selftaught.data import decoding, loading
from selftaught.data.encoded import Part
from selftaught.data.preparation import Preparation
from selftaught.data.sources import open_source
from selftaught.data.streaming import Streamed
from selftaught.errors import InputError
from tests.data.blobs import Blobs, collection, photographs
from tests.data.conftest import encode, random_pictures, write_parquet


def _rows(images):
    return {image.numpy().tobytes() for image in images}


@pytest.fixture
def source(monkeypatch):
    """Lets `load` find a collection made by the test."""

    def become(found):
        monkeypatch.setattr(loading, "open_source", lambda name, split_by=None: found)
        return found

    return become


def test_every_name_has_a_summary():
    assert {"digits", "mnist", "cifar10"} <= set(data.names())
    for name in data.names():
        assert data.summary(name)
        assert "\n" not in data.summary(name)


def test_digits_whole(digits_once):
    digits = data.load("digits")
    assert (digits.name, digits.num_classes, digits.channels, digits.image_size) == (
        "digits",
        10,
        1,
        (16, 16),
    )
    assert (len(digits.train_labels), len(digits.val_labels), len(digits.test_labels)) == (1438, 0, 359)
    assert digits.val_images.shape == (0, 1, 16, 16)
    assert digits.train_images.dtype == digits.test_images.dtype == torch.uint8
    assert digits.train_labels.dtype == digits.val_labels.dtype == torch.int64


def test_train_size_is_a_stratified_choice(digits_once):
    whole, part = data.load("digits"), data.load("digits", train_size=500)
    assert len(part.train_labels) == 500
    shares = torch.bincount(whole.train_labels) * 500 / 1438
    assert (torch.bincount(part.train_labels) - shares).abs().max() < 1
    assert _rows(part.train_images) < _rows(whole.train_images)
    assert torch.equal(part.test_images, whole.test_images)


def test_validation_is_held_out_of_what_is_used(digits_once):
    used, split = data.load("digits", train_size=500), data.load("digits", train_size=500, val_fraction=0.2)
    assert (len(split.train_labels), len(split.val_labels)) == (400, 100)
    assert (torch.bincount(split.val_labels) - torch.bincount(used.train_labels) * 0.2).abs().max() < 1
    both = (
        torch.cat([split.train_images, split.val_images]),
        torch.cat([split.train_labels, split.val_labels]),
    )
    rejoined = sorted((x.numpy().tobytes(), int(y)) for x, y in zip(*both, strict=True))
    expected = zip(used.train_images, used.train_labels, strict=True)
    assert rejoined == sorted((x.numpy().tobytes(), int(y)) for x, y in expected)


def test_the_split_seed_decides(digits_once):
    options = {"train_size": 300, "val_fraction": 0.1}
    one, again, other = (data.load("digits", **options, split_seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.train_images, again.train_images)
    assert torch.equal(one.val_images, again.val_images)
    assert not torch.equal(one.train_images, other.train_images)
    assert torch.equal(one.test_images, other.test_images)


def test_the_fingerprint_follows_the_tensors(digits_once):
    def fingerprint(**options):
        return data.load("digits", **options).fingerprint

    different = [
        {},
        {"image_size": 20},
        {"train_size": 300},
        {"train_size": 300, "split_seed": 1},
        {"val_fraction": 0.1},
        {"val_fraction": 0.1, "split_seed": 1},
    ]
    assert len({fingerprint(**options) for options in different}) == len(different)
    assert data.load("digits", image_size=(20, 12)).train_images.shape == (1438, 1, 20, 12)
    for same in ({"split_seed": 5}, {"image_size": 16}, {"image_size": (16, 16)}, {"train_size": 1438}):
        assert fingerprint(**same) == fingerprint()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"train_size": 1439}, "train_size must be from 10.* to 1438.*got 1439"),
        ({"train_size": 9}, "train_size.*got 9"),
        ({"train_size": -1}, "train_size.*got -1"),
        ({"val_fraction": 1.0}, "val_fraction must be in \\[0, 1\\), got 1.0"),
        ({"val_fraction": -0.1}, "val_fraction.*got -0.1"),
        ({"val_fraction": float("nan")}, "val_fraction.*nan"),
        ({"val_fraction": 0.0001}, "val_fraction 0.0001 of 1438 images holds out 0"),
        ({"train_size": 20, "val_fraction": 0.9}, "holds out 18.*leave at least 10"),
        ({"image_size": 0}, "image_size.*got 0"),
        ({"image_size": (4, 4, 4)}, "image_size.*height, width"),
    ],
)
def test_values_out_of_range_are_refused(options, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        data.load("digits", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ask", [data.load, data.summary])
def test_an_unknown_name_is_refused(ask):
    with pytest.raises(InputError, match=r"unknown data.* 'cifar11'.*did you mean 'cifar10'"):
        ask("cifar11")


def test_without_a_test_part_a_stratified_share_is_set_aside(source):
    found = source(collection(random_pictures(40)))
    loaded = data.load("x", val_fraction=0.25, split_seed=3)
    assert [len(part) for part in (loaded.train_labels, loaded.val_labels, loaded.test_labels)] == [24, 8, 8]
    assert torch.bincount(loaded.test_labels).tolist() == [4, 4]
    assert loaded.test_part == "20 % set aside, stratified, split seed 3"
    assert loaded.notes == (f"no test part in the data: 8 of 40 images, {loaded.test_part}",)
    everything = [_rows(images) for images in (loaded.train_images, loaded.val_images, loaded.test_images)]
    assert sum(map(len, everything)) == len(set.union(*everything)) == len(found.train.pictures)
    half = data.load("x", test_fraction=0.5)
    assert (len(half.test_labels), half.test_part) == (20, "50 % set aside, stratified, split seed 0")


def test_the_test_part_depends_on_its_share_and_seed_alone(source):
    source(collection(random_pictures(40)))
    one, same = data.load("x"), data.load("x", train_size=10, val_fraction=0.5)
    assert torch.equal(one.test_images, same.test_images)
    assert not torch.equal(one.test_images, data.load("x", split_seed=1).test_images)


def test_the_sources_own_test_part_is_used_whole(source):
    source(collection(random_pictures(6), random_pictures(4, seed=1), notes=("read backwards",)))
    loaded = data.load("x", test_fraction=0.9)
    assert (len(loaded.train_labels), len(loaded.test_labels)) == (6, 4)
    assert (loaded.test_part, loaded.notes, loaded.duplicates) == ("the source's own", ("read backwards",), 0)


def test_a_wrong_option_is_refused_before_anything_is_decoded(source):
    found = source(collection(random_pictures(6)))
    for options in ({"test_fraction": 1.0}, {"val_fraction": 2}, {"train_size": 99}, {"image_size": -1}):
        with pytest.raises(InputError):
            data.load("x", **options)
    assert found.train.pictures.reads == 0


def test_copies_of_training_images_in_the_test_part_are_counted(source):
    train, test = random_pictures(8), random_pictures(4, seed=1)
    source(collection(train, [train[2], test[0], encode(train[5], "BMP"), test[1]]))
    loaded = data.load("x")
    assert loaded.duplicates == 2
    (note,) = loaded.notes
    assert note.startswith("2 of the 4 test images also occur in the training part")
    # Those held out count, those left out do not.
    assert data.load("x", val_fraction=0.75).duplicates == 2
    used = data.load("x", train_size=2)
    assert used.duplicates == len(_rows(used.train_images) & _rows(used.test_images)) < 2


def test_grey_pictures_are_grey_and_mixed_ones_are_coloured(source):
    grey, colour = random_pictures(4, channels=1), random_pictures(4)
    source(collection(grey))
    assert data.load("x").channels == 1
    assert data.load("x", preparation=Preparation(channels=3)).train_images.shape[1:] == (3, 6, 5)
    source(collection(grey, colour, key="other"))
    assert data.load("x").channels == 3


def test_the_model_prepares_images_its_way(source):
    source(collection(photographs(10), key="photographs"))
    asks = Preparation((12, 12), None, 0.9, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    loaded = data.load("x", preparation=asks)
    assert (loaded.image_size, loaded.crop, loaded.resample) == ((12, 12), 0.9, "bicubic")
    assert (loaded.mean, loaded.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert "of 10 sizes, from 20x30 to 29x39" in loaded.notes[0]
    assert "scaled and cropped to 12x12" in loaded.notes[0]
    user = data.load("x", image_size=16, preparation=asks)
    assert user.image_size == (16, 16)
    assert (
        "cropped to 16x16 (the middle, 90 % of the shorter side), not the model's own 12x12" in user.notes[0]
    )
    plain = data.load("x", image_size=12)
    assert plain.fingerprint != loaded.fingerprint


def test_a_models_colours_are_averaged_for_grey_images(source):
    source(collection(random_pictures(6, channels=1)))
    asks = Preparation(mean=(0.1, 0.2, 0.6), std=(0.5,))
    loaded = data.load("x", preparation=asks)
    assert loaded.mean == pytest.approx((0.3,))
    assert loaded.std == (0.5,)
    three = data.load("x", preparation=Preparation(channels=3, std=(0.5,)))
    assert three.std == (0.5, 0.5, 0.5)
    assert three.mean == tuple(data.channel_stats(three.train_images)[0])


def test_statistics_are_those_of_the_images_trained_with(source):
    source(collection(random_pictures(30)))
    loaded = data.load("x", train_size=16, val_fraction=0.25)
    assert (list(loaded.mean), list(loaded.std)) == data.channel_stats(loaded.train_images)


OPTIONS = {"image_size": 9, "train_size": 30, "val_fraction": 0.2, "split_seed": 4}


@pytest.mark.parametrize("warm", [False, True])
def test_streamed_data_is_the_same_data(source, monkeypatch, warm):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", "2")
    source(collection([*photographs(48), *photographs(2)]))
    if warm:
        data.load("x", **OPTIONS)
    streamed = data.load("x", memory=50 * 3 * 81 - 1, **OPTIONS)
    resident = data.load("x", memory=50 * 3 * 81, **OPTIONS)
    for part in ("train", "val", "test"):
        one, other = (getattr(d, f"{part}_images") for d in (streamed, resident))
        assert isinstance(one, Streamed)
        assert isinstance(other, torch.Tensor)
        assert one.shape == other.shape
        assert torch.equal(one[:], other)
        assert torch.equal(getattr(streamed, f"{part}_labels"), getattr(resident, f"{part}_labels"))
    for name in (
        "fingerprint",
        "mean",
        "std",
        "duplicates",
        "test_part",
        "channels",
        "image_size",
        "classes",
    ):
        assert getattr(streamed, name) == getattr(resident, name)
    (note,) = set(streamed.notes) - set(resident.notes)
    assert "decoded each time they are needed" in note
    assert "SELFTAUGHT_MEMORY" in note


def test_the_fingerprint_is_made_of_pixels_labels_classes_and_parts(source):
    pictures = random_pictures(4)
    source(collection(pictures, pictures[:2]))
    digests = [hashlib.sha256(b"(3, 6, 5)" + p.transpose(2, 0, 1).tobytes()).digest() for p in pictures]
    content = json.dumps(["ant", "bee"]).encode()
    for chosen, labels in ((range(4), [0, 1, 0, 1]), ((), []), (range(2), [0, 1])):
        content += f"{len(labels)} images;".encode() + np.array(labels, np.int64).tobytes()
        content += b"".join(digests[i] for i in chosen)
    first = data.load("x").fingerprint
    assert first == hashlib.sha256(content).hexdigest()
    others = [
        collection(pictures[::-1], pictures[:2], key="1"),
        collection(pictures, pictures[1:3], key="2"),
        collection(pictures, pictures[:2], classes=("ant", "wasp"), key="3"),
        collection(pictures, pictures, key="4"),
    ]
    assert len({first, *(data.load(source(other) and "x").fingerprint for other in others)}) == 5


def test_equal_pixels_in_other_files_are_the_same_data(source):
    pictures = random_pictures(6)
    source(collection(pictures))
    first = data.load("x").fingerprint
    source(collection([encode(picture, "BMP") for picture in pictures], key="as bitmaps"))
    assert data.load("x").fingerprint == first


def test_the_second_time_nothing_is_read(source):
    found = source(collection(random_pictures(8)))
    first, reads = data.load("x"), found.train.pictures.reads
    again = data.load("x")
    assert found.train.pictures.reads == reads > 0
    assert (again.fingerprint, again.mean) == (first.fingerprint, first.mean)
    assert torch.equal(again.train_images, first.train_images)


def test_a_changed_source_is_decoded_again(source):
    source(collection(random_pictures(8)))
    first = data.load("x")
    source(collection(random_pictures(8, seed=1), key="changed"))
    assert data.load("x").fingerprint != first.fingerprint


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-7], lambda content: content[:-1] + b"!", lambda _: b""]
)
def test_a_damaged_cache_costs_only_time_and_is_told(source, cache_folder, damage):
    found = source(collection(random_pictures(8)))
    first, reads = data.load("x"), found.train.pictures.reads
    expected, notes = first.train_images.clone(), first.notes
    del first  # it is mapped from a file that is about to be damaged
    for path in cache_folder.iterdir():
        path.write_bytes(damage(path.read_bytes()))
    again = data.load("x")
    assert torch.equal(again.train_images, expected)
    assert found.train.pictures.reads == 2 * reads
    said = [note for note in again.notes if "are damaged: they are made anew" in note]
    assert len(said) == 3  # the survey, the facts and the pixels
    assert [note for note in again.notes if note not in said] == list(notes)
    assert data.load("x").notes == notes
    assert found.train.pictures.reads == 2 * reads


def _load_and_tell(pipe):
    loading.open_source = lambda name, split_by=None: collection(random_pictures(200))
    pipe.send(data.load("x").fingerprint)


def test_two_processes_may_load_at_once(source):
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(2)]
    processes = [context.Process(target=_load_and_tell, args=(theirs,)) for _, theirs in pipes]
    for process in processes:
        process.start()
    said = [ours.recv() for ours, _ in pipes]
    for process in processes:
        process.join()
    source(collection(random_pictures(200)))
    assert said == [data.load("x").fingerprint] * 2


def test_a_picture_that_cannot_be_decoded_is_named(source):
    found = collection(random_pictures(6), random_pictures(4))
    found.test.pictures.blobs[1] = b"broken"
    source(found)
    with pytest.raises(
        InputError, match=r"^picture 1: the picture cannot be decoded .*remove or replace it$"
    ):
        data.load("x")


def test_progress_is_told(source):
    source(collection(random_pictures(70)))
    calls = []
    data.load("x", on_progress=lambda *call: calls.append(call))
    assert calls == [(64, 70), (70, 70)] * 2


def test_classes_that_the_source_declares_but_lacks_are_no_obstacle(source):
    found = collection(random_pictures(8), classes=("ant", "bee", "wasp"))
    pictures = Part(Blobs(found.train.pictures.blobs), torch.arange(8) % 2)
    source(type(found)(found.classes, pictures, None, "k"))
    assert data.load("x").num_classes == 3


def test_a_copy_in_the_folder_is_used_without_any_network(monkeypatch, tmp_path):
    for part in ("train", "test"):
        blobs = [encode(p) for p in random_pictures(4)]
        write_parquet(tmp_path / "cifar10" / f"{part}-00000.parquet", blobs, [0, 1, 0, 1], picture="img")
    monkeypatch.setenv("SELFTAUGHT_DATA", str(tmp_path))

    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(data.load("cifar10").train_labels) == 4


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_some_of_the_real_data_is_decoded_as_by_pillow_alone(real_data, name):
    """What the names of all trials depend on; all of it is in the slow tests."""
    found = open_source(name)
    for part in (found.train, found.test):
        pixels = [np.asarray(Image.open(io.BytesIO(part.pictures.read(i)))) for i in range(100)]
        stacked = np.stack(pixels)[:, None] if pixels[0].ndim == 2 else np.stack(pixels).transpose(0, 3, 1, 2)
        form = decoding.Format(stacked.shape[1:])
        np.testing.assert_array_equal(decoding.decode(part.pictures, range(100), form), stacked)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape", "classes", "mean", "std"),
    [
        ("mnist", (1, 28, 28), {0: "0", 9: "9"}, [0.1307], [0.3081]),
        (
            "cifar10",
            (3, 32, 32),
            {0: "airplane", 9: "truck"},
            [0.4914, 0.4822, 0.4465],
            [0.2470, 0.2435, 0.2616],
        ),
    ],
)
def test_the_real_data_has_its_published_statistics(real_data, name, shape, classes, mean, std):
    loaded = data.load(name)
    assert loaded.train_images.shape == ({"mnist": 60_000, "cifar10": 50_000}[name], *shape)
    assert loaded.test_images.shape == (10_000, *shape)
    assert {k: loaded.classes[k] for k in classes} == classes
    assert loaded.mean == pytest.approx(mean, abs=1e-4)
    assert loaded.std == pytest.approx(std, abs=1e-4)
    assert data.channel_stats(loaded.train_images) == (list(loaded.mean), list(loaded.std))
