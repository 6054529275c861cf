"""What is refused at once, and what a dry run leaves behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from selftaught.cli import early
from selftaught.cli.options import RunOptions
from selftaught.data import sources
from selftaught.errors import InputError
from selftaught.training import session
from tests.commands import call

QUICK = ["--model", "mlp", "--train-size", "40", "--epochs", "2", "--val-fraction", "0", "--threads", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    flags = ["--methods", "ce", "--trials", "2", "--jobs", "1", "--keep-checkpoints", "-q"]
    assert call("compare", "digits", *flags, *QUICK, "--out", folder / "study") == 0
    return folder / "study"


@pytest.fixture
def study(made, tmp_path):
    shutil.copytree(made, tmp_path / "study")
    return tmp_path / "study"


def test_flags_are_checked_without_importing_torch():
    code = (
        "import sys; from selftaught import cli\n"
        "for arguments in (['compare', 'nothing', '--lr', '-1'], ['train', 'nothing', '--out', sys.executable],\n"
        "                  ['compare', 'nothing', '--methods', 'ce,lee'], ['bench', '--alpha', '1.5'],\n"
        "                  ['predict', 'nothing', 'a.png'], ['reproduce', 'nothing'], ['archive', 'nothing']):\n"
        "    assert cli._run(arguments) == 2, arguments\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("selftaught: error: ")) == (0, 7), done.stderr


@pytest.mark.parametrize(
    "flags",
    [
        {"momentum": 0.5},
        {"milestones": "3,9"},
        {"precision": "16-mixed"},
        {"precision": "16-mixed", "device": "auto"},
        {"schedule": "cosine"},
        {"optimizer": "adamw"},
        {"teacher": "resnet8", "alpha": 0.5, "augment": "photo"},
    ],
)
def test_what_may_be_right_is_not_refused(flags):
    early.check_options(RunOptions(**flags))


def test_what_is_damaged_is_told_before_any_data_is_read(study, monkeypatch, capsys):
    monkeypatch.setattr(sources, "open_source", lambda name: pytest.fail("data is read"))
    first, second = sorted((study / "trials").iterdir())
    (first / "metrics.jsonl").write_text("{}\n")
    (second / "result.json").unlink()
    (second / "checkpoint.pt").write_bytes(b"no checkpoint")
    flags = ["--methods", "ce", "--trials", "2", *QUICK, "--out", study]
    assert call("compare", "digits", *flags) == 2
    assert "metrics.jsonl" in capsys.readouterr().err
    shutil.rmtree(first)
    assert call("compare", "digits", *flags) == 2
    assert "checkpoint.pt" in capsys.readouterr().err
    assert call("train", "digits", "--method", "ce", *QUICK, "--out", second) == 2
    assert "checkpoint.pt" in capsys.readouterr().err


def test_a_damaged_trial_of_other_seeds_does_not_matter(study):
    for trial in (study / "trials").iterdir():
        (trial / "metrics.jsonl").write_text("{}\n")
    early.check_study(study, ["ce"], range(7, 9))
    with pytest.raises(InputError, match="damaged"):
        early.check_study(study, ["ce"], range(0, 1))
    early.check_study(study, ["ls"], range(0, 1))


def test_a_default_place_is_looked_at_before_a_first_step(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["train", "digits", "--method", "ce", *QUICK]
    assert call(*command, "-q") == 0
    [run] = Path("runs").iterdir()
    (run / "metrics.jsonl").write_text("{}\n")
    monkeypatch.setattr(session, "start", lambda *_: pytest.fail("a step is tried"))
    capsys.readouterr()
    assert call(*command) == 2
    assert "metrics.jsonl" in capsys.readouterr().err


def test_a_dry_run_of_one_trial_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["train", "digits", "--method", "kd", "--teacher", "mlp", *QUICK, "--dry-run"]
    assert call(*command) == 0
    said = capsys.readouterr().out
    assert "training mlp with ce on digits (40 training and 359 test images, 10 classes)" in said
    assert "training mlp with kd on digits" in said
    assert "expected, from a few measured steps: about" in said
    assert call(*command, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert [trial["open"] for trial in plan["trials"]] == [True, True]
    assert (plan["methods"], plan["train"], plan["seconds"] > 0) == (["kd"], 40, True)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_what_is_finished_says_so(study, capsys):
    run = sorted((study / "trials").iterdir())[0]
    seed = json.loads((run / "config.json").read_text())["seed"]
    command = ["train", "digits", "--method", "ce", *QUICK, "--seed", str(seed), "--out", run, "--dry-run"]
    assert call(*command) == 0
    assert "is finished already" in capsys.readouterr().out
    assert call(*command, "--lr", "0.5") == 2
    assert "holds another run (lr: " in capsys.readouterr().err
