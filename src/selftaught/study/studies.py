"""A study: recipes in a directory, the trials that they consist of, and how these are trained.

Every trial is trained once, whatever recipes need it. Searches come first, together with all that does not wait for
them; what refers to a selected value is planned when that is known. The trials lie in trials/, each in a directory
named by the hash of its configuration. `selftaught.study.compare` makes a study of the flags of a command,
`selftaught.study.reproduce` one of recipes by their names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from selftaught import recipes
from selftaught.errors import InputError
from selftaught.events import OnEvent, unheard
from selftaught.files import record
from selftaught.files import study_folder as folder
from selftaught.files.config import RunConfig
from selftaught.recipes import Recipe, Variant
from selftaught.report.selection import select
from selftaught.study.executor import Executor
from selftaught.study.expand import Cell, Chosen, searches
from selftaught.study.graph import GraphFile
from selftaught.study.trials import Trial, with_teachers

Cells = dict[str, list[Cell]]
"""The cells of each recipe that can be planned, by the recipe's name."""


@dataclass
class Study:
    """Recipes and the directory in which they are run.

    Attributes:
        recipes: those asked for, then the searches that they refer to.
        directory: where everything lies.
        expand: the cells of a recipe, whose searches have chosen so.
        budget: "smoke", "quick" or "paper" where the recipes are the paper's or are like them, "" for a comparison.
        command: what the user typed.
        asked: the names of the recipes that were asked for.
        whole: of those that were asked for in part (some variants or groups), what they are with all, by name.
        ready: the directories of teachers that are trained already, by trial.
        place: the directory of a trial; by default it lies in trials/.
        keep_checkpoints: whether those of finished trials stay.
        failed: why a trial failed in this session, by its name.
    """

    recipes: tuple[Recipe, ...]
    directory: Path
    expand: Callable[[Recipe, Chosen], list[Cell]]
    budget: str = ""
    command: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    whole: Mapping[str, Recipe] = field(default_factory=dict)
    ready: Mapping[str, Path] = field(default_factory=dict)
    place: Callable[[RunConfig], Path] | None = None
    keep_checkpoints: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    _expanded: dict[Any, list[Cell]] = field(default_factory=dict, init=False, repr=False)
    _chosen: dict[tuple[str, str], float] = field(default_factory=dict, init=False, repr=False)

    @property
    def title(self) -> str:
        """What it is about, in a few words."""
        if not self.budget:
            return self.recipes[0].title
        cells = self.cells()
        later = [recipe.name for recipe in self.recipes if recipe.name not in cells]
        title = f"{', '.join(cells)} at budget {self.budget}"
        return f"{title} ({', '.join(later)} when the searches are done)" if later else title

    def cells(self) -> Cells:
        """All cells that can be planned today: those of recipes whose searches are done."""
        return self.cells_of(self.recipes)

    def cells_of(self, wanted: Sequence[Recipe]) -> Cells:
        """The cells of recipes and of the searches among them, of those whose searches are done."""
        ready = {r.name: self.expanded(r, {}) for r in wanted if not searches(r)}
        chosen = self.chosen([recipe for recipe in wanted if recipe.search], ready)
        for recipe in wanted:
            needed = {(search, group) for search, groups in searches(recipe).items() for group in groups}
            if needed and needed <= chosen.keys():
                ready[recipe.name] = self.expanded(recipe, {place: chosen[place] for place in needed})
        return {recipe.name: ready[recipe.name] for recipe in wanted if recipe.name in ready}

    def shown(self, recipe: Recipe) -> list[Cell]:
        """The cells of a recipe that can be shown: with what was not asked for this time, as far as it can be planned.

        A variant that was run once stays in its table, and is counted in the correction, whichever is asked for later.
        """
        whole = self.whole.get(recipe.name, recipe)
        needed = list(searches_for([whole]).values())
        chosen = self.chosen(needed, self.cells_of(needed))

        def waits(variant: Variant) -> bool:
            of_variant = searches(whole.model_copy(update={"variants": (variant,)}))
            return any((name, group) not in chosen for name, groups in of_variant.items() for group in groups)

        planned = tuple(variant for variant in whole.variants if not waits(variant))
        return self.expanded(whole.model_copy(update={"variants": planned}), chosen) if planned else []

    def expanded(self, recipe: Recipe, chosen: Chosen) -> list[Cell]:
        """The cells of one recipe, worked out once for what was selected: it is asked for again and again."""
        groups, variants = (g.label for g in recipe.groups), (v.label for v in recipe.variants)
        key = recipe.name, tuple(groups), tuple(variants), frozenset(chosen.items())
        if key not in self._expanded:
            self._expanded[key] = self.expand(recipe, chosen)
        return self._expanded[key]

    def chosen(self, of: Sequence[Recipe], cells: Cells) -> dict[tuple[str, str], float]:
        """What searches selected, by search and group, of groups none of whose trials is still to be run."""
        for recipe in of:
            of_search = cells[recipe.name]
            waiting = {c.group.label for c in of_search for config in c.configs if self.is_open(config)}
            finished = {
                (cell.group.label, cell.variant.label): self.records(cell)
                for cell in of_search
                if cell.group.label not in waiting and (recipe.name, cell.group.label) not in self._chosen
            }
            self._chosen |= select(recipe, finished)  # once for all: it is asked for again and again
        wanted = {(recipe.name, group.label) for recipe in of for group in recipe.groups}
        return {place: value for place, value in self._chosen.items() if place in wanted}

    def configs(self) -> list[RunConfig]:
        """The configurations of all cells that can be planned, each once."""
        found = {c.trial_id: c for of in self.cells().values() for cell in of for c in cell.configs}
        return list(found.values())

    def trials(self) -> list[Trial]:
        """Every trial that can be planned once, teachers first, see `with_teachers`."""
        return with_teachers(self.configs(), self.trial, self.ready, self.keep_checkpoints)

    def pending(self) -> list[Trial]:
        """The trials that can be planned and are neither finished nor failed in this session."""
        return [trial for trial in self.trials() if self.is_open(trial.config)]

    def failures(self) -> list[tuple[Trial, str]]:
        """The trials that failed in this session, and why."""
        return [
            (trial, self.failed[trial.config.trial_id])
            for trial in self.trials()
            if trial.config.trial_id in self.failed
        ]

    def run(
        self,
        executor: Executor,
        on_event: OnEvent = unheard,
        should_stop: Callable[[], bool] = lambda: False,
        jobs: int = 1,
    ) -> bool:
        """Train what is pending, as far as it can be planned; whether it was asked to stop before the end.

        A failed trial does not stop the others. graph.json and, for a comparison, study.json say how it went.

        Raises:
            InputError: the directory cannot be written to.
        """
        record.make_directory(self.directory / folder.TRIALS)
        _describe(self)
        pending = self.pending()
        graph = GraphFile(
            self.directory, self.trials(), self.title, self.command, jobs, self.failed, self.budget
        )
        outcomes = executor(pending, graph.noting(pending, on_event), should_stop)
        for trial, outcome in zip(pending, outcomes, strict=True):
            if outcome.error is not None:
                self.failed[trial.config.trial_id] = outcome.error
        _describe(self)
        return any(outcome.stopped for outcome in outcomes) or should_stop()

    def is_open(self, config: RunConfig) -> bool:
        """Whether a trial is still to be run."""
        return config.trial_id not in self.failed and not record.is_finished(self.trial(config))

    def records(self, cell: Cell) -> list[record.Record]:
        """The finished trials of a cell, by seed."""
        return [record.read(self.trial(c)) for c in cell.configs if record.is_finished(self.trial(c))]

    def missing(self, cell: Cell) -> tuple[str, ...]:
        """A line for each trial of a cell that is not finished."""
        return tuple(
            f"seed {c.seed}: {'failed: ' + self.failed[c.trial_id] if c.trial_id in self.failed else 'not finished'}"
            for c in cell.configs
            if not record.is_finished(self.trial(c))
        )

    def trial(self, config: RunConfig) -> Path:
        """The directory of a trial."""
        return self.place(config) if self.place else self.directory / folder.TRIALS / config.trial_id


def check_budget(directory: Path, budget: str) -> None:
    """Refuse a directory with runs at another budget, or of another kind of study.

    Raises:
        InputError: naming what is there.
    """
    try:
        before = folder.read_graph(directory)
    except InputError:  # damaged: it is written again
        return
    if before is not None and before.budget != budget:
        there = f"runs at budget {before.budget}" if before.budget else "another study"
        raise InputError(f"{directory} holds {there}: choose another --out")


def searches_for(asked: Sequence[Recipe]) -> dict[str, Recipe]:
    """The searches that recipes refer to and that were not asked for themselves, with the groups that matter."""
    groups: dict[str, set[str]] = {}
    for recipe in asked:
        for search, labels in searches(recipe).items():
            groups.setdefault(search, set()).update(labels)
    needed = {name: recipes.load(name) for name in groups.keys() - {recipe.name for recipe in asked}}
    return {
        name: recipe.model_copy(
            update={"groups": tuple(group for group in recipe.groups if group.label in groups[name])}
        )
        for name, recipe in sorted(needed.items())
    }


def _describe(study: Study) -> None:
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


def _starts(study: Study, now: str) -> tuple[folder.Start, ...]:
    """The commands that began the study, this one last; typed again it is there once."""
    try:
        before = folder.read_study(study.directory)
    except InputError:  # damaged: all but the earlier commands is known again
        before = None
    starts = before.starts if before else ()
    if study.command and (not starts or starts[-1].command != study.command):
        return (*starts, folder.Start(command=study.command, started=now))
    return starts
