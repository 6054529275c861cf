"""What a study says of itself on disk: graph.json for `selftaught status`, study.json for `selftaught report`."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from selftaught.errors import InputError
from selftaught.events import Event, Finished, OnEvent
from selftaught.files import record
from selftaught.files import study_folder as folder
from selftaught.study.naming import names
from selftaught.study.trials import Trial

if TYPE_CHECKING:
    from selftaught.study.studies import Study


class GraphFile:
    """Keeps graph.json up to date: made at the start, it takes note of trials that fail.

    Args:
        directory: of the study.
        trials: all of them, teachers first.
        title: what the study is called.
        command: what the user typed.
        jobs: how many trials run at once.
        errors: why trials failed before, by trial.
        budget: of a reproduction.
    """

    def __init__(
        self,
        directory: Path,
        trials: Sequence[Trial],
        title: str,
        command: Sequence[str] = (),
        jobs: int = 1,
        errors: Mapping[str, str] = MappingProxyType({}),
        budget: str = "",
    ) -> None:
        self.directory, self.trials = directory, trials
        nodes = tuple(
            _node(trial, name, errors.get(trial.config.trial_id))
            for trial, name in zip(trials, names(trials), strict=True)
        )
        self.graph = folder.Graph(title=title, command=tuple(command), jobs=jobs, budget=budget, nodes=nodes)
        folder.write_graph(directory, self.graph)

    def noting(self, trials: Sequence[Trial], on_event: OnEvent) -> OnEvent:
        """An `on_event` for an executor of some of the trials, which passes every event on."""

        def hear(event: Event) -> None:
            if isinstance(event, Finished) and event.outcome.error is not None:
                self.note(trials[event.index], event.outcome.error)
            on_event(event)

        return hear

    def note(self, trial: Trial, error: str) -> None:
        """A trial failed."""
        failed = trial.config.trial_id
        nodes = tuple(
            node.model_copy(update={"error": error}) if node.trial_id == failed else node
            for node in self.graph.nodes
        )
        self.graph = self.graph.model_copy(update={"nodes": nodes})
        folder.write_graph(self.directory, self.graph)


def _node(trial: Trial, name: str, error: str | None) -> folder.Node:
    config = trial.config
    return folder.Node(
        trial_id=config.trial_id,
        name=name,
        model=config.model,
        method=config.method,
        seed=config.seed,
        epochs=config.epochs,
        teacher=config.teacher.trial_id if config.teacher else None,
        error=error,
    )


def describe(study: "Study") -> None:
    """Write study.json, which says what a comparison consists of; the commands that began it before are kept.

    A study of recipes has none: its command alone makes its tables again.
    """
    if study.budget:
        return
    configs, now = study.configs(), datetime.now(timezone.utc).isoformat(timespec="seconds")
    students = {config.trial_id for config in configs}
    missing = tuple(
        folder.Missing(
            trial_id=config.trial_id,
            method=config.method,
            seed=config.seed,
            error=study.failed.get(config.trial_id),
        )
        for config in configs
        if not record.is_finished(study.trial(config))
    )
    trials = [trial.config.trial_id for trial in study.trials()]
    described = folder.StudyFile(
        command=study.command,
        started=now,
        commands=_starts(study, now),
        methods=tuple(dict.fromkeys(config.method for config in configs)),
        trials=tuple(config.trial_id for config in configs),
        teachers=tuple(trial for trial in trials if trial not in students),
        missing=missing,
    )
    folder.write_study(study.directory, described)


def _starts(study: "Study", now: str) -> tuple[folder.Start, ...]:
    """The commands that began the study, this one last; typed again it is there once."""
    try:
        before = folder.read_study(study.directory)
    except InputError:  # damaged: all but the earlier commands is known again
        before = None
    starts = before.starts if before else ()
    if study.command and (not starts or starts[-1].command != study.command):
        return (*starts, folder.Start(command=study.command, started=now))
    return starts
