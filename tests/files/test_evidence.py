import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from selftaught.errors import InputError
from selftaught.files import evidence, record
from selftaught.training.metrics import ece
from tests.report import factory


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(2, 12), st.floats(0.1, 30), st.integers(0, 2**31))
def test_bins_add_up_to_the_ece_of_the_table(images, classes, spread, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (images, classes)).astype(np.float32)
    labels = rng.integers(0, classes, images)
    count, right, confidence = evidence.reliability_bins(logits, labels)
    assert count.sum() == images
    assert right.sum() == (logits.argmax(1) == labels).sum()
    certain = bool((torch.from_numpy(logits).softmax(1).max(1).values == 1).any())
    if not certain:  # the ECE counts a confidence of exactly 1 apart
        expected = ece(torch.from_numpy(logits), torch.from_numpy(labels))
        assert np.abs(right - confidence).sum() / images == pytest.approx(expected, abs=1e-5)


def test_trials_are_pooled(tmp_path):
    records = [factory.write_run(tmp_path, "le", seed, images=300) for seed in (2, 0, 1)]
    found = evidence.gather("le", records)
    assert [run.config.seed for run in found.records] == [0, 1, 2]
    assert found.confusion.sum() == found.reliability[0].sum() == found.scaled[0].sum() == 900
    right = sum(run.result.accuracy for run in records) * 300
    assert np.trace(found.confusion) == found.reliability[1].sum() == pytest.approx(right)
    predicted = sum(np.bincount(evidence.predictions(run)[0].argmax(1), minlength=10) for run in records)
    assert found.confusion.sum(axis=0).tolist() == predicted.tolist()  # columns are predictions
    assert found.confusion.sum(axis=1).tolist() == [90] * 10  # rows are true classes
    assert evidence.class_sizes(records).tolist() == [30] * 10  # of a trial
    assert found.curves["val_ece"].shape == (3, 12)


def test_scaled_are_the_bins_of_logits_over_the_temperature(tmp_path):
    run = factory.write_run(tmp_path, "le", 0)
    count, right, confidence = evidence.gather("le", [run]).scaled
    assert run.result.temperature != pytest.approx(1.0, abs=0.01)
    assert np.abs(right - confidence).sum() / count.sum() == pytest.approx(run.result.ece_scaled, abs=1e-6)


def test_what_a_run_did_not_keep_is_none(tmp_path):
    run = factory.write_run(tmp_path, "ce", 0, val=0)
    for name in (record.PREDICTIONS, record.EXAMPLES, record.METRICS):
        (run.directory / name).unlink()
    found = evidence.gather("ce", [run])
    assert (found.reliability, found.scaled, found.confusion, found.examples) == (None, None, None, None)
    assert evidence.class_sizes([run]).tolist() == [50] * 10
    older = record.Record(run.directory, run.config, run.result.model_copy(update={"per_class_images": ()}))
    assert evidence.class_sizes([older]) is None
    assert found.curves == {}


def test_of_a_model_that_cannot_be_explained_an_empty_file_is_kept(tmp_path):
    run = factory.write_run(tmp_path)
    save_file({}, run.directory / record.EXAMPLES)
    assert evidence.examples(run) is None
    assert evidence.gather("ce", [run]).examples is None


def test_very_many_classes_have_outcomes_but_no_matrix(tmp_path):
    run = factory.write_run(tmp_path, classes=factory.names(1001), images=30)
    found = evidence.gather("ce", [run])
    assert found.confusion is None
    predicted = evidence.predictions(run)[0].argmax(1).tolist()
    assert found.outcomes.tolist() == sorted([truth, label, 1] for truth, label in enumerate(predicted))


@pytest.mark.parametrize("name", [record.PREDICTIONS, record.EXAMPLES, record.METRICS])
def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path, name, monkeypatch):
    run = factory.write_run(tmp_path)

    def refuse(path):
        if path.name == name:
            raise PermissionError(13, "Permission denied")
        return original(path)

    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match=rf"cannot read .*{name} \(Permission denied\): make it readable"):
        evidence.gather("ce", [run])


def test_curves_that_are_not_numbers_are_gaps(tmp_path):
    run = factory.write_run(tmp_path, epochs=3)
    lines = [
        {"loss": 1.0, "val_ece": None},
        {"loss": float("nan")},
        {"loss": 3, "train_nll": "high", "val_nll": 10**400},
    ]
    (run.directory / record.METRICS).write_text(
        "".join(json.dumps(line) + "\n" for line in [*lines, {"loss": 4}])
    )
    curves = evidence.metrics(run)
    assert list(curves) == ["loss"]
    np.testing.assert_equal(curves["loss"], [1.0, np.nan, 3.0])  # the run has three epochs


def _change(directory, name, **tensors):
    save_file(load_file(directory / name) | tensors, directory / name)


DAMAGE = {
    "no safetensors": lambda d: (d / record.PREDICTIONS).write_bytes(b"\x80\x04pickle"),
    "a header that promises too much": lambda d: (d / record.PREDICTIONS).write_bytes(b"\xff" * 8 + b"{}"),
    "empty": lambda d: (d / record.PREDICTIONS).write_bytes(b""),
    "cut": lambda d: (d / record.PREDICTIONS).write_bytes((d / record.PREDICTIONS).read_bytes()[:-9]),
    "no labels": lambda d: save_file({"logits": np.zeros((4, 10), np.float32)}, d / record.PREDICTIONS),
    "float64": lambda d: _change(d, record.PREDICTIONS, logits=np.zeros((500, 10))),
    "other classes": lambda d: _change(d, record.PREDICTIONS, logits=np.zeros((500, 9), np.float32)),
    "other images": lambda d: _change(d, record.PREDICTIONS, labels=np.zeros(499, np.int64)),
    "not finite": lambda d: _change(d, record.PREDICTIONS, logits=np.full((500, 10), np.nan, np.float32)),
    "no such label": lambda d: _change(d, record.PREDICTIONS, labels=np.full(500, 10)),
    "a negative label": lambda d: _change(d, record.PREDICTIONS, labels=np.full(500, -1)),
    "no JSON": lambda d: (d / record.METRICS).write_text('{"loss": 1}\n{"lo'),
    "no object": lambda d: (d / record.METRICS).write_text("[1]\n"),
    "deep JSON": lambda d: (d / record.METRICS).write_text("[" * 100_000),
    "binary": lambda d: (d / record.METRICS).write_bytes(b"\xff\xfe\x00"),
    "four channels": lambda d: _change(d, record.EXAMPLES, images=np.zeros((8, 4, 9, 9), np.uint8)),
    "empty pictures": lambda d: _change(d, record.EXAMPLES, images=np.zeros((8, 3, 0, 9), np.uint8)),
    "no pixels": lambda d: _change(d, record.EXAMPLES, images=np.zeros((8, 3, 9, 9), np.float32)),
    "another number of maps": lambda d: _change(d, record.EXAMPLES, maps=np.zeros((8, 9, 4, 4), np.float32)),
    "maps of tokens": lambda d: _change(d, record.EXAMPLES, maps=np.zeros((8, 10, 4), np.float32)),
    "an unknown class": lambda d: _change(d, record.EXAMPLES, classes=np.full((8, 10), 10)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_in_one_line_that_names_the_file(tmp_path, damage):
    run = factory.write_run(tmp_path)
    evidence.gather("ce", [run])
    before = {path.name: path.read_bytes() for path in run.directory.iterdir()}
    DAMAGE[damage](run.directory)
    [changed] = [path for path in run.directory.iterdir() if path.read_bytes() != before[path.name]]
    with pytest.raises(InputError) as caught:
        evidence.gather("ce", [run])
    assert str(changed) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(changed))


def test_a_temperature_that_is_none_is_refused(tmp_path):
    run = factory.write_run(tmp_path)
    result = run.result.model_copy(update={"temperature": 0.0})
    with pytest.raises(InputError, match=r"result\.json is damaged"):
        evidence.gather("ce", [record.Record(run.directory, run.config, result)])


def test_examples_have_the_names_that_the_run_gave_them(tmp_path):
    run = factory.write_run(tmp_path, "ce", 0)
    path = run.directory / "examples.safetensors"
    tensors = load_file(path)
    assert evidence.examples(run).names is None
    names = [f"/home/me/photos/<b>cat&/{i}.jpg" for i in range(len(tensors["index"]))]
    save_file(tensors, path, {"names": json.dumps(names)})
    assert evidence.examples(run).names == tuple(names)
    html = factory.html([run])
    assert "&lt;b&gt;cat&amp;/0.jpg" in html
    assert "/home/me" not in html
    for wrong in ("[1, 2]", "{", json.dumps(names[1:]), "null"):
        save_file(tensors, path, {"names": wrong})
        with pytest.raises(InputError, match="its names are not those of its images"):
            evidence.examples(run)
