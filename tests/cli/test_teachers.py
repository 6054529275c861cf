"""`--teacher` and `--assistant` on the command line."""

import pytest

from selftaught.files import record
from tests.commands import call

SMALL = ["--image-size", "8", "--train-size", "40", "--epochs", "1", "--batch-size", "8", "--quiet"]
CODE = """
from pathlib import Path
from torch import nn

Path({marker!r}).touch()

def build(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""


def test_a_finished_run_teaches_and_is_not_trained_again(tmp_path):
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    assert call("train", "digits", "--method", "ce", "--model", "resnet14", "--out", teacher, *SMALL) == 0
    arguments = (
        "train",
        "digits",
        "--method",
        "kd",
        "--model",
        "resnet8",
        "--teacher",
        teacher,
        "--out",
        student,
    )
    assert call(*arguments, *SMALL) == 0
    assert record.read(student).config.teacher == record.read(teacher).config
    assert {path.name for path in tmp_path.iterdir()} == {"teacher", "student"}


def test_teacher_and_assistant_are_trained_beside_the_run(tmp_path):
    names = ("--teacher", "resnet14", "--assistant", "resnet8", "--model", "resnet8")
    assert call("train", "digits", "--method", "takd", *names, "--out", tmp_path / "student", *SMALL) == 0
    configs = [record.read(path).config for path in tmp_path.iterdir()]
    assert sorted((c.method, c.model) for c in configs) == [
        ("ce", "resnet14"),
        ("kd", "resnet8"),
        ("takd", "resnet8"),
    ]


def test_a_record_does_not_run_code_by_being_named_as_teacher(tmp_path, capsys):
    marker, code = tmp_path / "ran", tmp_path / "net.py"
    code.write_text(CODE.format(marker=str(marker)))
    run = tmp_path / "run"
    assert call("train", "digits", "--method", "ce", "--model", f"{code}:build", "--out", run, *SMALL) == 0
    marker.unlink()
    capsys.readouterr()
    assert (
        call("train", "digits", "--method", "kd", "--teacher", run, "--out", tmp_path / "student", *SMALL)
        == 2
    )
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "which its record alone may not run" in line
    assert not marker.exists()
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--method", "kd", "--teacher", "nonsense"),
            "--teacher nonsense is no directory of a run and no model",
        ),
        (("--method", "ce", "--teacher", "resnet14"), "--teacher is of no use to ce"),
        (("--method", "kd", "--assistant", "resnet14"), "--assistant is of no use to kd: it belongs to takd"),
        (("--method", "kd", "--model", "mlp"), "kd needs to know which teacher mlp has"),
        (
            ("--method", "hint", "--model", "mlp", "--teacher", "mlp"),
            "hint needs 2 blocks of the student, not 0: name them",
        ),
        (("--method", "kd", "--temperature", "0"), "temperature must be greater than 0"),
        (("--method", "cwtm-random", "--beta", "1"), "beta must be in [0, 1)"),
    ],
)
def test_refused(tmp_path, capsys, arguments, message):
    assert call("train", "digits", *arguments, "--out", tmp_path / "run", *SMALL) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []
