"""Numbers computed again from predictions are those of the trainer, and tolerate rounding, not damage."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.files import scores
from selftaught.training import evaluate, metrics


def predictions(images: int, classes: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    logits = rng.normal(0, spread, (images, classes)).astype(np.float32)
    logits[np.arange(images), labels] += np.float32(spread)
    return logits, labels


def trainers(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    told = torch.from_numpy(logits), torch.from_numpy(labels)
    return {name: getattr(metrics, name)(*told) for name in ("accuracy", "nll", "ece")}


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(2, 30), st.floats(0.01, 60), st.integers(0, 2**31))
def test_they_are_those_of_the_trainer(images, classes, spread, seed):
    logits, labels = predictions(images, classes, spread, seed)
    found = scores.scores(scores.judged(logits, labels))
    assert list(found.differences(trainers(logits, labels))) == []


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(2, 30), st.floats(0.01, 60), st.integers(0, 2**31))
def test_half_precision_is_near_enough(images, classes, spread, seed):
    logits, labels = predictions(images, classes, spread, seed)
    of = scores.judged(logits, labels)
    half = [np.minimum(values, 65504).astype(np.float16) for values in (of.nll, of.brier, of.confidence)]
    found = scores.scores(scores.archived(of.right, *half))
    assert list(found.differences(trainers(logits, labels))) == []


OF_CLASSES = ("balanced_accuracy", "macro_f1", "top5_accuracy")


def told_of_classes(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    told = evaluate.by_class(torch.from_numpy(logits), torch.from_numpy(labels))
    return {name: told[name] for name in OF_CLASSES}


@settings(max_examples=40)
@given(st.integers(1, 60), st.sampled_from([2, 5, 20, 30]), st.booleans(), st.integers(0, 2**31))
def test_what_counts_classes_alike_is_that_of_the_trainer(images, classes, ties, seed):
    logits, labels = predictions(images, classes, 2.0, seed)
    if ties:
        logits = logits.round()
    found = scores.by_class(logits, labels)
    assert list(found.differences(told_of_classes(logits, labels))) == []
    assert found.images.tolist() == np.bincount(labels, minlength=classes).tolist()
    assert found.right.sum() == (logits.argmax(1) == labels).sum()


@pytest.mark.parametrize("name", OF_CLASSES)
def test_what_is_wrong_of_the_classes_is_noticed(name):
    logits, labels = predictions(3_000, 20, 1.0, 0)
    told = told_of_classes(logits, labels)
    [difference] = scores.by_class(logits, labels).differences(told | {name: told[name] - 1e-4})
    assert difference.startswith(f"its {name} is ")


def test_of_few_classes_there_is_no_top_5():
    logits, labels = predictions(50, 19, 1.0, 0)
    assert told_of_classes(logits, labels)["top5_accuracy"] is None
    [difference] = scores.by_class(logits, labels).differences({"top5_accuracy": 0.9})
    assert "not measured of so few classes" in difference


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_a_temperature_divides_the_logits(temperature):
    logits, labels = predictions(500, 10, 3.0, 0)
    found = scores.scores(scores.judged(logits, labels, temperature))
    scaled = (torch.from_numpy(logits) / temperature).numpy()
    assert list(found.differences(trainers(scaled, labels))) == []


@pytest.mark.parametrize("name", ["accuracy", "nll", "ece"])
def test_what_is_wrong_in_the_fourth_digit_is_noticed(name):
    logits, labels = predictions(10_000, 10, 3.0, 0)
    told = trainers(logits, labels)
    wrong = told | {name: told[name] * 1.0003}
    [difference] = scores.scores(scores.judged(logits, labels)).differences(wrong)
    assert difference.startswith(f"its {name} is ")


def test_of_equal_logits_either_class_may_have_been_taken():
    logits, labels = np.zeros((4, 2), np.float32), np.array([0, 1, 1, 1])
    found = scores.scores(scores.judged(logits, labels))
    assert list(found.differences({"accuracy": 0.75})) == []
    logits[:, 0] = 1
    found = scores.scores(scores.judged(logits, labels))
    assert len(list(found.differences({"accuracy": 0.75}))) == 1
