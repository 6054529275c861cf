import itertools

import pytest
import torch

from selftaught.errors import SelftaughtError
from selftaught.events import Progress
from selftaught.methods import Step
from selftaught.training import metrics
from selftaught.training.loop import Autosave, Meter, Position
from tests.oracles import metrics as oracle


def step(loss: float, predictions: list[int]) -> Step:
    return Step(torch.tensor(loss), torch.eye(3)[predictions], {"ce": torch.tensor(2 * loss)})


def test_means_weigh_batches_by_their_images():
    meter = Meter(Position())
    meter.add(step(1.0, [0, 1, 2]), torch.tensor([0, 1, 0]))
    meter.add(step(5.0, [1]), torch.tensor([1]))
    meter.flush()
    means = meter.position.means()
    assert {name: means[name] for name in ("loss", "loss_ce", "accuracy")} == pytest.approx(
        {"loss": 2.0, "loss_ce": 4.0, "accuracy": 0.75}
    )
    assert (meter.position.step, meter.position.images) == (2, 4)


def test_calibration_of_an_epoch_is_that_of_its_batches_together():
    meter = Meter(Position())
    logits, labels = torch.randn(40, 5), torch.randint(5, (40,))
    for rows in (slice(0, 8), slice(8, 31), slice(31, 40)):
        meter.add(Step(torch.tensor(1.0), logits[rows], {}), labels[rows])
    meter.flush()
    means = meter.position.means()
    assert means["ece"] == pytest.approx(metrics.ece(logits, labels), abs=1e-9)
    assert means["nll"] == pytest.approx(metrics.nll(logits, labels), rel=1e-6)
    assert means["accuracy"] == pytest.approx(metrics.accuracy(logits, labels))


def test_saving_comes_soon_then_rarely_and_never_dear(monkeypatch):
    now, saved = [0.0], []
    monkeypatch.setattr("selftaught.training.loop.time.perf_counter", lambda: now[0])

    def save() -> None:
        saved.append(now[0])
        now[0] += 0.01 if now[0] < 100 else 3.0

    autosave = Autosave(save, seconds=30)
    while now[0] < 400:
        now[0] += 0.5
        if autosave.is_due():
            autosave()
    assert saved[0] == 2.0
    pauses = [b - a for a, b in itertools.pairwise(saved)]
    assert pauses[:4] == pytest.approx([4, 8, 16, 30], abs=0.6)
    assert max(pauses[4:]) >= 60


def test_means_do_not_depend_on_when_losses_are_read():
    losses = torch.rand(50).tolist()
    positions = []
    for every in (1, 7, 50):
        meter = Meter(Position())
        for index, loss in enumerate(losses):
            meter.add(step(loss, [0, 1]), torch.tensor([0, 0]))
            if index % every == 0:
                meter.flush()
        meter.flush()
        positions.append(meter.position)
    assert positions[0] == positions[1] == positions[2]


def test_what_soft_labels_say_is_the_mean_over_the_images_of_the_steps_that_made_some():
    similarities, labels = 2 * torch.rand(11, 5) - 1, torch.randint(5, (11,))
    meter = Meter(Position())
    meter.add(Step(torch.tensor(1.0), torch.eye(5)[labels[:8]], {}, similarities[:8]), labels[:8])
    meter.add(Step(torch.tensor(1.0), torch.eye(5)[labels[8:]], {}, similarities[8:]), labels[8:])
    meter.flush()
    means, expected = meter.position.means(), oracle.carried(similarities, labels)
    for name, values in expected.items():
        assert means[f"soft_{name}"] == pytest.approx(sum(values) / 11, rel=1e-5)
    meter.position.next_epoch()
    meter.add(step(1.0, [0, 1]), torch.tensor([0, 1]))
    meter.flush()
    assert not [name for name in meter.position.means() if name.startswith("soft_")]


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_each_number_is_its_own_steps_to_the_last_bit_however_many_are_taken_together(classes):
    """Or a run that was interrupted would leave other metrics than one that was not."""
    torch.manual_seed(classes)
    batches = [(3 * torch.randn(size, classes), torch.randint(classes, (size,))) for size in [37] * 40 + [5]]
    alike = [2 * torch.rand_like(logits) - 1 for logits, _ in batches]
    positions = []
    for every, kept in ((1, 1 << 20), (7, 1 << 20), (50, 1 << 20), (50, 1), (50, 37 * classes * 3)):
        meter = Meter(Position())
        meter.KEPT = kept
        for index, (logits, labels) in enumerate(batches):
            meter.add(Step(logits.mean(), logits, {"ce": logits.std()}, alike[index]), labels)
            if index % every == 0:
                meter.flush()
        meter.flush()
        positions.append(meter.position)
    assert all(position == positions[0] for position in positions)
    assert positions[0].means()["nll"] == pytest.approx(
        metrics.nll(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])), rel=1e-6
    )


def test_steps_may_differ_in_their_terms_and_batch_sizes():
    meter = Meter(Position())
    meter.add(Step(torch.tensor(1.0), torch.eye(3), {"ce": torch.tensor(4.0)}), torch.arange(3))
    meter.add(Step(torch.tensor(2.0), torch.eye(3), {"soft": torch.tensor(6.0)}), torch.tensor([0, 0, 0]))
    meter.add(Step(torch.tensor(8.0), torch.eye(3)[:2], {"soft": torch.tensor(1.0)}), torch.tensor([0, 1]))
    meter.flush()
    means = meter.position.means()
    assert (means["loss"], means["loss_ce"], means["loss_soft"]) == (25 / 8, 12 / 8, 20 / 8)
    assert means["accuracy"] == 6 / 8


def test_the_first_bad_loss_is_named_however_late_it_is_read():
    meter = Meter(Position(epoch=3, step=10))
    for loss in (1.0, 2.0, float("inf"), float("nan")):
        meter.add(step(loss, [0]), torch.tensor([0]))
    with pytest.raises(SelftaughtError, match="loss became inf in epoch 4, step 13"):
        meter.flush()


def test_time_left_counts_from_where_the_session_began():
    progress = Progress(
        epoch=1,
        epochs=4,
        step=5,
        steps=10,
        loss=0,
        accuracy=0,
        images_per_second=0,
        seconds=10,
        resumed_at=10,
    )
    # 5 steps took this session 10 s; 25 of 40 are left.
    assert progress.seconds_left == pytest.approx(50)
