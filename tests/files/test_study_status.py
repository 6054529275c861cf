"""What a study's files say of how it stands."""

import json
import os
from pathlib import Path

import pytest
from filelock import FileLock

from selftaught.errors import InputError
from selftaught.files import claiming, record
from selftaught.files import study_folder as folder
from selftaught.files.study_status import newest, status
from selftaught.training.run import train
from tests.training import quick


def node(letter: str, teacher: str | None = None, **values) -> folder.Node:
    """A node whose id is twelve times its letter."""
    values = {"model": "mlp", "method": "ce", "seed": 0, "epochs": 10, **values}
    return folder.Node(
        trial_id=letter * 12, name=f"trial {letter}", teacher=teacher and teacher * 12, **values
    )


def write(study: Path, *nodes: folder.Node, jobs: int = 1) -> Path:
    study.mkdir(parents=True, exist_ok=True)
    folder.write_graph(study, folder.Graph(title="table2", command=("selftaught",), jobs=jobs, nodes=nodes))
    return study


def begin(study: Path, letter: str, epochs: int, seconds: float) -> Path:
    """A trial that has come so far."""
    run = study / "trials" / (letter * 12)
    run.mkdir(parents=True)
    lines = [{"epoch": epoch + 1, "seconds": seconds * (epoch + 1) / epochs} for epoch in range(epochs)]
    record.write_metrics(run, lines)
    (run / "checkpoint.pt").write_bytes(b"not looked at")
    return run


def states(study: Path) -> list[str]:
    return [trial.state for trial in status(study).trials]


def test_each_trial_is_in_the_state_that_its_files_say(tmp_path):
    config = quick.config()
    done = node("a").model_copy(update={"trial_id": config.trial_id})
    write(
        tmp_path,
        done,
        node("b"),
        node("c"),
        node("d", error="the loss became NaN"),
        node("e", teacher="b"),
        node("f", error="an earlier try"),
    )
    result = train(config, tmp_path / "trials" / config.trial_id)
    running, _, _, trying = (begin(tmp_path, letter, 4, 8.0) for letter in "bcdf")
    with FileLock(running / record.LOCK, timeout=0), FileLock(trying / record.LOCK, timeout=0):
        found = status(tmp_path)
    assert [trial.state for trial in found.trials] == [
        "done", "running", "interrupted", "failed", "waiting", "running",
    ]  # fmt: skip
    assert found.counts == {"done": 1, "running": 2, "interrupted": 1, "waiting": 1, "failed": 1}
    assert [trial.epochs for trial in found.trials] == [3, 4, 4, 4, 0, 4]
    assert [trial.accuracy for trial in found.trials] == [result.accuracy, *[None] * 5]
    assert found.trials[0].seconds == result.seconds
    assert found.trials[1].seconds == 8.0
    assert (found.title, found.jobs, found.command) == ("table2", 1, ("selftaught",))
    assert states(tmp_path)[1] == "interrupted"  # the lock is given back


def test_looking_leaves_the_run_its_lock_and_writes_nothing(tmp_path):
    write(tmp_path, node("a"), node("b"))
    run = begin(tmp_path, "a", 1, 1.0)
    with claiming.locked(run):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        assert states(tmp_path) == ["running", "waiting"]
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        with pytest.raises(InputError, match="is being trained by another process"), claiming.locked(run):
            pass
    with claiming.locked(run):
        pass


def test_time_left_goes_by_what_is_most_alike(tmp_path):
    nodes = [
        node("a", seed=1),
        node("b", seed=2),  # like a: 2 s per epoch
        node("c", method="le"),  # its own: 3 s
        node("d", method="ls"),  # as all of mlp: (8 + 6) / (4 + 2)
        node("e", model="cnn6"),  # as all
    ]
    study = write(tmp_path, *nodes)
    begin(study, "a", 4, 8.0)
    begin(study, "c", 2, 6.0)
    mean = 14 / 6
    assert status(study).seconds_left == pytest.approx(6 * 2 + 10 * 2 + 8 * 3 + 20 * mean)
    write(tmp_path, *nodes, jobs=2)
    assert status(study).seconds_left == pytest.approx((6 * 2 + 10 * 2 + 8 * 3 + 20 * mean) / 2)


def test_students_cannot_be_shared_out_before_their_teacher_is_done(tmp_path):
    study = write(tmp_path, node("a"), node("b", teacher="a"), node("c", teacher="b"), jobs=8)
    begin(study, "a", 5, 5.0)
    assert status(study).seconds_left == pytest.approx(5 + 10 + 10)


def test_nothing_is_left_of_trials_that_failed(tmp_path):
    study = write(tmp_path, node("a", error="no room"), node("b", teacher="a", error="its teacher failed"))
    assert status(study).seconds_left == 0
    write(tmp_path, node("a", error="no room"), node("b"))
    assert status(study).seconds_left is None


def test_a_teacher_from_elsewhere_and_an_endless_chain_do_no_harm(tmp_path):
    study = write(tmp_path, node("a", teacher="f"), node("b", teacher="c"), node("c", teacher="b"), jobs=3)
    begin(study, "a", 5, 5.0)
    assert status(study).seconds_left == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("graph.json", "{", r"graph\.json is damaged \(it is no JSON\): the command that started"),
        ("graph.json", "[" * 100_000, r"graph\.json is damaged"),
        ("metrics.jsonl", '{"epoch": 1}\n', r"metrics\.jsonl is damaged"),
        ("metrics.jsonl", '{"epoch": -1, "seconds": 1}\n', r"metrics\.jsonl is damaged"),
        ("metrics.jsonl", '{"epoch": 1, "seconds": NaN}\n', r"metrics\.jsonl is damaged"),
        ("metrics.jsonl", "\udcff\n", r"metrics\.jsonl is damaged"),
        ("result.json", "{}", r"config\.json is damaged \(it is missing\)"),
    ],
)
def test_damaged_files_are_named_in_one_line(tmp_path, file, content, message):
    study = write(tmp_path, node("a"))
    run = begin(study, "a", 1, 1.0)
    path = study / file if file == "graph.json" else run / file
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(InputError, match=message) as caught:
        status(study)
    assert "\n" not in str(caught.value)


def test_a_run_without_an_epoch_has_done_none(tmp_path):
    study = write(tmp_path, node("a"))
    begin(study, "a", 0, 0.0)
    assert status(study).trials[0].epochs == 0


def test_a_pipe_in_the_place_of_a_lock_keeps_nobody_waiting(tmp_path):
    study = write(tmp_path, node("a"))
    os.mkfifo(begin(study, "a", 1, 1.0) / record.LOCK)
    assert states(study) == ["interrupted"]


def test_a_directory_without_a_graph_is_no_study(tmp_path):
    with pytest.raises(InputError, match=r"is not a study: it has no graph\.json"):
        status(tmp_path)


def test_the_newest_study_is_found(tmp_path):
    with pytest.raises(InputError, match="there is no study below"):
        newest(tmp_path / "runs")
    studies = [write(tmp_path / "runs" / name, node("a")) for name in ("new", "old", "paper/middle")]
    for study, age in zip(studies, (3, 1, 2), strict=True):
        os.utime(study / "graph.json", (age, age))
    assert newest(tmp_path / "runs") == studies[0]
    os.utime(studies[2] / "graph.json", (9, 9))
    assert newest(tmp_path / "runs") == studies[2]


def test_a_graph_is_plain_json(tmp_path):
    study = write(tmp_path, node("a"), node("b", teacher="a"))
    written = json.loads((study / "graph.json").read_text())
    assert written["nodes"][1]["teacher"] == "a" * 12
