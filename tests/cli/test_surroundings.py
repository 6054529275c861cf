"""What surrounds a command: pipes that nobody reads, closed streams, launchers of several copies, little memory."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from selftaught.cli import listing
from tests.commands import call

SELFTAUGHT = [sys.executable, "-m", "selftaught"]
QUICK = [
    "--train-size",
    "40",
    "--image-size",
    "8",
    "--batch-size",
    "8",
    "--epochs",
    "1",
    "--model",
    "resnet8",
]


def unread(*arguments: str, both: bool = False) -> tuple[int, str]:
    """Exit code and stderr of a command whose stdout, or both streams, nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    err = writing if both else subprocess.PIPE
    done = subprocess.run([*SELFTAUGHT, *arguments], stdout=writing, stderr=err, text=True)
    os.close(writing)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["compare", "--help"], ["ls", "methods"]])
def test_a_reader_that_has_gone_is_no_error(arguments):
    assert unread(*arguments) == (0, "")


def test_a_comparison_that_nobody_watches_is_made(tmp_path):
    """Its process, and that of its worker, which has the same stderr."""
    study = tmp_path / "study"
    flags = ["--methods", "ce", "--trials", "1", "--jobs", "1", *QUICK, "--out", str(study)]
    assert unread("compare", "digits", *flags, both=True) == (0, "")
    assert (study / "table.csv").exists()
    assert unread("status", str(study)) == (0, "")


@pytest.mark.parametrize("closed", [(1, 2), (0, 1, 2)])
def test_every_stream_closed(closed, tmp_path):
    """Nothing can be said, and a file that is opened must not be written to as if it were a stream."""
    streams = " ".join(f"{number}>&-" for number in closed)
    script = f"exec {sys.executable} -m selftaught --version {streams}"
    assert subprocess.run(["bash", "-c", script], cwd=tmp_path, timeout=60).returncode == 2


@pytest.mark.parametrize(
    "variable", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"]
)
def test_several_copies_are_refused(variable, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv(variable, "2")
    assert call("train", "digits", "-q") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"{variable}=2" in said[0]
    assert "--jobs" in said[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", ["1", "0", "", "many"])
def test_one_copy_is_none_too_many(count, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", count)
    assert call("--version") == 0


def too_much_for_numpy(*_):
    np.zeros(1 << 60, dtype=np.uint8)


def too_much_for_torch(*_):
    torch.empty(1 << 60, dtype=torch.uint8)


def too_much_for_the_system(*_):
    raise OSError(12, "Cannot allocate memory")


@pytest.mark.parametrize(
    "ask", [too_much_for_numpy, too_much_for_torch, too_much_for_the_system], ids=lambda ask: ask.__name__
)
def test_too_little_memory_is_one_line(ask, monkeypatch, capsys):
    monkeypatch.setattr(listing, "listing", ask)
    assert call("ls") == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "not enough memory" in said[0]


def test_an_end_of_file_is_no_interruption(monkeypatch):
    """Typer takes it for the end of what somebody types; nobody types anything here."""

    def ends(*_):
        raise EOFError("Ran out of input")

    monkeypatch.setattr(listing, "listing", ends)
    with pytest.raises(EOFError):
        call("ls")
