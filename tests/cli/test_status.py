"""`selftaught status` as it is seen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from selftaught.cli.status import duration, status
from selftaught.errors import InputError
from tests.files.test_study_status import begin, node, write


@pytest.fixture
def study(tmp_path):
    """A teacher that runs, with an assistant that has a student, and a trial that failed, all with 2 s per epoch."""
    directory = write(
        tmp_path / "runs" / "table2",
        node("d", error="no room [bold]"),
        node("a"),
        node("c", teacher="b"),
        node("b", teacher="a"),
    )
    begin(directory, "a", 5, 10.0)
    return directory


def test_teachers_stand_above_their_students_and_the_sum_below(study, capsys):
    assert status(study, False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"table2 in {study}",
        "trial d      failed      no room [bold]",
        "trial a      interrupted epoch 5/10",
        "  trial b    waiting",
        "    trial c  waiting",
        "4 trials: 1 interrupted, 2 waiting, 1 failed; 50 s of training left",
    ]


def test_a_long_line_is_not_broken_in_a_pipe(study, capsys):
    write(study, node("a", error="why " * 100))
    status(study, False)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_terminal_acts_on_nothing_that_others_wrote(tmp_path, capsys):
    study = write(tmp_path / "odd", node("a", error="\x1b[31mred\x07"))
    status(study, False)
    assert "\ufffd[31mred\ufffd" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "darwin", reason="names of files are text there")
def test_names_that_are_no_text_are_shown(tmp_path):
    study = write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd-\xff")), node("a"))
    command = [sys.executable, "-m", "selftaught", "status", study]
    for encoding in ("utf-8:strict", "ascii:strict"):
        done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"1 trial: 1 waiting" in done.stdout


def test_as_json_it_says_the_same(study, capsys):
    assert status(study, True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["title"] == "table2"
    assert found["counts"] == {"done": 0, "running": 0, "interrupted": 1, "waiting": 2, "failed": 1}
    assert found["seconds_left"] == pytest.approx(50)
    assert found["trials"][0]["error"] == "no room [bold]"
    assert found["trials"][1] == {
        "trial_id": "a" * 12,
        "name": "trial a",
        "model": "mlp",
        "method": "ce",
        "seed": 0,
        "teacher": None,
        "error": None,
        "state": "interrupted",
        "epochs": 5,
        "epochs_in_all": 10,
        "seconds": 10.0,
        "accuracy": None,
    }


def test_by_default_the_newest_study_below_runs(study, capsys, monkeypatch):
    monkeypatch.chdir(study.parents[1])
    assert status(None, False) == 0
    assert capsys.readouterr().out.startswith("table2 in runs/table2\n")
    monkeypatch.chdir(study)
    with pytest.raises(InputError, match="there is no study below runs: name its directory"):
        status(None, False)


def test_what_is_not_known_is_not_said(tmp_path, capsys):
    status(write(tmp_path, node("a")), False)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "1 trial: 1 waiting; the time left is not known before the first epoch is done"
    )
    status(write(tmp_path), False)
    assert capsys.readouterr().out.splitlines()[-1] == "no trials"


@pytest.mark.parametrize(
    ("seconds", "text"), [(3600, "1 h"), (86399.6, "1 d"), (3605, "1 h"), (90, "1 min 30 s")]
)
def test_durations_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text


def test_torch_is_not_imported(study):
    imports = "import sys; from selftaught.cli.status import status"
    program = f"{imports}; status(None, False); assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=study.parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("table2 in runs/table2\n")
