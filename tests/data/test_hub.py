"""The Hub's path, with real `datasets` objects in place of the download."""

import datasets
import pytest
import torch
from PIL import Image

from selftaught import data
from selftaught.data import hub
from selftaught.errors import InputError
from tests.data.conftest import encode, random_pictures, write_parquet

NAMES = ["airplane", "bird", "cat"]
LABELS = {"train": [0, 1, 2, 1, 0, 2], "test": [2, 0, 1]}
PICTURES = {"train": random_pictures(6), "test": random_pictures(3, seed=1)}


def _dataset_dict(parts=("train", "test")):
    features = datasets.Features(img=datasets.Image(), label=datasets.ClassLabel(names=NAMES))
    return datasets.DatasetDict(
        {
            part: datasets.Dataset.from_dict(
                {"img": [Image.fromarray(p) for p in PICTURES[part]], "label": LABELS[part]}, features
            )
            for part in parts
        }
    )


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch):
    monkeypatch.delenv("SELFTAUGHT_DATA", raising=False)


def _answer(monkeypatch, answer):
    asked = []

    def load_dataset(hub_id, *_args, **_kwargs):
        asked.append(hub_id)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


@pytest.mark.parametrize(("name", "hub_id"), [("mnist", "ylecun/mnist"), ("cifar10", "uoft-cs/cifar10")])
def test_named_data_comes_from_its_place_on_the_hub(monkeypatch, name, hub_id):
    asked = _answer(monkeypatch, _dataset_dict())
    loaded = data.load(name)
    assert asked == [hub_id]
    assert loaded.classes == tuple(NAMES)
    for part in ("train", "test"):
        expected = torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p in PICTURES[part]])
        assert torch.equal(getattr(loaded, f"{part}_images"), expected)
        assert getattr(loaded, f"{part}_labels").tolist() == LABELS[part]


def test_the_hub_and_a_folder_give_the_same_data(monkeypatch, tmp_path):
    _answer(monkeypatch, _dataset_dict())
    from_hub = data.load("cifar10")
    for part in ("train", "test"):
        blobs = [encode(p, "BMP") for p in PICTURES[part]]
        write_parquet(tmp_path / "cifar10" / f"{part}-0.parquet", blobs, LABELS[part], NAMES, picture="img")
    monkeypatch.setenv("SELFTAUGHT_DATA", str(tmp_path))
    assert data.load("cifar10").fingerprint == from_hub.fingerprint


def test_the_hub_is_decoded_once(monkeypatch):
    _answer(monkeypatch, _dataset_dict())
    first = hub.read("someone/something")
    monkeypatch.setattr("selftaught.data.pictures.decode", lambda *_: pytest.fail("decoded again"))
    assert hub.read("someone/something").digest == first.digest


@pytest.mark.parametrize("column", ["label", "img"])
def test_a_change_on_the_hub_is_noticed(monkeypatch, column):
    original = _dataset_dict()
    _answer(monkeypatch, original)
    first = hub.read("someone/something")
    changed = original["train"].to_dict()
    changed[column] = changed[column][::-1]
    original["train"] = datasets.Dataset.from_dict(changed, original["train"].features)
    second = hub.read("someone/something")
    flipped = column == "label", column == "img"
    assert torch.equal(second.train_labels, first.train_labels.flip(0) if flipped[0] else first.train_labels)
    assert torch.equal(second.train_images, first.train_images.flip(0) if flipped[1] else first.train_images)


def test_the_picture_size_can_be_changed(monkeypatch):
    _answer(monkeypatch, _dataset_dict())
    assert data.load("cifar10", image_size=8).image_size == (8, 8)


@pytest.mark.parametrize("error", [ConnectionError("Couldn't reach it\nat all"), RuntimeError()])
def test_without_folder_and_network_it_says_what_to_do(monkeypatch, error):
    _answer(monkeypatch, error)
    pattern = (
        f"'mnist' not found: SELFTAUGHT_DATA is not set.*{type(error).__name__}.*set SELFTAUGHT_DATA.*online"
    )
    with pytest.raises(InputError, match=pattern) as caught:
        data.load("mnist")
    assert "\n" not in str(caught.value)


def test_a_folder_without_the_data_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SELFTAUGHT_DATA", str(tmp_path))
    _answer(monkeypatch, ConnectionError("offline"))
    with pytest.raises(InputError, match=f"no mnist/train-\\*.parquet in {tmp_path}.*ylecun/mnist.*offline"):
        data.load("mnist")


def test_a_split_that_is_missing_is_named(monkeypatch):
    _answer(monkeypatch, _dataset_dict(parts=("train",)))
    with pytest.raises(InputError, match=r"uoft-cs/cifar10.*no split 'test' \(it has train\)"):
        data.load("cifar10")
