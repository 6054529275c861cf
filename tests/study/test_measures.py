"""Measures of explanations against one image at a time through the library and SciPy; the cache."""

import json

import numpy as np
import pytest
import torch

import selftaught
from selftaught.errors import ExplanationError, InputError
from selftaught.files import record
from selftaught.study import measures
from selftaught.study.measures import Measuring, class_similarity, discriminativeness
from selftaught.training.loop import Stopped
from selftaught.training.presets import data_of
from selftaught.training.run import train
from tests.oracles import similarity as oracle
from tests.training import quick

OPTIONS = {"image_size": 16, "model": "resnet8", "epochs": 2, "test_size": 12}
OWN = {"saliency": "grad-cam", "relu": True, "layer": "features.stage2"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Finished runs by method, with their configurations."""
    parent = tmp_path_factory.mktemp("runs")
    configs = {
        "ce": quick.config("ce", **OPTIONS),
        "le": quick.config("le", warmup=1, **OPTIONS | OWN),
        "mlp": quick.config("ce", **OPTIONS | {"model": "mlp"}),
    }
    for name, config in configs.items():
        train(config, parent / name)
    return {name: (parent / name, config) for name, config in configs.items()}


def one_at_a_time(run, saliency, **options):
    """Float64 maps and the label of each test image, from an explanation of its own."""
    directory, config = run
    model, images = selftaught.load(directory).double(), data_of(config)
    for image, label in zip(images.test_images[:], images.test_labels, strict=True):
        x = (image[None].double() / 255 - model.mean) / model.std  # what the network was trained on
        yield selftaught.explain(model.model, x, saliency, **options).maps, int(label)


def expected_similarity(run, saliency, **options):
    return np.mean(
        [oracle.between_classes(maps.numpy())[0] for maps, _ in one_at_a_time(run, saliency, **options)],
        axis=0,
    )


def expected_discriminativeness(run, saliency, **options):
    values = []
    for maps, label in one_at_a_time(run, saliency, **options):
        row = oracle.pairwise(oracle.rank_correlation, maps.numpy(), [label])[0]
        values += [value for k, value in enumerate(row) if k != label]
    return np.mean(values)


CASES = [
    ("ce", None, "grad-cam", {}),
    ("ce", "grad", "grad", {}),
    ("ce", "grad-input", "grad-input", {}),
    ("ce", "guided-backprop", "guided-backprop", {}),
    ("mlp", None, "grad", {}),
    ("le", None, "grad-cam", {"relu": True, "layer": "features.stage2"}),
    ("le", "grad-cam", "grad-cam", {"relu": True, "layer": "features.stage2"}),
    ("le", "grad", "grad", {}),
]


@pytest.mark.parametrize(("name", "asked", "saliency", "options"), CASES)
def test_measures_are_means_over_all_test_images(runs, monkeypatch, name, asked, saliency, options):
    monkeypatch.setattr(measures, "_AT_ONCE", 7)
    run = runs[name]
    found = class_similarity(run[0], asked)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected_similarity(run, saliency, **options), atol=2e-4)
    np.testing.assert_array_equal(found, found.T)
    # In float32 two almost equal values of a map may change places.
    assert discriminativeness(run[0], asked) == pytest.approx(
        expected_discriminativeness(run, saliency, **options), abs=2e-3
    )


def test_a_limit_takes_classes_in_turn(runs):
    directory, config = runs["ce"]
    images, model = data_of(config), selftaught.load(directory)
    labels = images.test_labels.tolist()
    first = torch.tensor([labels.index(label) for label in range(10)])
    maps = selftaught.explain(model, images.test_images[first].float() / 255).maps
    expected = selftaught.similarity.between_classes(maps).mean(0)
    np.testing.assert_allclose(class_similarity(directory, how=Measuring(10)), expected, atol=1e-4)
    whole = class_similarity(directory)
    np.testing.assert_array_equal(class_similarity(directory, how=Measuring(10**6)), whole)
    with pytest.raises(InputError, match="images is 0 but should be at least 1"):
        Measuring(0)


def test_batches_are_small_where_maps_are_large(runs, monkeypatch):
    monkeypatch.setattr(measures, "_ELEMENTS", 10 * 16 * 16 * 4 + 5)
    steps = []
    how = Measuring(on_progress=lambda done, total: steps.append((done, total)))
    value = discriminativeness(runs["ce"][0], "grad", how)
    assert steps == [(4, 12), (8, 12), (12, 12)]
    monkeypatch.undo()
    assert discriminativeness(runs["ce"][0], "grad") == pytest.approx(value, abs=2e-3)


def test_the_callers_random_numbers_and_threads_are_left_alone(runs):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    asked = iter([False, True])
    with pytest.raises(Stopped):
        class_similarity(runs["ce"][0], how=Measuring(should_stop=lambda: next(asked, True) or True))
    class_similarity(runs["ce"][0])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.fixture
def counted(monkeypatch):
    """How many batches were explained."""
    calls, explain = [], measures.explain
    monkeypatch.setattr(measures, "explain", lambda *a, **k: calls.append(1) or explain(*a, **k))
    return calls


def test_what_was_measured_is_remembered(runs, tmp_path, counted):
    how = Measuring(cache=tmp_path / "study" / measures.MEASURES)
    first = class_similarity(runs["ce"][0], how=how), discriminativeness(runs["ce"][0], "grad", how)
    before = len(counted)
    again = class_similarity(runs["ce"][0], how=how), discriminativeness(runs["ce"][0], "grad", how)
    assert len(counted) == before > 0
    np.testing.assert_array_equal(again[0], first[0])
    assert again[1] == first[1]
    asked = [("le", "grad", None), ("ce", "grad-input", None), ("ce", "grad", 11)]
    for run, saliency, images in asked:  # each something else
        other = discriminativeness(runs[run][0], saliency, Measuring(images, how.cache))
        assert other != first[1]
        assert len(counted) > before
        before = len(counted)
    assert len(json.loads(how.cache.read_text())) == 5 + 1  # with its digest


@pytest.mark.parametrize("matrix", [False, True], ids=["number", "matrix"])
def test_a_damaged_cache_is_measured_again(runs, tmp_path, counted, matrix):
    cache = tmp_path / measures.MEASURES
    measure = class_similarity if matrix else discriminativeness
    value = measure(runs["ce"][0], how=Measuring(cache=cache))
    (key, kept), _digest = json.loads(cache.read_text()).items()
    wrong = [None, "0.5", True, 1e9, float("nan"), [], [[0.0] * 9] * 10, [[None] * 10] * 10, {"a": 1}]
    contents = [json.dumps({key: each}) for each in wrong]
    for content in [*contents, "", "[1]", "{", "[" * 99_999, json.dumps({key: kept})[:-3], "\xff"]:
        cache.write_bytes(content.encode("latin-1"))
        before = len(counted)
        np.testing.assert_array_equal(measure(runs["ce"][0], how=Measuring(cache=cache)), value)
        assert len(counted) > before
        assert json.loads(cache.read_text())[key] == kept


def test_other_entries_survive(runs, tmp_path):
    cache = tmp_path / measures.MEASURES
    cache.write_text('{"somebody else\'s": 0.25}')
    discriminativeness(runs["ce"][0], how=Measuring(cache=cache))
    assert len(json.loads(cache.read_text())) == 2 + 1
    assert [path.name for path in tmp_path.iterdir()] == [measures.MEASURES]


def test_what_cannot_be_measured(runs, tmp_path):
    with pytest.raises(InputError, match="is not a run directory"):
        class_similarity(tmp_path)
    with pytest.raises(InputError, match="unknown saliency 'gard'"):
        discriminativeness(runs["ce"][0], "gard")
    with pytest.raises(ExplanationError):
        class_similarity(runs["mlp"][0], "grad-cam")
    changed = tmp_path / "run"
    changed.mkdir()
    for path in runs["ce"][0].iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    (changed / record.WEIGHTS).write_bytes(b"")
    with pytest.raises(InputError, match="is damaged"):
        class_similarity(changed)
