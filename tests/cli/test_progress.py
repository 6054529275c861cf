"""What a terminal shows."""

import io

import pytest
from rich.console import Console

from selftaught.cli import progress
from selftaught.events import Again, Finished, Outcome, Progress, Progressed, Started, Waits
from selftaught.study.trials import Trial
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
        bars(Started(0))
        bars(Progressed(0, moment(1, 2)))
        bars(Started(1))
        bars(Progressed(1, moment(2, 0, resumed_at=9)))
        bars.bars.refresh()
        shown = screen.getvalue()
        assert bars.bars.tasks[0].completed == pytest.approx(7 / 15 + 10 / 15)
        bars(Finished(0, Outcome(stopped=True)))
        bars(Finished(1, Outcome(error="the disk is full")))
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
        lines(Started(0))
        for now[0] in (1.0, 9.9, 10.0, 15.0, 20.1):
            lines(Progressed(0, moment(1, 2)))
        lines(Finished(0, Outcome(stopped=True)))
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 3
    assert printed[0] == "ce seed 0: epoch 2/3, loss 1.234, accuracy 56.7 %, 890 images/s, 2 s left"
    assert printed[2] == "ce seed 0: stopped and saved"


STUDENTS = [Waits(1, 0), Waits(2, 0)]
SECOND_TRY = [
    Started(0),
    Again(0, "failed: no room; trying once more"),
    Started(0),
    Progressed(0, moment(2, 0, resumed_at=9)),
    Finished(0, Outcome(error="no room")),
]
NEVER_STARTED = [Finished(index, Outcome(error="its teacher (ce) failed")) for index in (1, 2)]


@pytest.fixture
def three(tmp_path):
    return [Trial(quick.config(seed=seed), tmp_path / str(seed)) for seed in (0, 1, 2)]


def test_lines_tell_of_waiting_second_tries_and_trials_that_never_started(three, capsys):
    with progress.Lines(three) as lines:
        for event in [*STUDENTS, *SECOND_TRY, *NEVER_STARTED]:
            lines(event)
    assert capsys.readouterr().err.splitlines() == [
        "ce seed 0: 2 trials wait for it",
        "ce seed 0: failed: no room; trying once more",
        "ce seed 0: goes on from step 9 of 15",
        "ce seed 0: failed: no room",
        "ce seed 1: failed: its teacher (ce) failed",
        "ce seed 2: failed: its teacher (ce) failed",
    ]


def test_lines_tell_again_where_a_second_try_goes_on(three, capsys):
    lines = progress.Lines(three)
    for event in (Started(0), Progressed(0, moment(1, 0, 5)), Again(0, "lost")):
        lines(event)
    lines(Progressed(0, moment(1, 0, 5)))  # from a try that is known to be over
    assert capsys.readouterr().err.count("goes on from step 5 of 15") == 2
    lines(Progressed(1, moment(1, 0)))  # whose start was not told
    assert capsys.readouterr().err == ""


def test_bars_tell_of_waiting_second_tries_and_trials_that_never_started(three, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=140, _environ={})
    )
    overall = []
    with progress.Bars(three) as bars:
        for event in [*STUDENTS, *SECOND_TRY, *NEVER_STARTED]:
            bars(event)
            overall.append(bars.bars.tasks[0].fields["moment"])
            bars(Progressed(2, moment(1, 0)))  # of a trial without a bar
        assert len(bars.bars.tasks) == 1
    assert overall == [
        "1 waits for its teacher",
        *["2 wait for their teachers"] * 5,
        *[""] * 3,
    ]
    for text in (
        "failed: no room; trying once more",
        "seed 0: goes on from step 9 of 15",
        "seed 2: failed: its teacher",
    ):
        assert text in screen.getvalue()
