import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from selftaught.data import workers
from selftaught.errors import InputError, SelftaughtError


@pytest.fixture(autouse=True)
def _two(monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", "2")


def _where(item):
    return item, os.getpid()


def test_results_come_in_order_from_other_processes():
    items, processes = zip(*workers.ordered(_where, list(range(20))), strict=True)
    assert items == tuple(range(20))
    assert os.getpid() not in processes
    assert len(set(processes)) == 2


def test_without_workers_all_is_done_here(monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", "0")
    assert {process for _, process in workers.ordered(_where, [1, 2, 3])} == {os.getpid()}


def test_nothing_to_do_starts_nothing(monkeypatch):
    monkeypatch.setattr(workers, "DataLoader", None)
    assert list(workers.ordered(_where, [])) == []
    assert list(workers.patient(_where, [])) == []


def test_small_jobs_are_done_here_and_the_rest_of_large_ones_elsewhere(monkeypatch):
    assert {process for _, process in workers.patient(_where, [1, 2, 3])} == {os.getpid()}
    monkeypatch.setattr(workers, "_PATIENCE", 0.0)
    items, processes = zip(*workers.patient(_where, list(range(6))), strict=True)
    assert items == tuple(range(6))
    assert processes[0] == os.getpid()
    assert os.getpid() not in processes[1:]


def test_the_global_rng_is_left_alone():
    state = torch.get_rng_state()
    assert len(list(workers.ordered(_where, [1, 2, 3]))) == 3
    assert torch.equal(torch.get_rng_state(), state)


def _refuse_five(item):
    if item == 5:
        raise InputError("picture 5 is no picture")
    return item


def test_an_error_arrives_as_it_was_raised_after_what_came_before_it():
    with pytest.raises(InputError) as caught:
        list(workers.ordered(_refuse_five, list(range(9))))
    assert str(caught.value) == "picture 5 is no picture"
    with closing(workers.ordered(_refuse_five, list(range(9)))) as results:
        assert [next(results) for _ in range(5)] == list(range(5))


def _die(item):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_line():
    with pytest.raises(SelftaughtError, match="out of memory") as caught:
        list(workers.ordered(_die, [1, 2, 3]))
    assert "\n" not in str(caught.value)


def test_processes_end_with_the_iterator():
    before = set(psutil.Process().children())  # other tests may have left servers
    results = workers.ordered(_where, list(range(50)))
    next(results)
    children = set(psutil.Process().children()) - before
    assert len(children) >= 2
    results.close()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not [child for child in alive if child in psutil.Process().children()]


def _interrupt_myself(item):
    os.kill(os.getpid(), signal.SIGINT)
    return item


def test_workers_do_not_hear_ctrl_c():
    assert list(workers.ordered(_interrupt_myself, [1, 2, 3])) == [1, 2, 3]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


_PARENT = """
import os, sys, time
import numpy as np
from selftaught.data import workers

def task(item):
    return os.getpid(), np.zeros(10_000_000, np.uint8)  # more than a pipe holds

results = workers.ordered(task, list(range(100)))
print(*{next(results)[0] for _ in range(4)}, flush=True)
time.sleep(60)
"""


def test_workers_die_with_a_killed_parent():
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True)
    children = [psutil.Process(int(number)) for number in parent.stdout.readline().split()]
    assert len(children) == 2
    parent.kill()
    parent.wait()
    end = time.monotonic() + 10
    while alive := [child for child in children if _runs(child)]:
        assert time.monotonic() < end, alive
        time.sleep(0.05)


def _runs(process):
    """Whether it is there and no zombie, which nobody may fetch in a container."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_large_results_take_no_shared_memory():
    shared = Path("/dev/shm")
    if not shared.is_dir():
        pytest.skip("the system shows no shared memory")
    before = set(shared.iterdir())
    with closing(workers.ordered(_large, list(range(4)))) as results:
        assert next(results).nbytes == 5_000_000
        assert not [path for path in set(shared.iterdir()) - before if path.stat().st_size > 1_000_000]


def _large(item):
    return np.zeros(5_000_000, np.uint8)


@pytest.mark.parametrize("value", ["-1", "two", "", "1.5"])
def test_a_number_of_workers_that_is_none_is_refused(monkeypatch, value):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", value)
    with pytest.raises(InputError, match=f"SELFTAUGHT_WORKERS is '{value}'"):
        workers.count()


def test_by_default_there_are_at_most_four(monkeypatch):
    monkeypatch.delenv("SELFTAUGHT_WORKERS")
    monkeypatch.setattr("joblib.cpu_count", lambda: 64)
    assert workers.count() == 4
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    assert workers.count() == 1
