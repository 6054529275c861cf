"""The main job at its real size: minutes, so only on request (`make slow`)."""

import pytest

from selftaught.study.compare import compare
from selftaught.training.presets import resolve
from selftaught.training.run import train


@pytest.mark.slow
def test_the_demo_learns_digits(tmp_path):
    table = compare("digits", ["ce", "le"], trials=2, out=tmp_path).table
    assert table is not None
    assert all(row.accuracy >= 0.98 for row in table.rows)
    assert table.rows[1].cost < 2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ce", "le", "le-permut", "le-uniform"])
def test_an_mlp_learns_mnist_in_two_epochs(tmp_path, monkeypatch, real_data, method):
    monkeypatch.setenv("SELFTAUGHT_DATA", str(real_data))
    result = train(resolve("mnist", method, epochs=2, threads=2), tmp_path)
    assert result.accuracy >= 0.96


@pytest.mark.slow
@pytest.mark.parametrize("model", ["cnn6", "resnet8"])
@pytest.mark.parametrize("saliency", ["grad-cam", "grad", "grad-input", "guided-backprop"])
def test_every_saliency_learns_from_real_photographs(tmp_path, monkeypatch, real_data, model, saliency):
    monkeypatch.setenv("SELFTAUGHT_DATA", str(real_data))
    config = resolve(
        "cifar10",
        "le",
        model=model,
        saliency=saliency,
        train_size=2000,
        epochs=4,
        lr=0.01 if model == "cnn6" else 0.05,
        threads=2,
    )
    assert train(config, tmp_path).accuracy >= 0.25  # chance is 0.1
