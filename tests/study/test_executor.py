import multiprocessing
from pathlib import Path

from selftaught.study.executor import ERROR, Event, Outcome, in_this_process
from selftaught.study.plan import Trial
from selftaught.study.processes import in_processes
from selftaught.training import record
from tests.training import quick


def never() -> bool:
    return False


def make(folder: Path, *methods: str, **options) -> list[Trial]:
    configs = [quick.config(method, **options) for method in methods]
    return [Trial(config, folder / config.trial_id) for config in configs]


def occupy(trial: Trial) -> None:
    trial.directory.mkdir(parents=True)
    (trial.directory / "thesis.tex").write_text("mine")


def check_events(events: list[Event], index: int, outcome: Outcome) -> None:
    mine = [event for event in events if event.index == index]
    assert mine[0] == Event(index)
    assert mine[-1].outcome == outcome
    assert [e.progress.done for e in mine[1:-1] if e.progress.metrics] == [5, 10, 15]


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


def test_processes_do_the_same_and_give_the_same_bytes(tmp_path):
    here, there = make(tmp_path / "here", "ce", "le"), make(tmp_path / "there", "ls", "ce", "le")
    in_this_process(here, lambda event: None, never)
    occupy(there[0])
    events: list[Event] = []
    failed, *outcomes = in_processes(2)(there, events.append, never)
    assert "thesis.tex" in failed.error
    for index, outcome in enumerate(outcomes):
        check_events(events, index + 1, outcome)
        assert quick.fingerprint(there[index + 1].directory) == quick.fingerprint(here[index].directory)


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


def test_a_killed_worker_takes_only_its_trial_with_it_and_stopping_saves_the_rest(tmp_path):
    killed, stopped = make(tmp_path, "ce", "cp", epochs=1000, milestones=[])
    trials = [killed, *make(tmp_path, "ls"), stopped, *make(tmp_path, "le")]
    running: set[int] = set()

    def kill_the_first(event: Event) -> None:
        if event.progress is not None:
            running.add(event.index)
            if event.index == 0:
                multiprocessing.active_children()[0].kill()

    outcomes = in_processes(1)(trials, kill_the_first, lambda: 2 in running)
    assert "exit code -9" in outcomes[0].error
    assert outcomes[1].result is not None
    assert outcomes[2:] == [Outcome(stopped=True)] * 2
    assert (stopped.directory / "checkpoint.pt").exists()
    assert not trials[3].directory.exists()
    assert not multiprocessing.active_children()
