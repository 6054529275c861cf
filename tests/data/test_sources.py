"""What a name stands for."""

import os
from pathlib import Path

import pytest

from selftaught.data import hub, sources
from selftaught.data.sources import local_path, open_source
from selftaught.errors import InputError
from tests.data.conftest import write_parquet
from tests.data.test_folder import contents, fill


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SELFTAUGHT_DATA", raising=False)
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """The ids that the Hub is asked for; it has none."""
    ids = []

    def collect(hub_id, split_by=None):
        ids.append(hub_id)
        raise hub.HubError("nothing there")

    monkeypatch.setattr(hub, "collect", collect)
    return ids


def refusal(name):
    with pytest.raises(InputError) as caught:
        open_source(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_registered_names():
    assert list(sources.SOURCES) == ["digits", "mnist", "fashion-mnist", "cifar10", "cifar100"]
    assert all(source.summary and "\n" not in source.summary for source in sources.SOURCES.values())
    assert len(open_source("digits").train.labels) == 1438


@pytest.mark.parametrize("name", ["photos", "./photos", "photos/", "~/photos", "deep/photos", "ABSOLUTE"])
def test_paths(here, asked, name):
    place = {"~/photos": here / "home/photos", "deep/photos": here / "deep/photos"}.get(name, here / "photos")
    fill(place)
    name = str(place) if name == "ABSOLUTE" else name
    assert contents(open_source(name).train)[0] == ("cat/1.png", 0)
    assert local_path(name) == place
    assert local_path(name).is_absolute()
    assert not asked


def test_a_name_wins_over_a_folder_and_a_folder_over_the_hub(here, asked):
    fill(here / "digits")
    fill(here / "uoft-cs/cifar10")
    assert len(open_source("digits").train.labels) == 1438
    assert local_path("digits") is None
    assert len(open_source("./digits").train.labels) == 5
    assert local_path("./digits") == here / "digits"
    assert len(open_source("uoft-cs/cifar10").train.labels) == 5
    assert not asked


def test_parquet_comes_before_folders_of_classes(here):
    write_parquet(here / "d" / "all.parquet", [b"x"] * 4, [0, 1, 0, 1])
    fill(here / "d")
    assert open_source("d").classes == ("ant", "bee")


@pytest.mark.parametrize("name", ["mnist", "someone/something", "hub:beans", "nowhere", ""])
def test_what_is_no_path_has_none(name):
    assert local_path(name) is None


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [("a/b", "a/b"), ("hub:a/b", "a/b"), ("hub:beans", "beans"), ("a-1/b.c_2", "a-1/b.c_2")],
)
def test_ids_of_the_hub(asked, name, hub_id):
    assert f"{hub_id} did not come from the Hub (nothing there)" in refusal(name)
    assert asked == [hub_id]


@pytest.mark.parametrize(
    "name",
    [
        "./a/b",
        "/a/b",
        "~/a",
        "a/b/c",
        "a/",
        "labels.csv",
        "photos.zip",
        ".",
        "../x",
        "data/typo",
        "a b/c",
        "~nobody/a",
    ],
)
def test_what_looks_like_a_path_is_said_to_be_missing(here, asked, name):
    (here / "data").mkdir()
    name = "./gone" if name == "." else name
    message = refusal(name)
    assert message.startswith(f"{name!r} does not exist")
    assert "check the path" in message
    assert not asked


@pytest.mark.parametrize(
    ("name", "near"), [("cifar11", "cifar10"), ("digit", "digits"), ("fashion_mnist", "fashion-mnist")]
)
def test_another_name_is_unknown(asked, name, near):
    message = refusal(name)
    assert f"unknown data {name!r}: did you mean {near!r}?" in message
    assert message.endswith("there is no folder of this name here")
    assert not asked


@pytest.mark.parametrize("name", ["", "birds", "a\0b", "x" * 5000, "zwölf", "line\nbreak", "\udce9"])
def test_strange_names_are_refused_in_one_line(asked, name):
    assert repr(name)[:1000] in refusal(name)
    assert not asked


@pytest.mark.parametrize("name", ["photos.zip", "train.parquet", "notes.txt", "photo.png"])
def test_a_file_is_refused(here, name):
    (here / name).write_text("x")
    message = refusal(name)
    assert name in message
    assert "give the folder" in message


def test_what_is_neither_file_nor_folder_is_refused(here):
    os.mkfifo(here / "pipe")
    assert "pipe is neither a folder nor" in refusal("pipe")


def test_an_empty_folder_says_what_it_takes(here):
    (here / "photos").mkdir()
    message = refusal("photos")
    assert "photos holds no images" in message
    assert "sub-folder" in message


def test_home_is_only_home_at_the_start(here):
    fill(here / "a~b")
    assert local_path("a~b") == here / "a~b" == Path("a~b").absolute()
