"""A study's wall time: trials together, one after another, and in a process anew for each.

python -m benchmarks.studies [--smoke]
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import harness
from selftaught.events import unheard
from selftaught.files import record
from selftaught.study.compare import study_of
from selftaught.study.executors import executor_for
from selftaught.study.flags import plan
from selftaught.study.studies import Study
from selftaught.training.environment import usable_cores

INTRO = """The same trials, trained from nothing to their records (metrics, checkpoints, test predictions), in turn.

- **together**: the executor of `selftaught compare`: as many worker processes as there are cores, one thread each.
  Starting them and their imports is counted.
- **one after another, all threads**: `selftaught compare --jobs 1 --threads CORES`: in one process that has imported
  all there is and has the data.
- **a process each, all threads**: a shell loop over `selftaught train --seed S`, which starts Python, imports and reads
  the data for every trial.

**ratio**: the wall time over that of together in the same round (median; **low** and **high** are the quartiles):
above 1 the trials together are done sooner. Not counted: the table and the report of a comparison, the same for all."""

COLUMNS = ["trials", "processes", "threads of each", "seconds", "ratio", "low", "high"]
BASE = "together"


@dataclass(frozen=True)
class Setting:
    """Trials of plain training that differ in their seeds; `options` as on the command line."""

    trials: int
    options: Mapping[str, str | int]
    data: str = "digits"
    method: str = "ce"

    @property
    def heading(self) -> str:
        options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.options.items())
        return f"{self.trials} trials of {self.method} on {self.data}: {options}"


def setting(smoke: bool) -> Setting:
    """What is trained."""
    if smoke:
        return Setting(2, {"model": "resnet8", "epochs": 1, "train_size": 40, "image_size": 8})
    return Setting(4, {"model": "resnet8", "epochs": 12, "batch_size": 128})


def _finished(study: Study) -> None:
    """Raise RuntimeError unless every trial left its record."""
    if study.pending():
        raise RuntimeError(f"{len(study.pending())} of {len(study.trials())} trials did not finish")


def _never() -> bool:
    """Nobody stops it."""
    return False


def in_one_study(wanted: Setting, jobs: int, threads: int) -> float:
    """The seconds of the trials as `compare` runs them, planning not counted."""
    options = {"threads": threads, **wanted.options}
    with tempfile.TemporaryDirectory() as folder:
        configs = plan(wanted.data, [wanted.method], wanted.trials, **options)
        study = study_of(configs, Path(folder, "study"))
        trials = study.pending()
        _, executor = executor_for(trials, jobs)
        seconds = harness.timed(lambda: executor(trials, unheard, _never))
        _finished(study)
    return seconds


def in_processes_anew(wanted: Setting, threads: int) -> float:
    """The seconds of a command for each trial."""
    command = [sys.executable, "-m", "selftaught", "train", wanted.data, "--method", wanted.method, "--quiet"]
    for name, value in {**wanted.options, "threads": threads}.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder, str(seed)) for seed in range(wanted.trials)]

        def train() -> None:
            for seed, run in enumerate(runs):
                own = [*command, "--seed", str(seed), "--out", str(run)]
                subprocess.run(own, check=True, capture_output=True)

        seconds = harness.timed(train)
        if not all(record.is_finished(run) for run in runs):
            raise RuntimeError("a trial did not finish")
    return seconds


def ways(wanted: Setting) -> dict[str, tuple[int, int, Callable[[], float]]]:
    """By name: how many processes at once, their threads, and the call that measures itself."""
    cores = usable_cores()
    jobs = min(cores, wanted.trials)
    return {
        BASE: (jobs, 1, lambda: in_one_study(wanted, jobs, 1)),
        "one after another, all threads": (1, cores, lambda: in_one_study(wanted, 1, cores)),
        "a process each, all threads": (1, cores, lambda: in_processes_anew(wanted, cores)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write the page."""
    args = harness.arguments(__doc__, seconds=240).parse_args(argv)
    page = harness.Page("studies", "Trials together and one after another", INTRO)
    wanted = setting(args.smoke)
    contestants = ways(wanted)
    calls = {name: call for name, (_, _, call) in contestants.items()}
    found = harness.alternate(calls, BASE, 1 if args.smoke else 3, args.seconds, warm_up=0)
    rows = [
        [name, *contestants[name][:2], timing.seconds, timing.ratio, timing.low, timing.high]
        for name, timing in found.items()
    ]
    page.table(wanted.heading, COLUMNS, rows, f"Medians of {found[BASE].rounds} rounds.")
    page.write(args.out)


if __name__ == "__main__":
    main()
