"""What can be refused at once: before torch is imported, any data is read and any network tried.

Whatever else is wrong is found later, by whoever needs it; what is found here is said in the same words.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selftaught import errors, recipes
from selftaught.activities import activity
from selftaught.cli.busy import hear
from selftaught.cli.options import MachineOptions
from selftaught.errors import InputError
from selftaught.files import checkpoints, claiming, record
from selftaught.files import study_folder as folder
from selftaught.files.config import DATA_OPTIONS, TRAINING_OPTIONS, checked_shorthands, parse
from selftaught.files.reading import exists
from selftaught.files.settings import METHOD_SETTINGS
from selftaught.study import demands

_DEVICES = ("auto", "cpu", "cuda")

_ANYTHING: dict[str, Any] = {
    "data": "-",
    "data_fingerprint": "",
    "model": "-",
    "method": "-",
    "epochs": 2**31,
    "batch_size": 2,
    "lr": 1.0,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "device": "cuda",
}
"""A configuration that any flag alone goes with."""


def check_options(options: MachineOptions) -> None:
    """Refuse a flag whose value is out of range, whatever the data, the model and the method are.

    Raises:
        InputError: naming it.
    """
    given = options.given()
    check_device(given.pop("device", "auto"))
    for name in given.keys() & METHOD_SETTINGS.keys():
        METHOD_SETTINGS[name].check(given[name])
    checked_shorthands(given)
    of_run = (TRAINING_OPTIONS, DATA_OPTIONS)
    parse(_ANYTHING | {name: given[name] for names in of_run for name in names if name in given})


def check_device(name: str) -> None:
    """Refuse a device that nobody knows.

    Raises:
        InputError: it is not cpu, cuda or auto.
    """
    if name not in _DEVICES:
        raise errors.unknown("device", name, _DEVICES)


def check_study(out: Path | None, methods: Sequence[str], seeds: range) -> None:
    """Refuse to compare where there is something else, or where one of the trials asked for is damaged.

    Args:
        out: the directory, None where it is not chosen.
        methods: those asked for.
        seeds: those asked for; trials of others are none of this command's business.

    Raises:
        InputError: `out` is a file, cannot be written to or holds something else, or what lies there of a trial is
            damaged.
    """
    if out is None:
        return
    _check_place(out)
    directory = folder.checked(out)
    trials = [path for path in sorted((directory / folder.TRIALS).glob("*")) if folder.is_trial(path)]
    with activity(hear, "checking the trials that are there", len(trials)) as doing:
        for done, trial in enumerate(trials, 1):
            config = record.read_config(trial)
            if config and config.method in methods and config.seed in seeds:
                check_begun(trial)
            doing.advance(done)


def check_run(out: Path | None) -> None:
    """Refuse to train where there is something else, or a damaged run.

    Raises:
        InputError: `out`, if it is chosen, is a file, cannot be written to or holds something else, or what lies there
            is damaged.
    """
    if out is not None:
        _check_place(out)
        claiming.checked(out)
        check_begun(out)


def check_begun(directory: Path) -> None:
    """Refuse a run that cannot be gone on with or, if it is finished, not be believed; where there is none is room.

    Raises:
        DamagedError: a file is not what was written.
    """
    if record.read_config(directory) is None:
        return
    if record.is_finished(directory):
        record.read(directory)
    elif exists(directory / record.CHECKPOINT):
        checkpoints.read(directory / record.CHECKPOINT)


def check_trained(run: Path) -> None:
    """Refuse what is no finished run, all of which is what was written.

    Raises:
        InputError: it is none; for a comparison a run of each method in it is named.
        DamagedError: a file is not what was written.
    """
    trials = run / folder.TRIALS
    if trials.is_dir():
        found = _one_per_method(trials)
        advice = f"name one of its runs, such as {found}" if found else "none of its runs is finished"
        raise InputError(f"{run} is a comparison: {advice}")
    with activity(hear, "checking the run"):
        record.read(run)


def _one_per_method(trials: Path) -> str:
    finished = [trial for trial in sorted(trials.iterdir()) if record.is_finished(trial)]
    configs = [(trial, config) for trial in finished if (config := record.read_config(trial))]
    first: dict[str, str] = {}
    for trial, config in sorted(configs, key=lambda pair: (pair[1].method, pair[1].seed)):
        first.setdefault(config.method, f"{trial} ({config.method}, seed {config.seed})")
    return ", ".join(first.values())


def check_reproduction(names: Sequence[str], budget: str, out: Path | None) -> None:
    """Refuse recipes and budgets that there are not, and to reproduce where there is something else.

    Raises:
        InputError: naming what is wrong.
    """
    for name in names:
        if name != demands.ALL:
            recipes.load(name)
    if budget not in recipes.budgets():
        raise errors.unknown("budget", budget, recipes.budgets())
    if out is not None:
        _check_place(out)
        folder.checked(out)


def _check_place(out: Path) -> None:
    """Nothing is created yet: that something can be is seen from the nearest folder that is there."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {out}: Permission denied; choose another --out")
    if not there.is_dir():
        name = out if there == out.absolute() else there
        raise InputError(f"{name} is a file: --out must name a directory")
