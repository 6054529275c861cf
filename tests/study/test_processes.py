"""Worker processes of this machine."""

import multiprocessing
import threading
from unittest.mock import Mock

import pytest
import torch

from selftaught.events import Again, Event, Outcome, Progressed
from selftaught.study import processes
from selftaught.study.executor import in_this_process
from selftaught.study.processes import in_processes
from selftaught.study.trials import Trial
from tests.study.trials import check_events, make, never, occupy
from tests.training import quick


def test_processes_do_the_same_and_give_the_same_bytes(tmp_path):
    """One of them has both trials, after one that it may not begin."""
    here, there = make(tmp_path / "here", "ce", "le"), make(tmp_path / "there", "ls", "ce", "le")
    in_this_process(here, lambda event: None, never)
    occupy(there[0])
    events: list[Event] = []
    failed, *outcomes = in_processes(1)(there, events.append, never)
    assert "thesis.tex" in failed.error
    assert sum(isinstance(event, Again) for event in events) == 1
    for index, outcome in enumerate(outcomes):
        check_events(events, index + 1, outcome)
        assert quick.fingerprint(there[index + 1].directory) == quick.fingerprint(here[index].directory)


def test_a_killed_worker_takes_only_its_trial_with_it_and_stopping_saves_the_rest(tmp_path):
    killed, stopped = make(tmp_path, "ce", "cp", epochs=1000, milestones=[])
    trials = [killed, *make(tmp_path, "ls"), stopped, *make(tmp_path, "le")]
    running: set[int] = set()
    events: list[Event] = []

    def kill_the_first(event: Event) -> None:
        events.append(event)
        if isinstance(event, Progressed):
            running.add(event.index)
            if event.index == 0:
                multiprocessing.active_children()[0].kill()

    # The killed one comes again at the end, which is never reached.
    outcomes = in_processes(1)(trials, kill_the_first, lambda: 2 in running)
    assert "exit code -9" in outcomes[0].error
    assert [event.index for event in events if isinstance(event, Again)] == [0]
    assert outcomes[1].result is not None
    assert outcomes[2:] == [Outcome(stopped=True)] * 2
    assert (stopped.directory / "checkpoint.pt").exists()
    assert not trials[3].directory.exists()
    assert not multiprocessing.active_children()


DONE = Outcome(result=object())  # type: ignore[arg-type]


class Scripted:
    """A worker that runs nothing: what it is given is noted, and ends as the test says."""

    hired: list["Scripted"]

    def __init__(self, place: int, gpu: str | None) -> None:
        self.connection, self.theirs = multiprocessing.Pipe()
        self.place, self.gpu, self.index = place, gpu, None
        self.process = Mock()
        self.awake = False
        self.told: list[str] = []
        Scripted.hired.append(self)

    def start(self, index: int, trial: Trial) -> None:
        self.index = index

    def end(self, outcome: Outcome) -> None:
        self.theirs.send(outcome)

    def tell_to_stop(self) -> None:
        self.told.append("stop")


@pytest.fixture
def work_in_this_process(monkeypatch):
    """What a worker changes of its own process is put back."""
    monkeypatch.setattr(processes.sys, "stdout", processes.sys.stdout)
    monkeypatch.setattr(processes.signal, "signal", lambda *args: None)


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """A pool for ce, and ls and le that learn from it, and cp, with two places."""
    Scripted.hired = []
    monkeypatch.setattr(processes, "_Worker", Scripted)
    teacher, *students, other = make(tmp_path, "ce", "ls", "le", "cp")
    students = [Trial(trial.config, trial.directory, teacher.directory) for trial in students]
    return processes._Pool([teacher, *students, other], lambda event: None, never)


def at(pool) -> list[int | None]:
    return [worker.index for worker in pool.workers.values()]


def turn(pool, worker: Scripted, outcome: Outcome) -> None:
    worker.end(outcome)
    pool.hear(worker)
    pool.share_out(2)


def test_idle_workers_wait_for_a_teacher_and_leave_when_nothing_can_come(pool):
    pool.share_out(2)
    assert at(pool) == [0, 3]
    teacher, other = Scripted.hired
    turn(pool, other, DONE)
    assert at(pool) == [0, None]
    turn(pool, teacher, Outcome(error="no room", foreseen=True))
    assert sorted(map(str, at(pool))) == ["0", "None"]  # again, by whoever is free
    again = next(worker for worker in Scripted.hired if worker.index == 0)
    turn(pool, again, Outcome(error="no room", foreseen=True))
    assert at(pool) == []
    assert [outcome.error for outcome in pool.queue.outcomes[1:3]] == ["its teacher (ce seed 0) failed"] * 2


def test_when_the_teacher_is_done_its_students_go_to_all_who_are_free(pool):
    pool.share_out(2)
    teacher, other = Scripted.hired
    turn(pool, other, DONE)
    turn(pool, teacher, DONE)
    assert sorted(at(pool)) == [1, 2]
    assert Scripted.hired == [teacher, other]


def test_after_an_unforeseen_error_another_process_goes_on(pool):
    pool.share_out(2)
    teacher, _ = Scripted.hired
    turn(pool, teacher, Outcome(error="RuntimeError: device-side assert"))
    assert len(Scripted.hired) == 3
    assert Scripted.hired[2].index == 0
    assert Scripted.hired[2].place == 0
    assert teacher not in pool.workers.values()


def test_when_stopped_who_trains_saves_and_who_still_starts_is_not_waited_for(pool):
    pool.share_out(2)
    trains, starts = Scripted.hired
    trains.theirs.send(processes.AWAKE)
    pool.hear(trains)
    pool.stop()
    assert (trains.told, starts.told) == (["stop"], [])
    assert not trains.process.terminate.called
    starts.process.terminate.assert_called_once_with()
    assert at(pool) == [0]
    turn(pool, trains, Outcome(stopped=True))
    assert pool.queue.outcomes == [Outcome(stopped=True)] * 4


def test_a_worker_says_that_it_is_awake_before_its_first_trial(tmp_path, work_in_this_process):
    [trial] = make(tmp_path, "ce", epochs=1)
    ours, theirs = multiprocessing.Pipe()
    worker = threading.Thread(target=processes._work, args=(theirs, None))
    worker.start()
    ours.send((0, trial))
    assert ours.recv() == processes.AWAKE
    said = [ours.recv()]
    while not isinstance(said[-1], Progressed):
        said.append(ours.recv())
    assert processes.AWAKE not in said
    ours.send(processes.STOP)
    ours.close()
    worker.join()


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [
        (None, 3, ["0", "1", "2"]),
        ("2, 5", 9, ["2", "5"]),
        ("GPU-1f", 1, ["GPU-1f"]),
        ("", 4, []),
        (None, 0, []),
    ],
)
def test_the_gpus_are_those_that_the_user_allows(visible, count, expected, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert processes.gpus() == expected


def test_workers_take_turns_on_the_gpus_and_a_new_one_takes_the_place_of_the_last(tmp_path, monkeypatch):
    Scripted.hired = []
    monkeypatch.setattr(processes, "_Worker", Scripted)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    trials = make(tmp_path, *["ce"] * 4)
    trials = [
        Trial(trial.config.model_copy(update={"device": "cuda"}), tmp_path / str(index))
        for index, trial in enumerate(trials)
    ]
    pool = processes._Pool(trials, lambda event: None, never)
    pool.share_out(3)
    assert [worker.gpu for worker in Scripted.hired] == ["4", "7", "4"]
    turn(pool, Scripted.hired[1], Outcome(error="RuntimeError: out of luck"))
    assert [(worker.place, worker.gpu) for worker in Scripted.hired[3:]] == []  # two places are taken
    pool.share_out(3)
    assert [(worker.place, worker.gpu) for worker in Scripted.hired[3:]] == [(1, "7")]


def test_a_worker_sees_its_gpu_only_and_prints_nothing_to_stdout(monkeypatch, work_in_this_process):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    ours, theirs = multiprocessing.Pipe()
    ours.close()
    processes._work(theirs, "7")
    assert processes.os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert processes.sys.stdout is processes.sys.stderr


def test_workers_ask_for_no_gpu_where_no_trial_needs_one(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: pytest.fail("CUDA was looked at"))
    assert processes._Pool(make(tmp_path, "ce"), lambda event: None, never).gpus == []
