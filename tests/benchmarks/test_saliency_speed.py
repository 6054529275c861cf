import pytest
import torch
from benchmarks.saliency_speed import OURS, Cell, Contestant

from benchmarks import saliency_speed
from selftaught import saliency
from tests.benchmarks import pages

GRADIENTS = ("grad", "grad-input", "guided-backprop")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return pages.smoke(saliency_speed, "Saliency maps for all classes", tmp_path_factory.mktemp("pages"))


def test_every_saliency_has_its_table_and_every_contestant_the_same_maps(page):
    assert [table["heading"].split(", ")[1] for table in page["tables"]] == saliency.names()
    for table in page["tables"]:
        assert table["columns"] == saliency_speed.COLUMNS
        names = [row["contestant"] for row in table["rows"]]
        assert names[0] == OURS
        assert {"captum, loop", "captum, batched", "autograd loop"} <= set(names)
        for row in table["rows"]:
            assert row["ms"] > 0
            assert 0 < row["low"] <= row["ratio"] <= row["high"]
            assert row["MB"] > 0
            assert float(row["difference"]) < 1e-5
    [first, *_] = page["tables"]
    assert f"{OURS}, first call" in [row["contestant"] for row in first["rows"]]


def test_torch_cam_is_there_or_its_absence_is_said(page):
    names = {row["contestant"] for row in page["tables"][0]["rows"]}
    assert ("torch-cam" in names) != ("not installed" in page["intro"])


def test_what_is_measured_on_a_part_says_so(page):
    parts = {row["contestant"]: row["measured on"] for row in page["tables"][0]["rows"]}
    assert parts["captum, loop"] == "2 of 3 classes"
    assert parts["captum, batched"] == "2 of 4 images"
    assert {parts[name] for name in parts if not name.startswith("captum")} == {"all"}


def test_the_whole_is_as_many_times_its_part():
    cell = Cell("mlp", "grad", classes=100, batch=8, explained=100, loop=10, images=2)
    made = torch.zeros(2, 100, 1, 28, 28)
    assert Contestant(lambda: made, images=2, classes=100).factor(cell) == 4
    assert Contestant(lambda: made, images=8, classes=10).factor(cell) == 10
    assert Contestant(lambda: made.clone(), 2, 100).megabytes(cell) == 4 * made.nbytes / 2**20


def test_other_maps_end_the_benchmark():
    same = Contestant(lambda: torch.ones(2, 3, 4), 2, 3)
    other = Contestant(lambda: torch.full((2, 3, 4), 1.01), 2, 3)
    assert saliency_speed.differences({OURS: same, "same": same})["same"] == 0
    with pytest.raises(AssertionError, match=r"other: maps differ by 1.0e-02"):
        saliency_speed.differences({OURS: same, "other": other})


def test_all_saliencies_and_class_counts_are_measured_on_all_networks():
    cells = [cell for _, cells in saliency_speed.groups(smoke=False) for cell in cells]
    for model, maps in (("resnet14", saliency.names()), ("resnet8", saliency.names()), ("mlp", GRADIENTS)):
        found = {(cell.saliency, cell.classes) for cell in cells if cell.model == model}
        assert found == {(name, classes) for name in maps for classes in (10, 100, 1000)}
    for cell in cells:
        assert cell.loop <= cell.explained <= cell.classes
        assert cell.images <= cell.batch
