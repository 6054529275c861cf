"""What is told of soft labels, on labels of which it is known."""

import json
import shutil

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from benchmarks import soft_labels
from selftaught.files import record
from selftaught.study.compare import compare
from selftaught.training import cost


def test_agreement_is_the_mean_of_spearmans():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 9)), rng.integers(0, 3, (20, 9)).astype(float)
    expected = np.mean([spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])
    assert soft_labels.agreement(a, b) == pytest.approx(expected)
    assert soft_labels.agreement(a, 2 * a + 1) == pytest.approx(1)
    assert soft_labels.agreement(a, np.ones_like(a)) == 0


def test_confidence_minus_accuracy_has_a_sign():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]))
    assert soft_labels.confidence(logits, torch.tensor([0, 2])) == pytest.approx(-25)
    assert soft_labels.confidence(logits, torch.tensor([1, 0])) == pytest.approx(75)


def test_networks_of_a_study_are_asked(tmp_path, monkeypatch):
    told = [cost.StepCost("", 1.0, 1.0)]
    monkeypatch.setattr(cost, "measure", lambda configs, **_: told * len(configs))
    options = {
        "model": "resnet8",
        "epochs": 5,
        "batch_size": 64,
        "train_size": 60,
        "val_fraction": 0.5,
        "warmup": 1,
    }
    compare("digits", ["ce", "le", "kd"], trials=2, out=tmp_path / "study", teacher="resnet26", **options)
    compare("digits", ["le"], trials=1, out=tmp_path / "other", alpha=0.6, **options)
    compare("digits", ["le"], trials=1, out=tmp_path / "grad", saliency="grad", **options)
    slow = {name: value for name, value in options.items() if name != "warmup"}
    compare("digits", ["ce"], trials=1, out=tmp_path / "rate", lr=0.05, **slow)
    nothing = {**options, "val_fraction": 0.0}
    compare("digits", ["le"], trials=1, out=tmp_path / "nothing", **nothing)
    shutil.copytree(tmp_path / "study", tmp_path / "students")  # the same trials, and no teacher
    for path in (tmp_path / "students" / "trials").iterdir():
        if json.loads((path / record.CONFIG).read_text())["model"] == "resnet26":
            shutil.rmtree(path)
    studies = [str(tmp_path / name) for name in ("other", "grad", "rate", "nothing", "students", "study")]
    monkeypatch.setattr("sys.argv", ["soft_labels", *studies, "-o", str(tmp_path / "said"), "--images", "20"])
    soft_labels.main()
    found = json.loads((tmp_path / "said.json").read_text())
    assert [one["networks"].split()[-1] for one in found].count("le") == 3
    assert len(found) == 5
    # Where nothing was held out test images are asked about, and no network here could teach about them.
    [untaught] = [one for one in found if "60 images" in one["networks"]]
    assert untaught["taught"] is untaught["logits"] is None
    assert all(-1 <= one[key] <= 1 for one in found if one != untaught for key in ("own", "taught", "logits"))
    assert all(0 < one["moved"] < 10 for one in found)
    assert all(one["images"] == 20 for one in found)
    page = (tmp_path / "said.md").read_text()
    assert page.count("| resnet8 on digits, 30 images, 5 epochs: ") == 2
