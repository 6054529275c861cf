"""What a terminal shows."""

import io

import pytest
from rich.console import Console

from selftaught.cli import progress
from selftaught.study.executor import Event, Outcome
from selftaught.study.plan import Trial
from selftaught.training.progress import Progress
from tests.training import quick


@pytest.fixture
def trials(tmp_path):
    return [Trial(quick.config(seed=seed), tmp_path / str(seed)) for seed in (0, 1)]


def moment(epoch, step, resumed_at=0):
    return Progress(
        epoch=epoch, epochs=3, step=step, steps=5, loss=1.234, accuracy=0.567, images_per_second=890.0, seconds=2.0,
        resumed_at=resumed_at,
    )  # fmt: skip


def test_bars_show_loss_accuracy_speed_and_time_left(trials, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=140, _environ={})
    )
    with progress.Bars(trials) as bars:
        bars(Event(0))
        bars(Event(0, progress=moment(1, 2)))
        bars(Event(1))
        bars(Event(1, progress=moment(2, 0, resumed_at=9)))
        bars.bars.refresh()
        shown = screen.getvalue()
        assert bars.bars.tasks[0].completed == pytest.approx(7 / 15 + 10 / 15)
        bars(Event(0, outcome=Outcome(stopped=True)))
        bars(Event(1, outcome=Outcome(error="the disk is full")))
    for text in (
        "ce seed 0",
        "ce seed 1",
        "epoch 2/3",
        "loss 1.234",
        "accuracy 56.7 %",
        "890 images/s",
        "47%",
    ):
        assert text in shown
    ended = screen.getvalue()
    assert "ce seed 0: stopped and saved" in ended
    assert "ce seed 1: failed: the disk is full" in ended


def test_lines_come_about_every_ten_seconds(trials, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Lines(trials) as lines:
        lines(Event(0))
        for now[0] in (1.0, 9.9, 10.0, 15.0, 20.1):
            lines(Event(0, progress=moment(1, 2)))
        lines(Event(0, outcome=Outcome(stopped=True)))
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 3
    assert printed[0] == "ce seed 0: epoch 2/3, loss 1.234, accuracy 56.7 %, 890 images/s, 2 s left"
    assert printed[2] == "ce seed 0: stopped and saved"
