"""The trials of a study, what waits for what, and how it is kept on disk for `selftaught status`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from selftaught.files.config import RunConfig
from selftaught.study import folder
from selftaught.study.executor import Event
from selftaught.study.naming import names
from selftaught.study.plan import Trial
from selftaught.training.teaching import lineage


def with_teachers(
    configs: Sequence[RunConfig], trials: Path, elsewhere: Mapping[str, Path]
) -> tuple[list[Trial], list[Trial]]:
    """Teachers that have to be trained, each once and before whoever learns from it, and the trials themselves.

    Args:
        configs: the trials.
        trials: the directory that holds their directories.
        elsewhere: the directories of teachers that are trained already, by trial.
    """
    wanted = {config.trial_id for config in configs}

    def trial(config: RunConfig) -> Trial:
        name = config.teacher.trial_id if config.teacher else ""
        teacher = elsewhere.get(name, trials / name) if name else None
        return Trial(config, trials / config.trial_id, teacher)

    def before(config: RunConfig) -> list[RunConfig]:
        teachers = lineage(config)[:-1]
        known = [i for i, teacher in enumerate(teachers) if teacher.trial_id in elsewhere]
        return teachers[max(known) + 1 :] if known else teachers

    teachers = {teacher.trial_id: teacher for config in configs for teacher in before(config)}
    return (
        [trial(config) for name, config in teachers.items() if name not in wanted],
        [trial(config) for config in configs],
    )


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

    def noting(self, trials: Sequence[Trial], on_event: Callable[[Event], None]) -> Callable[[Event], None]:
        """An `on_event` for an executor of some of the trials, which passes every event on."""

        def hear(event: Event) -> None:
            if event.outcome is not None and event.outcome.error is not None:
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
