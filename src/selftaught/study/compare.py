"""A study of the flags of a command: a recipe of one group whose variants are the methods."""

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

from selftaught.activities import OnActivity, nobody
from selftaught.errors import InputError
from selftaught.events import OnEvent, unheard
from selftaught.files import record
from selftaught.files import study_folder as folder
from selftaught.files.config import RunConfig
from selftaught.recipes.comparison import COMPARISON, recipe_of
from selftaught.study.executors import executor_for
from selftaught.study.expand import Cell
from selftaught.study.finishing import Results, finish
from selftaught.study.flags import plan, taught, try_steps, with_probe
from selftaught.study.studies import Study, check_budget


def study_of(
    configs: Sequence[RunConfig],
    out: str | os.PathLike,
    ready: Mapping[str, Path] = MappingProxyType({}),
    keep_checkpoints: bool = False,
    command: Sequence[str] = (),
    place: Callable[[RunConfig], Path] | None = None,
) -> Study:
    """A study of these trials in directory `out`, which is not touched.

    Args:
        configs: its trials, all of a method together; the teachers that they learn from become part of the study.
        out: the directory.
        ready: the run directories of teachers that are trained already, by trial.
        keep_checkpoints: whether those of finished trials stay.
        command: what the user typed.
        place: the directory of a trial; by default it lies in `out`.
    """
    by_method = {method: tuple(of) for method, of in groupby(configs, lambda config: config.method)}
    first = configs[0]
    recipe = recipe_of(list(by_method), first.data, first.model, len(by_method[first.method]))
    cells = [Cell(recipe.groups[0], recipe.variant(method), of) for method, of in by_method.items()]
    return Study(
        (recipe,),
        Path(out),
        lambda recipe, chosen: cells,
        command=tuple(command),
        asked=(COMPARISON,),
        ready=ready,
        place=place,
        keep_checkpoints=keep_checkpoints,
    )


def check_directory(study: Study) -> None:
    """Refuse a directory that holds something else, or finished trials that are damaged: now, not hours later.

    Raises:
        InputError: it is a file, holds something else or a comparison under another protocol, or a trial that is
            finished is damaged.
    """
    directory, config = folder.checked(study.directory), study.configs()[0]
    check_budget(directory, study.budget)
    teachers = {trial.directory for trial in study.trials()} - set(map(study.trial, study.configs()))
    there = folder.compared(directory) if (directory / folder.TRIALS).is_dir() else []
    others = (path for path in there if path not in teachers and (path / record.CONFIG).exists())
    found = next((record.read_config(path) for path in others), None)
    if found is not None and found.shared().canonical() != config.shared().canonical():
        changes = "; ".join(found.shared().differences(config.shared()))
        raise InputError(f"{directory} holds another comparison ({changes}): choose another --out")
    for cell in study.cells()[COMPARISON]:
        study.records(cell)


def compare(
    data: str,
    methods: Sequence[str],
    trials: int = 5,
    seed: int = 0,
    out: str | os.PathLike = "runs/compare",
    jobs: int | None = 1,
    keep_checkpoints: bool = False,
    on_event: OnEvent = unheard,
    on_activity: OnActivity = nobody,
    **options: Any,
) -> Results:
    """Train each method over seeds and compare them; the trials that `out` holds already are reused.

    With ``jobs=None`` or more than 1 the trials run in processes that import the calling script again: guard it
    with ``if __name__ == "__main__":``.

    Args:
        data: as of `selftaught.training.presets.resolve`.
        methods: their keys.
        trials: seeds per method.
        seed: the first of them.
        out: the directory.
        jobs: how many trials run at once; None for as many as fit the cores.
        keep_checkpoints: whether those of finished trials stay.
        on_event: hears how the trials get on, see `selftaught.events`.
        on_activity: hears what else takes long, see `selftaught.activities`.
        **options: those of `selftaught.training.presets.resolve`.

    Raises:
        InputError: a wrong option, or `out` holds something else.
    """
    configs = plan(data, with_probe(data, methods, **options), trials, seed, on_activity, **options)
    study = study_of(configs, out, keep_checkpoints=keep_checkpoints)
    check_directory(study)
    try_steps(configs, taught(options), on_activity)
    jobs, executor = executor_for(study.pending(), jobs)
    study.run(executor, on_event, jobs=jobs)
    return finish(study, on_activity=on_activity)
