"""Trials on a Ray cluster: here one that is started for the purpose, or one of several nodes on this machine."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from selftaught.errors import InputError
from selftaught.events import Again, Event, Outcome, Progressed
from selftaught.study import ray_cluster, ray_tasks
from selftaught.study.executor import in_this_process
from selftaught.study.ray_cluster import in_ray
from tests.study.trials import check_events, make, never
from tests.training import quick

ray = pytest.importorskip("ray")


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"needs Ray: pip install 'selftaught\[ray\]'"):
        in_ray()


def test_jobs_are_at_least_one():
    with pytest.raises(InputError, match="jobs is 0"):
        in_ray(0)


def test_without_trials_no_cluster_is_started():
    assert in_ray(address="nowhere:1")([], lambda event: None, never) == []


@pytest.mark.parametrize(
    ("has", "threads", "per_gpu", "expected"),
    [
        ({"CPU": 8.0}, 2, 0, 4),
        ({"CPU": 7.0, "GPU": 4.0}, 2, 0, 3),
        ({"CPU": 7.0, "GPU": 4.0}, 1, 1, 4),
        ({"CPU": 7.0, "GPU": 4.0}, 1, 2, 7),
        ({"CPU": 8.0}, 1, 1, 0),
        ({}, 1, 0, 0),
    ],
)
def test_a_machine_takes_as_many_trials_as_fit(has, threads, per_gpu, expected):
    assert ray_cluster._fits(has, threads, per_gpu) == expected


def test_so_many_trials_really_share_a_gpu():
    for per_gpu in range(1, 40):
        fraction = ray_cluster._fraction(per_gpu)
        assert fraction * per_gpu <= 1 < fraction * (per_gpu + 1)


class FakeRay:
    """What `_Signals` needs of Ray: answers that have come, and those that have not."""

    class exceptions:  # noqa: N801
        class RayError(Exception):
            pass

    def __init__(self):
        self.answers: list = [False]
        self.arrived = True

    def get(self, answer):
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(self, refs, timeout):
        return (refs, []) if self.arrived else ([], refs)


def signals(monkeypatch):
    fake, now, asked = FakeRay(), [0.0], []
    monkeypatch.setattr(ray_tasks.time, "monotonic", lambda: now[0])

    class Board:
        class should_stop:  # noqa: N801
            @staticmethod
            def remote():
                asked.append(now[0])
                return fake.answers[-1]

    return fake, now, asked, ray_tasks._Signals(fake, Board)


def test_a_task_asks_now_and_then_and_waits_for_no_answer(monkeypatch):
    fake, now, asked, found = signals(monkeypatch)
    assert not any(found.should_stop() for _ in range(100))
    assert asked == [0.0]
    now[0], fake.arrived = 1.0, False
    assert not any(found.should_stop() for _ in range(100))
    assert asked == [0.0, 1.0]
    fake.arrived = True
    assert not found.should_stop()
    fake.answers, now[0] = [True], 2.0
    assert [found.should_stop() for _ in range(3)] == [False, True, True]


def test_a_task_whose_driver_is_gone_stops(monkeypatch):
    fake, now, _, found = signals(monkeypatch)
    fake.answers, now[0] = [FakeRay.exceptions.RayError()], 1.0
    assert [found.should_stop() for _ in range(2)] == [False, True]


@pytest.mark.slow
def test_a_cluster_of_its_own_gives_the_same_bytes_and_is_gone_afterwards(tmp_path, capfd):
    [here], [there] = make(tmp_path / "here", "le"), make(tmp_path / "there", "le")
    in_this_process([here], lambda event: None, never)
    events: list[Event] = []
    [outcome] = in_ray(1, "local")([there], events.append, never)
    check_events(events, 0, outcome)
    assert quick.fingerprint(there.directory) == quick.fingerprint(here.directory)
    assert not ray.is_initialized()
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def cluster():
    """A head that runs no trials, and two nodes with one core each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_a_node_that_is_killed_changes_nothing_in_the_results(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_SAVE_SECONDS", "0")
    methods, options = ("ce", "le", "ls"), {"epochs": 60, "milestones": []}
    here, there = make(tmp_path / "here", *methods, **options), make(tmp_path / "there", *methods, **options)
    in_this_process(here, lambda event: None, never)
    events: list[Event] = []
    doomed = next(iter(cluster.worker_nodes))
    killers: list[threading.Thread] = []

    def kill_a_node(event: Event) -> None:
        events.append(event)
        begun = {e.index for e in events if isinstance(e, Progressed) and e.progress.epoch >= 3}
        if not killers and len(begun) == 2:
            killers.append(threading.Thread(target=cluster.remove_node, args=(doomed, False)))
            killers[0].start()

    outcomes = in_ray(address=cluster.address)(there, kill_a_node, never)
    killers[0].join()
    assert [outcome.error for outcome in outcomes] == [None] * 3
    [moved] = [event for event in events if isinstance(event, Again)]
    assert moved.reason.startswith("its machine was lost")
    resumed = [
        e for e in events if e.index == moved.index and isinstance(e, Progressed) and e.progress.resumed_at
    ]
    assert resumed
    for a, b in zip(here, there, strict=True):
        assert quick.fingerprint(a.directory) == quick.fingerprint(b.directory)


@pytest.mark.slow
def test_a_cluster_that_is_there_is_left_as_it_was(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    trials = make(tmp_path, "ce", "cp", epochs=1000, milestones=[])
    running: set[int] = set()

    def note(event: Event) -> None:
        if isinstance(event, Progressed):
            running.add(event.index)

    # Stopped in the middle: both are saved.
    outcomes = in_ray()(trials, note, lambda: running == {0, 1})
    assert outcomes == [Outcome(stopped=True)] * 2
    assert all((trial.directory / "checkpoint.pt").exists() for trial in trials)

    eight = [trial.config.model_copy(update={"threads": 8}) for trial in trials]
    with pytest.raises(InputError, match=r"has 8 CPUs: lower --threads"):
        in_ray()([type(trials[0])(eight[0], tmp_path / "eight")], note, never)
    gpu = trials[0].config.model_copy(update={"device": "cuda"})
    with pytest.raises(InputError, match="has a GPU: use --device cpu"):
        in_ray()([type(trials[0])(gpu, tmp_path / "gpu")], note, never)

    [hidden] = make(tmp_path / "hidden", "ls")
    monkeypatch.setattr(ray_cluster.record, "make_directory", lambda directory: None)  # as if elsewhere
    [outcome] = in_ray()([hidden], note, never)
    assert f"{hidden.directory} is not there on " in outcome.error
    assert "shared file system" in outcome.error
    assert len(cluster.list_all_nodes()) == 3


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1", "127.0.0.1:port", ""])
def test_no_cluster_at_the_address_is_said_in_one_line(address, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address or "localhost:1")
    with pytest.raises(InputError, match=f"^no Ray cluster at {address} ?.*start one with ray start --head$"):
        in_ray(address=address or None)(make(tmp_path, "ce"), lambda event: None, never)


INTERRUPTED = """
from pathlib import Path
from selftaught.cli.interrupt import stop_on_interrupt
from selftaught.events import Progressed
from selftaught.study.ray_cluster import in_ray
from tests.study.trials import make

if __name__ == "__main__":
    with stop_on_interrupt() as should_stop:
        [outcome] = in_ray(1, "local")(
            make(Path("there"), "ce", epochs=100000, milestones=[]),
            lambda event: isinstance(event, Progressed) and print("running", flush=True),
            should_stop,
        )
    print("stopped" if outcome.stopped else outcome)
"""


@pytest.mark.slow
def test_ctrl_c_saves_and_ends_all_processes(tmp_path):
    (tmp_path / "script.py").write_text(INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.stdout.read().splitlines()[-1] == "stopped"
    assert process.wait() == 0
    assert list((tmp_path / "there").glob("*/checkpoint.pt"))
    for _ in range(100):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("processes of the cluster are left")
