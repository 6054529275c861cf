"""What a command is busy with: a line on stderr for what takes long, a bar on a terminal."""

import io
import sys
import time

import pytest

from selftaught.activities import Activity, activity
from selftaught.cli import busy

READING, LOOKING = Activity("reading images", 64, 1906), Activity("looking at sizes")


@pytest.fixture
def watch(monkeypatch):
    """Lines whose clock is ours, and which look when they are told to."""
    monkeypatch.setattr(busy, "PATIENCE", 2.0)
    monkeypatch.setattr(busy._Watch, "_look_again_and_again", lambda self: None)
    now = [0.0]
    monkeypatch.setattr(busy.time, "monotonic", lambda: now[0])

    def at(seconds, lines, *hear):
        now[0] = seconds
        for what in hear:
            lines.hear(what)
        if lines.now:
            lines.look(seconds)

    return at


def test_what_takes_long_gets_a_line_and_now_and_then_one_more(watch, capsys):
    with busy.Lines("ce: ") as lines:
        watch(0.0, lines, (READING,))
        watch(1.9, lines)
        assert capsys.readouterr().err == ""
        watch(2.0, lines)
        watch(4.1, lines, (READING, LOOKING))  # which has not taken long
        watch(6.1, lines)
        watch(8.5, lines)
        watch(16.2, lines, (READING,))
        watch(17.0, lines, (), (READING,))
        watch(18.9, lines)
    assert capsys.readouterr().err.splitlines() == [
        "ce: reading images: 64 of 1,906",
        "ce: reading images: 64 of 1,906; looking at sizes",
        "ce: reading images: 64 of 1,906",
    ]


@pytest.mark.parametrize("quiet", [False, True])
def test_it_is_said_while_it_is_being_done(quiet, monkeypatch, capsys):
    monkeypatch.setattr(busy, "PATIENCE", 0.0)
    monkeypatch.setattr(busy, "_TICK", 0.01)
    with busy.shown(quiet), activity(busy.hear, "loading"):
        until = time.monotonic() + (0.05 if quiet else 30.0)
        said = ""
        while not said and time.monotonic() < until:
            time.sleep(0.01)
            said = capsys.readouterr().err
    assert said == ("" if quiet else "loading\n")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_has_a_bar_which_goes_when_it_is_over(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(busy._Watch, "_look_again_and_again", lambda self: None)  # we look ourselves
    with busy.shown(quiet=False), activity(busy.hear, "reading images", 1906):
        pass
    assert screen.getvalue() == ""
    bar = busy._Bar()
    bar.hear((READING, LOOKING))
    bar.look(bar.since[0] + 1)
    bar.bar.refresh()
    shown = screen.getvalue()
    assert "reading images; looking at sizes" in shown
    assert "64/1,906" in shown
    bar.close()
    assert screen.getvalue().rstrip().endswith("\x1b[2K")
