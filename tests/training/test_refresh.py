"""Training with amortised explanations: names, records, interruptions, cost."""

import itertools
import json

import pytest
import torch

from selftaught.data.batches import Batches
from selftaught.errors import InputError
from selftaught.files import record
from selftaught.files.config import NEUTRAL, parse
from selftaught.methods.le import LearningWithExplanations
from selftaught.study.flags import plan
from selftaught.training import cost
from selftaught.training import estimate as estimates
from selftaught.training.presets import data_of, resolve
from selftaught.training.run import Stopped, train
from selftaught.training.session import try_step
from tests.files.test_config import VALUES
from tests.training import quick

OLD_SETTINGS = {
    "alpha": 0.9,
    "weight": 0.1,
    "warmup": 1,
    "saliency": "grad",
    "similarity": "cosine",
    "layer": None,
    "relu": False,
}


def test_explanations_are_kept_by_image_where_images_come_again_and_are_augmented(tmp_path):
    """Balanced sampling shows an image of a rare class several times in an epoch, perhaps in one batch."""
    options = {
        "epochs": 2,
        "warmup": 0,
        "refresh": 0.5,
        "sampling": "balanced",
        "augment": "trivial",
        "model": "mlp",
    }
    config = quick.config("le", batch_size=20, **options)
    train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "parts", should_stop=quick.stop_after(1))
    train(config, tmp_path / "parts")
    assert quick.fingerprint(tmp_path / "parts") == quick.fingerprint(tmp_path / "whole")


@pytest.mark.parametrize(("method", "name"), [("le", "4023f9858fea"), ("le-permut", "ad42a9d4703b")])
def test_exact_runs_keep_the_names_from_before_there_was_the_setting(method, name):
    """The names are those that the code before gave."""
    before = parse(VALUES | {"method": method, "settings": OLD_SETTINGS})
    now = parse(VALUES | {"method": method, "settings": OLD_SETTINGS | NEUTRAL})
    assert before == now
    assert before.trial_id == now.trial_id == name
    assert not before.differences(now)
    assert before.refresh == 1.0
    less = parse(VALUES | {"method": method, "settings": OLD_SETTINGS | {"refresh": 0.5}})
    assert less.trial_id != name
    assert less.refresh == 0.5
    assert before.differences(less) == ["refresh: unset -> 0.5"]


def test_the_setting_reaches_the_configuration():
    assert quick.config("le") == quick.config("le", refresh=1) == quick.config("le", refresh=1.0)
    assert quick.config("le").trial_id == "4a45b8e30d63"  # named by the code before
    assert quick.config("le-permut", refresh=0.25).settings["refresh"] == 0.25
    assert quick.config("ce", refresh=0.25) == quick.config("ce")
    assert quick.config("le", centre=False) == quick.config("le")
    assert quick.config("le", centre=True).settings["centre"] is True
    assert quick.config("le", centre=True).trial_id != quick.config("le").trial_id
    with pytest.raises(InputError, match=r"refresh must be in \[0.01, 1\], not 0.0"):
        quick.config("le", refresh=0)


def test_a_record_from_before_goes_on_as_an_exact_run(tmp_path):
    config = quick.config("le")
    with pytest.raises(Stopped):
        train(config, tmp_path / "run", should_stop=quick.stop_after(7))
    assert "refresh" not in json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    train(quick.config("le", refresh=1.0), tmp_path / "run")
    assert record.read(tmp_path / "run").config == config


INTERRUPTED = {
    "le": ("le", {"padding": 1, "flip": True}),
    "le-permut": ("le-permut", {"padding": 1, "flip": True}),
    "gradients": ("le", {"saliency": "grad", "model": "mlp", "warmup": 0}),
    "streamed": ("le", {"augment": "photo"}),
}


@pytest.mark.parametrize("variant", INTERRUPTED)
def test_an_interrupted_run_ends_with_the_same_bytes(tmp_path, monkeypatch, variant):
    """With a last batch of two images, and a table that is only half full where some stops come."""
    method, options = INTERRUPTED[variant]
    if variant == "streamed":
        monkeypatch.setenv("SELFTAUGHT_MEMORY", "0")
    config = quick.config(method, refresh=0.4, train_size=42, **options)
    train(config, tmp_path / "whole")
    for stops in ([8], [6, 2, 5]) if variant == "le" else ([6, 2, 5],):
        parts = tmp_path / str(stops)
        for steps in stops:
            with pytest.raises(Stopped):
                train(config, parts, should_stop=quick.stop_after(steps))
        train(config, parts)
        assert quick.fingerprint(parts) == quick.fingerprint(tmp_path / "whole")


def test_less_is_explained_from_the_second_epoch_after_the_warmup_on(tmp_path):
    results = {}
    for share in (1.0, 0.4):
        train(quick.config("le", refresh=share, epochs=4), tmp_path / str(share))
        results[share] = quick.fingerprint(tmp_path / str(share))
    one, less = results.values()
    # The warm-up and the first epoch after it are the exact ones.
    assert one["metrics"][:2] == less["metrics"][:2]
    assert one["metrics"][2:] != less["metrics"][2:]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_method_hears_which_images_come(tmp_path, monkeypatch, streamed):
    """Their numbers are those of the labels it is given, through an interruption, the last small batch included."""
    if streamed:
        monkeypatch.setenv("SELFTAUGHT_MEMORY", "0")
    config = quick.config("le", train_size=42, warmup=1)
    heard, labels, original = [], [], LearningWithExplanations.forward

    def spy(self, x, y, index, view):
        heard.append(index)
        labels.append(y)
        return original(self, x, y, index, view)

    monkeypatch.setattr(LearningWithExplanations, "forward", spy)
    with pytest.raises(Stopped):
        train(config, tmp_path, should_stop=quick.stop_after(8))
    train(config, tmp_path)
    every = data_of(config).train_labels
    assert len(heard) == 3 * 6
    for samples, y in zip(heard, labels, strict=True):
        assert torch.equal(every[samples], y)
    for epoch in range(3):
        assert sorted(torch.cat(heard[6 * epoch : 6 * epoch + 6]).tolist()) == list(range(42))


@pytest.mark.parametrize(("count", "size", "seed"), [(10, 4, None), (10, 4, 0), (9, 4, 3), (1, 4, 0)])
def test_the_images_of_an_epoch_are_known_without_making_it(count, size, seed):
    images = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    batches = Batches(images, torch.arange(count), size, [0.5], [0.25], seed=seed, padding=1)
    for epoch, first in itertools.product((0, 5), range(len(batches) + 1)):
        samples = batches.samples(epoch, first)
        assert [s.tolist() for s in samples] == [y.tolist() for _, y in batches.epoch(epoch, first)]
        assert all(s.dtype == torch.int64 for s in samples)


def test_a_first_step_can_be_tried_with_shares_of_explanations():
    try_step(quick.config("le", refresh=0.1))


def costs_of(monkeypatch, share: float, explained: float) -> float:
    """The cost of a method whose explained steps take `explained` plain ones."""
    calls = {}

    def step(runner):
        config = runner.session.config
        call = calls[runner] = calls.get(runner, -1) + 1
        due = call == 0 or int((call + 1) * config.refresh) > int(call * config.refresh)
        return explained if config.method == "le" and due else 1.0

    monkeypatch.setattr(cost.Runner, "step", step)
    [measured] = cost.measure([quick.config("le", refresh=share)], steps=60)
    return measured.relative


@pytest.mark.parametrize("share", [1.0, 0.7, 0.5, 0.3, 0.25, 0.1, 0.02])
def test_the_cost_is_that_of_explained_and_plain_steps_together(monkeypatch, share):
    assert costs_of(monkeypatch, share, explained=5.0) == pytest.approx(1 + 4 * share, rel=0.02)


def test_only_a_share_of_the_measured_steps_is_explained(monkeypatch):
    kept = []
    with_refresh = quick.config("le", refresh=0.25, train_size=42)
    runner = cost.Runner(with_refresh)
    explainer = runner.session.method.criterion.explainer
    compare = explainer.compare

    def spy(model, x, *others):
        kept.append(len(x))
        return compare(model, x, *others)

    monkeypatch.setattr(explainer, "compare", spy)
    for _ in range(41):
        runner.step()
    runner.close()
    # The first, and those that the schedule says; batches of another size know their samples too.
    assert len(kept) == 1 + 10


def test_an_estimate_counts_the_first_exact_epoch(monkeypatch):
    """An explained step takes five seconds, a plain one one."""

    def seconds(runner):
        assert runner.session.config.method == "le"
        warming = runner.session.method.warming_up
        return 1.0 if warming else 1.0 + 4.0 * runner.session.config.refresh

    monkeypatch.setattr(estimates, "_seconds", seconds)
    monkeypatch.setattr(estimates, "_seconds_per_evaluated_image", lambda runner: 0.0)
    options = {"model": "mlp", "saliency": "grad", "epochs": 6, "warmup": 2}
    steps = quick.STEPS_PER_EPOCH
    assert estimates.estimate(quick.config("le", **options)).seconds == steps * (2 * 1 + 4 * 5)
    amortised = estimates.estimate(quick.config("le", refresh=0.25, **options))
    assert amortised.seconds == steps * (2 * 1 + 1 * 5 + 3 * 2)


def test_measured_steps_are_whole_windows(monkeypatch):
    class Counted:
        session = cost.Runner(quick.config("le", refresh=0.1)).session
        steps = 0

        def step(self):
            self.steps += 1

    runner = Counted()
    monkeypatch.setattr(estimates, "MOST_STEPS", 3)
    estimates._seconds(runner)
    assert (runner.steps - 1) % 10 == 0
    assert runner.steps > 1


def test_a_comparison_takes_the_setting():
    trials = plan("digits", ["ce", "le"], trials=1, refresh=0.5, **quick.OPTIONS)
    assert [trial.settings.get("refresh") for trial in trials] == [None, 0.5]
    assert resolve("digits", "le", **quick.OPTIONS).refresh == 1.0
