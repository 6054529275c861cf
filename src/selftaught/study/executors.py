"""Which executor runs a study: by its name on the command line."""

from collections.abc import Sequence

from selftaught.study.demands import check_executor
from selftaught.study.executor import Executor, in_this_process
from selftaught.study.processes import in_processes
from selftaught.study.trials import Trial
from selftaught.training.environment import usable_cores


def executor_for(
    trials: Sequence[Trial], jobs: int | None = None, name: str = "local"
) -> tuple[int, Executor]:
    """How many trials to run at once, and who runs them.

    By default as many as fit the cores of this machine with the threads that each trial uses; on a GPU one. Ray runs
    as many as its cluster has room for, of which this machine is taken to be all.

    Raises:
        InputError: no such executor, or fewer jobs than one.
    """
    check_executor(name, jobs)
    if not trials:
        return 1, in_this_process
    config = trials[0].config
    default = max(1, usable_cores() // config.threads) if config.device == "cpu" else 1
    at_once = min(jobs or default, len(trials))
    if name == "ray":
        from selftaught.study.ray_cluster import in_ray

        return at_once, in_ray(jobs)
    return at_once, in_this_process if at_once == 1 else in_processes(at_once)
