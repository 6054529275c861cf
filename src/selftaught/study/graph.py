"""The trials of a study and what waits for what, kept in graph.json for `selftaught status`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from selftaught.events import Event, Finished, OnEvent
from selftaught.files import study_folder as folder
from selftaught.study.naming import names
from selftaught.study.trials import Trial


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
