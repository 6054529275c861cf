"""The page of architectures says what is so: equal where it is, different where it is not."""

import pytest
import torch
from torch import nn

from benchmarks import architectures, zoo
from selftaught.saliency import explain
from tests.benchmarks import pages

HEAD = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, zoo.CLASSES)]


def network(*body: nn.Module) -> zoo.Architecture:
    """An architecture of the tests' own."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), *body)
    return zoo.Architecture("own", "own", lambda: model, 12)


def test_every_library_has_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "libraries", lambda: ["one", "other"])
    monkeypatch.setattr(zoo, "architectures", lambda library: [network(nn.ReLU(), *HEAD)])
    page = pages.smoke(architectures, "Architectures", tmp_path)
    assert [table["heading"] for table in page["tables"]] == ["one", "other"]
    for table in page["tables"]:
        assert table["columns"] == architectures.COLUMNS
        for row in table["rows"]:
            assert row["eval"].startswith("equal")
            assert row["train"].startswith("equal")
            assert row["× ce"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("library", zoo.libraries())
def test_architectures_are_as_the_page_says(library):
    """Equal in both modes, or refused; with other versions of the libraries than the page's too."""
    for row in architectures.examined(zoo.architectures(library), rounds=0):
        for said in (row.eval, row.train):
            assert said is None or said.startswith(("equal", "refused")), (row.name, said)


def test_a_network_that_can_be_explained():
    row = architectures.examine(network(nn.ReLU(), nn.Dropout(0.5), *HEAD), rounds=0)
    assert row.equal
    assert (row.layer, row.head, row.maps, row.ratio) == ("3", "linear", "10×10", None)


def test_a_refusal_is_told():
    one_position = nn.Sequential(nn.Conv2d(3, 6, 12), nn.Flatten(), nn.Linear(6, zoo.CLASSES))
    row = architectures.examine(zoo.Architecture("own", "own", lambda: one_position, 12), rounds=0)
    assert row.eval.startswith("refused: ")


def test_a_difference_is_told(monkeypatch):
    def wrong(model, x):
        found = explain(model, x)
        found.maps[0, 1, 2, 3] += 0.01 * found.maps.abs().max()
        return found

    monkeypatch.setattr(architectures, "explain", wrong)
    row = architectures.examine(network(nn.ReLU(), *HEAD), rounds=0)
    assert row.eval.startswith("DIFFERENT")
    assert not row.equal


def test_what_cannot_be_built_is_told():
    def fail():
        raise RuntimeError("no\nsuch thing")

    [row] = architectures.examined([zoo.Architecture("own", "broken", fail, 8)], rounds=0)
    assert row.eval == "FAILED: RuntimeError: no such thing"


@pytest.mark.parametrize("size", [32, None])
def test_batches(size):
    batch = zoo.Architecture("own", "own", nn.Identity, size).batch(2)
    assert batch.shape == ((2, 3, size, size) if size else (2, 64))
    assert batch.dtype == (torch.float32 if size else torch.int64)
