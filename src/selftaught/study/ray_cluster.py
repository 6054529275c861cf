"""Trials on the machines of a Ray cluster (https://docs.ray.io), or on one that is started here for the purpose.

Each trial is one task of its own. What travels is small: its configuration as text, two paths, and back again a few
numbers now and then. Everything else goes through the study's directory, which all machines have to see.
"""

import importlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from selftaught.errors import InputError
from selftaught.events import OnEvent, Outcome
from selftaught.files import record
from selftaught.study import ray_tasks
from selftaught.study.executor import Executor
from selftaught.study.queue import Queue
from selftaught.study.trials import Trial
from selftaught.training.environment import usable_cores

POLL_SECONDS = 0.2
MOST_MOVES = 5
"""A trial whose machines were lost more often than this has failed."""
ANSWER_SECONDS = 10.0
LOSS_SECONDS = 60.0
"""How long after a task broke off it may turn out that its machine was lost."""
STORE_BYTES = 80 * 2**20
"""Ray's object store in a cluster of our own; hardly anything goes there, and Ray wants no less."""
EMBEDDED = "selftaught_embedded"
"""A resource that marks a cluster which ends with the command that started it."""


def in_ray(jobs: int | None = None, address: str | None = None) -> Executor:
    """An executor whose trials run on a Ray cluster, with the same records and numbers as on this machine.

    The study's directory, and data and models in files, must be at the same paths on all machines (a shared file
    system), and selftaught installed there. A trial takes as many CPUs as its configuration has threads, and on
    cuda a GPU, or a fraction where there are more `jobs` than GPUs. If a machine is lost, its trials go on from
    their checkpoints on others; that counts as no failure, up to five times per trial. Bytes are the same only
    where the machines are, as they are between any two machines.

    Args:
        jobs: trials at once; by default as many as fit the cluster.
        address: of the cluster, as for ``ray.init``; by default ``$RAY_ADDRESS``, else the one that was started on
            this machine with ``ray start``, else one is started here and ended afterwards. ``"local"`` starts one
            in any case.

    Raises:
        InputError: Ray is not installed; when run, that there is no cluster at that address, or that none of its
            machines is large enough.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs is {jobs} but should be at least 1")
    try:
        # Not at the top: Ray is an optional extra, and slow to import.
        ray = importlib.import_module("ray")
    except ImportError:
        raise InputError("the executor ray needs Ray: pip install 'selftaught[ray]'") from None

    def run(trials: Sequence[Trial], on_event: OnEvent, should_stop: Callable[[], bool]) -> list[Outcome]:
        if not trials:
            return []
        with _connected(ray, trials, jobs, address):
            return _Cluster(ray, trials, on_event, should_stop, jobs).run()

    return run


@contextmanager
def _connected(ray: Any, trials: Sequence[Trial], jobs: int | None, address: str | None) -> Iterator[None]:
    """While inside there is a cluster; what was not there before is not there afterwards."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of its next version
    named = address or os.environ.get("RAY_ADDRESS")
    try:
        if named == "local" or not _joined(ray, named):
            threads = max(trial.config.threads for trial in trials)
            ray.init(
                address="local",
                num_cpus=max(usable_cores(), (jobs or 1) * threads),
                resources={EMBEDDED: 1},
                object_store_memory=STORE_BYTES,
                include_dashboard=False,
                **_QUIET,
            )
        yield
    finally:
        ray.shutdown()


_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


def _joined(ray: Any, address: str | None) -> bool:
    """Connect to a running cluster; False if no address was named and none is there."""
    _check_that_somebody_answers(address)
    try:
        ray.init(address=address or "auto", **_QUIET)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address is None:
            return False
        raise _no_cluster(address, error) from None
    if address is None and EMBEDDED in ray.cluster_resources():
        ray.shutdown()  # another study's own, which will end with it
        return False
    return True


def _check_that_somebody_answers(address: str | None) -> None:
    """Ray itself would try for many minutes to reach an address where there is nothing."""
    if address is None or address == "auto":
        return
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=ANSWER_SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(
        f"no Ray cluster at {address} ({reason}): check the address, or start one with ray start --head"
    )


@dataclass
class _Task:
    """A trial that was sent out: its number, when, the node that it said it is on, the nodes there were."""

    index: int
    nodes: set[str]
    node: str | None = None
    broke_off: float | None = None


class _Cluster:
    """The driver's side: sends out trials, passes on what they say, notices lost machines."""

    def __init__(
        self,
        ray: Any,
        trials: Sequence[Trial],
        on_event: OnEvent,
        should_stop: Callable[[], bool],
        jobs: int | None,
    ) -> None:
        self.ray, self.trials, self.on_event, self.should_stop = ray, trials, on_event, should_stop
        self.jobs, self.per_gpu = jobs, 1
        self.check_size()
        self.queue = Queue(trials, on_event)
        self.moves = [0] * len(trials)
        self.tasks: dict[int, _Task] = {}  # by a number that each try has of its own
        self.refs: dict[Any, int] = {}
        self.sent = 0
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self.board = (
            ray.remote(ray_tasks.Board).options(num_cpus=0, scheduling_strategy=here).remote(os.getcwd())
        )

    def run(self) -> list[Outcome]:
        """All trials; whatever happens, no task is left behind."""
        try:
            self.send_out()
            while self.tasks:
                ended, _ = self.ray.wait(list(self.refs), timeout=POLL_SECONDS) if self.refs else ([], [])
                if not self.refs:
                    time.sleep(POLL_SECONDS)
                self.pass_on()
                for ref in ended:
                    self.end(ref)
                self.look_for_lost_nodes()
                if not self.queue.stopped and self.should_stop():
                    self.queue.stop()
                    self.board.stop.remote()
                self.send_out()
        finally:
            for ref in self.refs:
                self.ray.cancel(ref, force=True)
            self.ray.kill(self.board)
        return self.queue.outcomes

    def send_out(self) -> None:
        """As many of the trials that are ready as there is room for."""
        if not self.queue.ready:
            return
        nodes = self.nodes()
        while len(self.tasks) < self.room(nodes) and (index := self.queue.take()) is not None:
            trial = self.trials[index]
            try:
                record.make_directory(trial.directory)  # by which a node knows that it sees the same files
            except InputError as error:
                self.queue.end(index, Outcome(error=str(error), foreseen=True))
                continue
            self.sent += 1
            self.tasks[self.sent] = _Task(index, set(nodes))
            self.refs[self.send(index)] = self.sent

    def send(self, index: int) -> Any:
        """Start the task of a trial."""
        trial = self.trials[index]
        on_gpu = {"num_gpus": _fraction(self.per_gpu)} if trial.config.device == "cuda" else {}
        task = self.ray.remote(ray_tasks.run).options(
            num_cpus=trial.config.threads, max_retries=0, name=trial.config.trial_id, **on_gpu
        )
        return task.remote(
            self.board,
            self.sent,
            index,
            trial.config.model_dump_json(),
            os.fspath(trial.directory.absolute()),
            None if trial.teacher is None else os.fspath(trial.teacher.absolute()),
            {name: value for name, value in os.environ.items() if name.startswith("SELFTAUGHT_")},
            self.moves[index] > 0,
            trial.keep_checkpoint,
        )

    def pass_on(self) -> None:
        """What the tasks said since the last time; those that are gone do not count any more."""
        for number, message in self.ray.get(self.board.collect.remote()):
            task = self.tasks.get(number)
            if task is None:
                continue
            if isinstance(message, str):
                task.node = message
                self.queue.begin(task.index)
            else:
                self.on_event(message)

    def end(self, ref: Any) -> None:
        """A task is over: with an outcome, or because its process or its machine is gone."""
        number = self.refs.pop(ref)
        task = self.tasks[number]
        try:
            outcome = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:  # not of the trial: that would be an outcome
            outcome = Outcome(error=f"{type(error.cause).__name__}: {error.cause}".replace("\n", " "))
        except self.ray.exceptions.RayError:
            task.broke_off = time.monotonic()
            return
        del self.tasks[number]
        self.queue.end(task.index, outcome)

    def look_for_lost_nodes(self) -> None:
        """Tell processes that died from those whose machine did, of which the cluster may learn a little later."""
        broken = [(number, task) for number, task in self.tasks.items() if task.broke_off is not None]
        alive = set(self.nodes()) if broken else set()
        for number, task in broken:
            lost = task.node not in alive if task.node is not None else not task.nodes <= alive
            if lost and self.moves[task.index] < MOST_MOVES:
                del self.tasks[number]
                self.moves[task.index] += 1
                self.queue.put_back(task.index, "its machine was lost; going on elsewhere from the last save")
            elif lost:
                del self.tasks[number]
                error = f"its machine was lost {MOST_MOVES + 1} times: look after the cluster"
                self.queue.end(task.index, Outcome(error=error, foreseen=True))
            elif time.monotonic() - (task.broke_off or 0.0) > LOSS_SECONDS:
                del self.tasks[number]
                error = "its process died on a machine of the cluster; out of memory? try fewer --jobs"
                self.queue.end(task.index, Outcome(error=error))

    def nodes(self) -> dict[str, dict[str, float]]:
        """What the living machines have, by their ids."""
        return {node["NodeID"]: node["Resources"] for node in self.ray.nodes() if node["Alive"]}

    def room(self, nodes: dict[str, dict[str, float]]) -> int:
        """How many trials may run at once; at least one, which waits for a machine if there is none now."""
        if self.jobs is not None:
            return self.jobs
        config = max((trial.config for trial in self.trials), key=lambda config: config.threads)
        gpu = config.device == "cuda"
        return max(1, sum(_fits(has, config.threads, self.per_gpu if gpu else 0) for has in nodes.values()))

    def check_size(self) -> None:
        """Refuse what would wait for ever, and find out how many trials share a GPU."""
        nodes = self.nodes().values()
        configs = [trial.config for trial in self.trials]
        gpus = int(sum(has.get("GPU", 0) for has in nodes))
        if any(config.device == "cuda" for config in configs):
            if not gpus:
                raise InputError("no machine of the Ray cluster has a GPU: use --device cpu, or add one")
            self.per_gpu = -(-self.jobs // gpus) if self.jobs else 1
        threads = max(config.threads for config in configs)
        if not any(has.get("CPU", 0) >= threads for has in nodes):
            raise InputError(f"no machine of the Ray cluster has {threads} CPUs: lower --threads, or add one")


def _fits(has: dict[str, float], threads: int, per_gpu: int) -> int:
    """How many trials fit a machine; `per_gpu` is 0 where they need no GPU."""
    by_cpu = int(has.get("CPU", 0) // threads)
    return min(by_cpu, int(has.get("GPU", 0)) * per_gpu) if per_gpu else by_cpu


def _fraction(per_gpu: int) -> float:
    """Of a GPU, for each of so many trials; Ray counts in ten-thousandths."""
    return 10_000 // per_gpu / 10_000
