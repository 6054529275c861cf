import threading
from pathlib import Path

import pytest
from filelock import FileLock

from selftaught.errors import InputError
from selftaught.events import Again, Event, Finished, Outcome, Started
from selftaught.files import claiming, record
from selftaught.study import executor
from selftaught.study.executor import ERROR, attempt, in_this_process
from selftaught.study.trials import Trial
from tests.study.trials import check_events, make, never, occupy
from tests.training import quick


def test_a_failed_trial_does_not_stop_the_others(tmp_path):
    trials = make(tmp_path, "ce", "ls", "le")
    occupy(trials[1])
    events: list[Event] = []
    outcomes = in_this_process(trials, events.append, never)
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert "thesis.tex" in outcomes[1].error
    for index in (0, 2):
        assert outcomes[index].result == record.read(trials[index].directory).result
        check_events(events, index, outcomes[index])
    assert events[-3:] == [Finished(2, outcomes[2]), Started(1), Finished(1, outcomes[1])]
    assert [event.reason for event in events if isinstance(event, Again)] == [
        f"failed: {outcomes[1].error}; trying once more"
    ]


def test_no_trial_is_started_once_it_should_stop(tmp_path):
    trials = make(tmp_path, "ce", "ls")
    outcomes = in_this_process(trials, lambda event: None, quick.stop_after(3))
    assert outcomes == [Outcome(stopped=True)] * 2
    assert (trials[0].directory / "checkpoint.pt").exists()
    assert not trials[1].directory.exists()


def test_an_unforeseen_error_leaves_its_traceback_with_the_trial(tmp_path, monkeypatch):
    def explode(*args):
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr("selftaught.training.run.start", explode)
    [trial] = make(tmp_path, "ce")
    [outcome] = in_this_process([trial], lambda event: None, never)
    assert outcome.error.startswith("ZeroDivisionError: one two (see ")
    assert "explode" in (trial.directory / ERROR).read_text()


def test_a_traceback_that_finds_no_room_takes_nothing_with_it(tmp_path, monkeypatch):
    def fill_the_disk(*args, **kwargs):
        (tmp_path / "somewhere" / "not-there").write_bytes(b"")

    monkeypatch.setattr(executor, "train", fill_the_disk)
    outcomes = in_this_process(make(tmp_path, "ce"), lambda event: None, never)
    assert outcomes[0].error.startswith("FileNotFoundError")
    assert "(see" not in outcomes[0].error


def test_a_second_try_that_succeeds_leaves_no_trace_of_the_first(tmp_path, monkeypatch):
    train, tries = executor.train, []

    def hiccup(config, directory, *args, **more):
        tries.append(config.method)
        if tries == ["ce"]:
            claiming.claim(directory, config)
            raise MemoryError("for a moment")
        return train(config, directory, *args, **more)

    monkeypatch.setattr(executor, "train", hiccup)
    trials = make(tmp_path, "ce", "ls")
    events: list[Event] = []
    outcomes = in_this_process(trials, events.append, never)
    assert tries == ["ce", "ls", "ce"]
    assert all(outcome.result for outcome in outcomes)
    assert next(event.reason for event in events if isinstance(event, Again)).startswith(
        "failed: MemoryError: for a moment (see"
    )
    assert not (trials[0].directory / ERROR).exists()


def test_a_trial_is_told_of_its_teacher_only_where_it_has_one(tmp_path, monkeypatch):
    told: list[dict[str, Path]] = []
    result = object()

    def note(config, directory, on_progress, should_stop, on_activity, **more):
        told.append(more)
        return result

    monkeypatch.setattr(executor, "train", note)
    [student, teacher] = make(tmp_path, "ls", "ce")
    student = Trial(student.config, student.directory, teacher.directory)
    outcomes = in_this_process([student, teacher], lambda event: None, never)
    assert told == [{}, {"teacher": teacher.directory}]
    assert [outcome.result for outcome in outcomes] == [result, result]


def test_a_student_that_is_its_own_teacher_is_refused(tmp_path):
    [trial] = make(tmp_path, "ce")
    with pytest.raises(InputError, match="would learn from itself"):
        in_this_process([Trial(trial.config, trial.directory, trial.directory)], lambda event: None, never)


def test_a_trial_waits_for_an_orphan_to_let_go_of_its_directory(tmp_path):
    """After a kill of the parent a worker may still be saving."""
    trial = Trial(quick.config("ce"), tmp_path / "run")
    trial.directory.mkdir()
    orphan = FileLock(trial.directory / record.LOCK, thread_local=False)
    orphan.acquire()
    threading.Timer(0.5, orphan.release).start()
    assert attempt(0, trial, lambda event: None, lambda: False).result is not None


def test_a_directory_in_use_is_refused_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(claiming, "CLAIM_SECONDS", 0.1)
    trial = Trial(quick.config("ce"), tmp_path / "run")
    trial.directory.mkdir()
    with FileLock(trial.directory / record.LOCK):
        outcome = attempt(0, trial, lambda event: None, lambda: False, patience=0.1)
    assert "is being trained by another process" in outcome.error
