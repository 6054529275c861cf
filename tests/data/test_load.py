import socket

import datasets
import pytest
import torch

from selftaught import data
from selftaught.errors import InputError
from tests.data.conftest import encode, random_pictures, write_parquet


def _rows(images):
    return {image.numpy().tobytes() for image in images}


def test_names_and_summaries():
    assert data.names() == ["digits", "mnist", "cifar10"]
    for name in data.names():
        assert data.summary(name)
        assert "\n" not in data.summary(name)


def test_digits_whole():
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


def test_train_size_is_a_stratified_choice():
    whole, part = data.load("digits"), data.load("digits", train_size=500)
    assert len(part.train_labels) == 500
    shares = torch.bincount(whole.train_labels) * 500 / 1438
    assert (torch.bincount(part.train_labels) - shares).abs().max() < 1
    assert _rows(part.train_images) < _rows(whole.train_images)
    assert torch.equal(part.test_images, whole.test_images)


def test_validation_is_held_out_of_what_is_used():
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


def test_the_split_seed_decides():
    options = {"train_size": 300, "val_fraction": 0.1}
    one, again, other = (data.load("digits", **options, split_seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.train_images, again.train_images)
    assert torch.equal(one.val_images, again.val_images)
    assert not torch.equal(one.train_images, other.train_images)
    assert torch.equal(one.test_images, other.test_images)


def test_the_fingerprint_follows_the_tensors():
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
    for same in ({"split_seed": 5}, {"image_size": 16}, {"image_size": (16, 16)}, {"train_size": 1438}):
        assert fingerprint(**same) == fingerprint()


def test_image_size_may_be_a_pair():
    assert data.load("digits", image_size=(20, 12)).train_images.shape == (1438, 1, 20, 12)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"train_size": 1439}, "train_size must be from 10.* to 1438.*'digits'.*got 1439"),
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
    with pytest.raises(InputError, match=r"unknown data 'cifar11'.*did you mean 'cifar10'"):
        ask("cifar11")


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
    got_mean, got_std = data.channel_stats(loaded.train_images)
    assert got_mean == pytest.approx(mean, abs=1e-4)
    assert got_std == pytest.approx(std, abs=1e-4)
