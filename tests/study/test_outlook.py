"""What is said before a comparison begins."""

import time
from types import SimpleNamespace

import pytest

from selftaught.errors import InputError
from selftaught.study import outlook
from selftaught.study.flags import plan
from selftaught.training import estimate as estimates
from selftaught.training.estimate import Estimate
from selftaught.training.estimate import estimate as estimate_run
from selftaught.training.presets import resolve
from selftaught.training.run import train
from tests.data.conftest import encode, random_pictures
from tests.training import quick


def test_a_run_is_reckoned_up_from_its_steps():
    few, many = (estimate_run(quick.config("le", epochs=epochs)) for epochs in (2, 200))
    assert 20 < many.seconds / few.seconds < 500
    assert many.explained.startswith("features")
    assert 50e6 < many.memory < 8e9
    assert estimate_run(quick.config("ce")).explained is None


def test_what_is_decoded_anew_for_each_step_counts(tmp_path, monkeypatch):
    """Large photographs, streamed: most of the time is theirs."""
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number, picture in enumerate(random_pictures(12, (600, 600))):
            (tmp_path / "photos" / label / f"{number}.jpg").write_bytes(encode(picture, "JPEG"))
    monkeypatch.setenv("SELFTAUGHT_MEMORY", "0")
    options = {"model": "cnn6", "image_size": 8, "batch_size": 4, "epochs": 8, "val_fraction": 0.0}
    config = resolve(str(tmp_path / "photos"), "ce", **options)
    expected = estimate_run(config).seconds
    begun = time.perf_counter()
    train(config, tmp_path / "run")
    taken = time.perf_counter() - begun
    assert taken / 4 < expected < 4 * taken


@pytest.mark.parametrize(
    ("refresh", "steps", "expected"),
    [
        (1.0, [9, 8, 1], 1),  # it waited for a process to be started
        (1.0, [9, 1, 1, 2], 1),
        (0.5, [9, 1, 3, 7, 3], 2),  # every other step is explained
    ],
)
def test_a_step_that_waits_for_something_is_not_taken_for_all(monkeypatch, refresh, steps, expected):
    now = [0.0]
    taken = iter(steps)

    def step():
        now[0] += next(taken)

    monkeypatch.setattr(estimates.time, "perf_counter", lambda: now[0])
    runner = SimpleNamespace(step=step, session=SimpleNamespace(config=SimpleNamespace(refresh=refresh)))
    assert estimates._seconds(runner) == expected


@pytest.fixture
def told(monkeypatch):
    """Trials of CE take 10 seconds, those of LE 20; what was measured is noted."""
    seconds, measured = {"ce": 10.0, "le": 20.0}, []

    def estimate(config):
        measured.append((config.method, config.model))
        return Estimate(seconds[config.method], int(seconds[config.method]), None)

    monkeypatch.setattr(outlook, "estimate", estimate)
    return measured


def test_trials_are_shared_out_among_the_workers(told):
    configs = plan("digits", ["ce", "le"], trials=3, **quick.OPTIONS)
    assert outlook.outlook(configs, 1) == outlook.Outlook(90.0, 20, {}, 2, 2)
    assert told == [("ce", "resnet8"), ("le", "resnet8")]
    assert outlook.outlook(configs, 2).seconds == pytest.approx(45.0)
    assert outlook.outlook(configs, 6).seconds == pytest.approx(20.0)


def test_what_there_is_no_time_to_measure_is_taken_to_be_like_what_is_most_like_it(told, monkeypatch):
    """Those with most epochs are measured; of the others the model counts most."""
    few, many = (quick.config("ce", model=model, epochs=e) for model, e in (("resnet8", 3), ("resnet14", 6)))
    others = [quick.config("le", model=model, epochs=2) for model in ("resnet8", "resnet14")]
    times = iter([0, 1, 1000])
    monkeypatch.setattr(outlook, "monotonic", lambda: next(times))
    found = outlook.outlook([few, many, *others])
    assert told == [("ce", "resnet14"), ("ce", "resnet8")]
    assert (found.measured, found.kinds) == (2, 4)
    assert found.seconds == pytest.approx(10 + 10 + 2 * 10 / 3 + 2 * 10 / 6)


def test_a_method_whose_steps_fail_does_not_stop_the_others(monkeypatch):
    def measured(config):
        if config.method == "le":
            raise InputError("layer 'nosuch' is not there")
        return Estimate(10.0, 1000, None)

    monkeypatch.setattr(outlook, "estimate", measured)
    both = [quick.config("ce"), quick.config("le")]
    found = outlook.outlook(both)
    assert (found.measured, found.seconds) == (1, 20.0)
    assert found.failures == {"le": "layer 'nosuch' is not there"}
    assert outlook.outlook(both[1:]).measured == 0
