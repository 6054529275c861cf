"""The paper's tables and figures run as one study: every trial once, whatever recipes need it.

Searches come first together with all that does not wait for them; what refers to a selected value is planned when
that is known. Everything lies in one directory: trials/ by the hash of their configuration, and what is made of them.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from selftaught import errors, recipes
from selftaught.errors import InputError
from selftaught.files import record
from selftaught.files.config import RunConfig
from selftaught.recipes import Recipe, Variant
from selftaught.report.selection import select
from selftaught.study import folder
from selftaught.study.demands import ALL
from selftaught.study.executor import Event, Executor
from selftaught.study.expand import Cell, expand, searches
from selftaught.study.graph import GraphFile, with_teachers
from selftaught.study.plan import Trial
from selftaught.training.teaching import lineage

Cells = dict[str, list[Cell]]
"""The cells of each recipe that can be planned, by the recipe's name."""

PAGE = "report.html"

_RESERVED = ("comparison", "costs", "graph", "measures", "report", "study", "table", "trials")
"""Names of other files in a study's directory."""


@dataclass
class Reproduction:
    """Recipes at a budget in a directory.

    Attributes:
        recipes: those asked for, then the searches that they refer to.
        budget: "smoke", "quick" or "paper".
        directory: where everything lies.
        options: of `selftaught.study.expand.expand`: trials, seed, threads, device, precision.
        command: what the user typed.
        asked: the names of those that were asked for.
        whole: of those that were asked for in part (some variants or groups), what they are with all, by name.
        keep_checkpoints: whether those of finished trials stay.
        failed: why a trial failed in this session, by its name.
    """

    recipes: tuple[Recipe, ...]
    budget: str
    directory: Path
    options: Mapping[str, Any]
    command: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    whole: Mapping[str, Recipe] = field(default_factory=dict)
    keep_checkpoints: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    _expanded: dict[Any, list[Cell]] = field(default_factory=dict, init=False, repr=False)

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
        needed = list(_searches_for([whole]).values())
        chosen = self.chosen(needed, self.cells_of(needed))

        def waits(variant: Variant) -> bool:
            of_variant = searches(whole.model_copy(update={"variants": (variant,)}))
            return any((name, group) not in chosen for name, groups in of_variant.items() for group in groups)

        planned = tuple(variant for variant in whole.variants if not waits(variant))
        return self.expanded(whole.model_copy(update={"variants": planned}), chosen) if planned else []

    def expanded(self, recipe: Recipe, chosen: dict[tuple[str, str], float]) -> list[Cell]:
        """The cells of one recipe, worked out once for what was selected: it is asked for again and again."""
        groups, variants = (g.label for g in recipe.groups), (v.label for v in recipe.variants)
        key = recipe.name, tuple(groups), tuple(variants), frozenset(chosen.items())
        if key not in self._expanded:
            self._expanded[key] = expand(recipe, self.budget, chosen, **self.options_of(recipe))
        return self._expanded[key]

    def options_of(self, recipe: Recipe) -> dict[str, Any]:
        """The options of one recipe: a search that is only referred to keeps the budget's number of trials."""
        own = recipe.name in self.asked
        return {name: value for name, value in self.options.items() if own or name != "trials"}

    @property
    def page(self) -> str:
        """The name of the HTML page."""
        return PAGE if len(self.asked) > 1 else f"{self.asked[0]}.html"

    def chosen(self, of: Sequence[Recipe], cells: Cells) -> dict[tuple[str, str], float]:
        """What searches selected, by search and group, of groups none of whose trials is still to be run."""
        found: dict[tuple[str, str], float] = {}
        for recipe in of:
            of_search = cells[recipe.name]
            waiting = {c.group.label for c in of_search for config in c.configs if self.is_open(config)}
            finished = {
                (cell.group.label, cell.variant.label): self.records(cell)
                for cell in of_search
                if cell.group.label not in waiting
            }
            found |= select(recipe, finished)
        return found

    def trials(self, cells: Cells) -> list[Trial]:
        """Every trial of the cells once: teachers, then by seed all that is compared.

        A study that is not finished has compared pairs, not one method's trials alone.
        """
        configs = {c.trial_id: c for of in cells.values() for cell in of for c in cell.configs}
        teachers, students = with_teachers(list(configs.values()), self.directory / folder.TRIALS, {})
        ordered = {trial.config.trial_id: trial for trial in (*teachers, *students)}
        teaching = {above.trial_id for trial in ordered.values() for above in lineage(trial.config)[:-1]}

        def place(trial: Trial) -> tuple[int, int, int]:
            generation, seed = len(lineage(trial.config)), trial.config.seed
            return (0, generation, seed) if trial.config.trial_id in teaching else (1, seed, 0)

        return sorted(ordered.values(), key=place)

    def pending(self) -> list[Trial]:
        """The trials that can be planned and are neither finished nor failed in this session."""
        return [trial for trial in self.trials(self.cells()) if self.is_open(trial.config)]

    def run(
        self,
        executor: Executor,
        on_event: Callable[[Event], None],
        should_stop: Callable[[], bool],
        jobs: int = 1,
    ) -> bool:
        """Train what is pending; whether it was asked to stop before the end."""
        pending = self.pending()
        record.make_directory(self.directory / folder.TRIALS)
        cells = self.cells()
        later = [recipe.name for recipe in self.recipes if recipe.name not in cells]
        title = f"{', '.join(cells)} at budget {self.budget}"
        title += f" ({', '.join(later)} when the searches are done)" if later else ""
        graph = GraphFile(
            self.directory, self.trials(self.cells()), title, self.command, jobs, self.failed, self.budget
        )
        trained = [replace(trial, keep_checkpoint=self.keep_checkpoints) for trial in pending]
        outcomes = executor(trained, graph.noting(pending, on_event), should_stop)
        for trial, outcome in zip(pending, outcomes, strict=True):
            if outcome.error is not None:
                self.failed[trial.config.trial_id] = outcome.error
        return any(outcome.stopped for outcome in outcomes)

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
        return self.directory / folder.TRIALS / config.trial_id


def prepare(
    names: Sequence[str],
    budget: str,
    out: str | os.PathLike,
    options: Mapping[str, Any],
    command: Sequence[str] = (),
    variants: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> Reproduction:
    """A reproduction in directory `out`, which is looked at but not touched.

    Args:
        names: recipes, files of one's own, or "all", which with labels is every table that has them and the searches
            that it needs.
        budget: "smoke", "quick" or "paper".
        out: the directory; finished trials that are there are kept.
        options: see `Reproduction`.
        command: what the user typed.
        variants: labels of the variants to run of what is asked for, searches aside; all of them if empty.
        groups: labels of the groups, the networks or data, to run them in, likewise.

    Raises:
        InputError: an unknown recipe, variant, group or budget, a value out of range, or `out` holds something else.
    """
    wanted = dict.fromkeys(n for name in names for n in (recipes.names() if name == ALL else [name]))
    if not wanted:
        raise InputError(f"no recipe given: name some of {', '.join(recipes.names())}, or all")
    whole = list(map(recipes.load, wanted))
    _check_names(list(wanted), whole)
    asked = _chosen(whole, variants, groups, optional=wanted.keys() - set(names))
    found = {recipe.name: recipe for recipe in asked}
    if budget not in recipes.budgets():
        raise errors.unknown("budget", budget, recipes.budgets())
    found |= _searches_for(list(found.values()))
    directory = folder.checked(out)
    try:
        before = folder.read_graph(directory)
    except InputError:  # damaged: it is written again
        before = None
    if before is not None and before.budget != budget:
        raise InputError(
            f"{directory} holds {f'runs at budget {before.budget}' if before.budget else 'another study'}: "
            "choose another --out"
        )
    _check_machine(directory, options)
    own = tuple(recipe.name for recipe in asked)
    narrowed = {
        recipe.name: recipe for recipe in whole if recipe.name in own and recipe != found[recipe.name]
    }
    return Reproduction(tuple(found.values()), budget, directory, options, tuple(command), own, narrowed)


def _check_machine(directory: Path, options: Mapping[str, Any]) -> None:
    """Refuse what makes other trials than those that are there, whose lines would vanish from the tables.

    Raises:
        InputError: naming the option and what the trials have.
    """
    there = next(iter(sorted((directory / folder.TRIALS).glob(f"*/{record.CONFIG}"))), None)
    if there is None:
        return
    try:
        config = record.read_config(there.parent)
    except InputError:  # damaged: whoever needs it says so
        return
    asked = {"threads": 1, "precision": "32-true", "device": "auto", **options}
    if asked["device"] == "auto":
        asked["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    for name in ("threads", "precision", "device"):
        value = getattr(config, name)
        if value != asked[name]:
            raise InputError(
                f"{directory} holds trials with {name} {value}, not {asked[name]}: give --{name} {value}, or choose "
                "another --out"
            )


def _check_names(wanted: Sequence[str], loaded: Sequence[Recipe]) -> None:
    """Refuse a recipe of one's own that is called like another, or like another file of the study."""
    taken = Counter((*_RESERVED, *recipes.names()))
    taken.update(
        recipe.name for name, recipe in zip(wanted, loaded, strict=True) if name not in recipes.names()
    )
    for recipe in loaded:
        if taken[recipe.name] > 1:
            raise InputError(f"the name {recipe.name!r} of a recipe is taken: call it something else")


def _chosen(
    asked: Sequence[Recipe], variants: Sequence[str], groups: Sequence[str], optional: Collection[str]
) -> list[Recipe]:
    """The recipes with the variants and groups of these labels alone, all of them where none is given.

    Searches keep theirs, since they select among them. Of the recipes named in `optional` those stay that have some
    of the labels; their searches come with the tables that refer to them.
    """
    if not variants and not groups:
        return list(asked)
    tables = [recipe for recipe in asked if recipe.search is None]
    if not tables:
        raise InputError("a search runs all its variants and groups: leave out --variant and --group")
    _check_labels("variant", variants, [variant.label for recipe in tables for variant in recipe.variants])
    _check_labels("group", groups, [group.label for recipe in tables for group in recipe.groups])
    what = "groups" if not variants else "variants in these groups" if groups else "variants"
    chosen = []
    for recipe in asked:
        part = recipe if recipe.search is not None else _part_of(recipe, variants, groups)
        if part is None and recipe.name not in optional:
            raise InputError(f"{recipe.name} has none of these {what}: leave it out, or name one of its own")
        if part is not None and (recipe in tables or recipe.name not in optional):
            chosen.append(part)
    if not chosen:
        raise InputError(f"no recipe has any of these {what}")
    return chosen


def _check_labels(what: str, asked: Sequence[str], known: Sequence[str]) -> None:
    for label in asked:
        if label not in known:
            raise errors.unknown(what, label, list(dict.fromkeys(known)))


def _part_of(recipe: Recipe, variants: Sequence[str], groups: Sequence[str]) -> Recipe | None:
    """What a table has of these variants and groups, None if it is nothing."""
    own = [variant.label for variant in recipe.variants if variant.label in variants]
    part = recipe.only(own, groups)
    return None if (variants and not own) or not part.groups else part


def _searches_for(asked: Sequence[Recipe]) -> dict[str, Recipe]:
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
