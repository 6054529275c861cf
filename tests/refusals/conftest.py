"""A user's folder: good images, a finished run, and room for mistakes."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from selftaught.cli import _run
from tests.data.conftest import encode, random_pictures

QUICK = ["--model", "resnet8", "--image-size", "8", "--epochs", "1", "--batch-size", "8", "-q"]


@dataclass(frozen=True)
class Place:
    """A folder of a user: good images, a finished run, and room for mistakes."""

    folder: Path

    @property
    def good(self) -> Path:
        return self.folder / "good"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def spoiled(self, spoil: Callable[[Path], object]) -> str:
        """A copy of the good folder with something wrong in it."""
        copy = self.folder / "spoiled"
        shutil.copytree(self.good, copy)
        spoil(copy)
        return str(copy)

    def file(self, name: str, content: str | bytes = "mine") -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)


def photographs(folder: Path, classes: int = 3, count: int = 8) -> Path:
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for number, picture in enumerate(random_pictures(count, (12, 10), seed=label)):
            (folder / f"class{label}" / f"{number}.jpg").write_bytes(encode(picture, "JPEG"))
    return folder


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Place:
    place = Place(tmp_path_factory.mktemp("user"))
    photographs(place.good)
    assert _run(["train", str(place.good), "--out", str(place.run), "--keep-checkpoints", *QUICK]) == 0
    return place


@pytest.fixture
def place(template, tmp_path, monkeypatch) -> Place:
    copy = Place(tmp_path / "user")
    shutil.copytree(template.folder, copy.folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(copy.folder)
    return copy


def compare(data: object, *flags: str) -> list[str]:
    return ["compare", str(data), "--methods", "ce,le", "--trials", "1", "--jobs", "1", *QUICK, *flags]


def train(data: object, *flags: str) -> list[str]:
    return ["train", str(data), *QUICK, *flags]


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder and its digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
