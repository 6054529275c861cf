"""What is told of the similarity of classes, against what the networks say when asked one image after another."""

import json

import numpy as np
import pytest
import torch

import selftaught
from benchmarks import class_similarity
from selftaught.study.compare import compare
from selftaught.training import cost
from selftaught.training.presets import data_of


def test_places_count_the_pairs_that_are_more_alike():
    matrix = np.array([[1, 0.1, 0.5, 0.3], [0.1, 1, 0.5, -1], [0.5, 0.5, 1, 0], [0.3, -1, 0, 1]])
    assert class_similarity.places(matrix, [(2, 0), (1, 2), (0, 3), (3, 1)]) == [1, 1, 3, 6]
    assert class_similarity.spread(matrix) == pytest.approx(np.std([0.1, 0.5, 0.3, 0.5, -1, 0]))


def test_networks_of_a_study_explain_its_test_images(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "measure", lambda configs, **_: [cost.StepCost("", 1.0, 1.0)] * len(configs))
    options = {"model": "mlp", "epochs": 5, "warmup": 1, "train_size": 200, "val_fraction": 0.0}
    compare("digits", ["ce", "le", "ls"], trials=2, out=tmp_path / "study", **options)
    asked = [str(tmp_path / "study"), "-o", str(tmp_path / "said"), "--images", "20"]
    monkeypatch.setattr("sys.argv", ["class_similarity", *asked])
    class_similarity.main()
    found = json.loads((tmp_path / "said.json").read_text())
    assert [one["networks"].split()[-1] for one in found] == ["ce", "ce", "le", "le"]
    for one in found:
        run = selftaught.load(tmp_path / "study" / "trials" / one["trial_id"])
        np.testing.assert_allclose(one["matrix"], cosines(run, 20), atol=1e-5)
    page = (tmp_path / "said.md").read_text()
    assert page.count("| mlp on digits, 200 images, 5 epochs: ") == 2
    assert (tmp_path / "said.png").read_bytes().startswith(b"\x89PNG")


def cosines(model, count):
    """The mean over `count` images, as many of each class, of the cosine between the gradients of every two logits."""
    data = data_of(model.config, model.preparation)
    chosen = [int(i) for k in range(10) for i in torch.nonzero(data.test_labels == k)[: count // 10]]
    total = np.zeros((10, 10))
    for i in chosen:
        x = ((data.test_images[i : i + 1].float() / 255 - model.mean) / model.std).requires_grad_()
        maps = [torch.autograd.grad(model.model(x)[0, k], x)[0].flatten().double().numpy() for k in range(10)]
        unit = np.array([one / np.linalg.norm(one) for one in maps])
        total += unit @ unit.T
    return total / len(chosen)
