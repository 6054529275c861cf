"""What comes of a study: tables and figures, made from finished runs, and their files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from selftaught.activities import OnActivity, activity, nobody
from selftaught.errors import SelftaughtError
from selftaught.files import evidence, manifest, record
from selftaught.files import study_folder as folder
from selftaught.recipes import Recipe, Selected
from selftaught.report import build
from selftaught.report.study import read
from selftaught.study.costs import EFFORT, of_cell, time_steps, untimed
from selftaught.study.expand import Cell
from selftaught.study.illustrations import FIGURES
from selftaught.study.measures import MEASURES, Measuring
from selftaught.study.studies import Study
from selftaught.study.trials import Trial
from selftaught.training.loop import Stopped
from selftaught.training.teaching import extra_networks, lineage

_SUMMARY = {
    *("accuracy", "balanced_accuracy", "macro_f1", "top5_accuracy", "nll", "ece", "ece_scaled", "seconds"),
    *("soft_labels", "learning", "strength"),
}
"""What of each result stands in comparison.json."""


@dataclass
class Results:
    """Tables and figures in the order of the recipes.

    Attributes:
        tables: those of recipes that could be shown; of a comparison one, or none if no trial is finished.
        figures: drawings.
        files: the names of all files that were written to the study's directory.
        problems: which recipes could not be shown, or not whole, and why.
        failures: the trials that failed, and why.
        more: of a comparison, what its JSON says beside the table.
    """

    tables: list[build.Table] = field(default_factory=list)
    figures: list[build.Figure] = field(default_factory=list)
    files: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)
    failures: list[tuple[Trial, str]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def table(self) -> build.Table | None:
        """The first table, if there is one."""
        return self.tables[0] if self.tables else None


def finish(
    study: Study,
    tell: Callable[[str], None] = lambda line: None,
    should_stop: Callable[[], bool] = lambda: False,
    facts: dict[str, str] | None = None,
    on_activity: OnActivity = nobody,
) -> Results:
    """Measure what is still to be measured of the finished trials, and write everything.

    Args:
        study: what was run.
        tell: hears what could not be measured.
        should_stop: asked now and then.
        facts: names and values for the page, such as the wall time.
        on_activity: hears what is being done.

    Raises:
        Stopped: `should_stop` said so: nothing is written, or tables without the time of a step.
    """
    cells = {recipe.name: study.shown(recipe) for recipe in study.recipes}
    _go_on(should_stop)
    timed = [cell for recipe in study.recipes if recipe.search is None for cell in cells[recipe.name]]
    late, notes = untimed(study, timed), dict[str, str]()
    if late:  # all of a network's in memory together: who runs out of it has the tables
        _write(study, _shown(study, cells, notes, should_stop, on_activity, figures=False), facts or {})
        notes = time_steps(study, late, should_stop, on_activity)
    made = _shown(study, cells, notes, should_stop, on_activity)
    for note in notes.values():
        tell(note)
    _write(study, made, facts or {})
    return made


def _shown(
    study: Study,
    cells: dict[str, list[Cell]],
    notes: dict[str, str],
    should_stop: Callable[[], bool],
    on_activity: OnActivity,
    figures: bool = True,
) -> Results:
    """The tables and figures of all recipes; `notes` say by trial why its steps are not timed."""
    made = Results(failures=study.failures())
    how = Measuring(EFFORT[study.budget].images, study.directory / MEASURES, should_stop=should_stop)
    with activity(on_activity, "making tables and figures", len(study.recipes)) as doing:
        for done, recipe in enumerate(study.recipes, 1):
            _go_on(should_stop)
            of_recipe = cells[recipe.name]
            try:
                if recipe.kind in ("table", "search", "figure3"):
                    made.tables += _tables(study, recipe, of_recipe, notes)
                if figures and recipe.kind in FIGURES:
                    made.figures += FIGURES[recipe.kind](study, recipe, of_recipe, how)
            except Stopped:
                raise
            except (
                SelftaughtError
            ) as error:  # a damaged file, a network without maps: the others are worth showing
                made.problems.append(f"{recipe.name} is not complete: {error}")
            doing.advance(done)
    if not study.budget:
        made.more = _summary(study, cells[study.recipes[0].name])
    return made


def _tables(study: Study, recipe: Recipe, cells: list[Cell], problems: dict[str, str]) -> list[build.Table]:
    """The whole table, whatever was asked for this time: what is left out of it would be left out of the correction.

    Of a comparison without a finished trial there is none.
    """
    whole = study.whole.get(recipe.name, recipe)
    planned = {(cell.group.label, cell.variant.label): cell for cell in cells}
    asked = {(g.label, v.label) for g in recipe.groups for v in recipe.variants if v.runs_in(g.label)}
    costs = folder.usable_costs(study.directory)
    found = []
    for group in whole.groups:
        for variant in (variant for variant in whole.variants if variant.runs_in(group.label)):
            place = group.label, variant.label
            found.append(_filled(study, place, planned.get(place), costs, place in asked))
    if not study.budget and not any(cell.records for cell in found):
        return []
    blank = {(cell.group, cell.variant) for cell in found if not cell.records and not cell.missing}
    waiting = sorted(place for place in blank & asked if place not in planned)
    notes = [
        *(_recipe_notes(study, recipe, cells) if study.budget else read([study.directory]).notes),
        *_listed("Not run yet, a search is not finished", waiting, whole),
        *_listed("Not asked for, and not run", sorted(blank - asked), whole),
        *(
            problems[config.trial_id]
            for cell in cells
            for config in cell.configs
            if config.trial_id in problems
        ),
    ]
    return [build.tabulate(whole, found, study.budget, notes)]


def _filled(
    study: Study, place: tuple[str, str], cell: Cell | None, costs: dict[str, float], asked: bool
) -> build.CellRuns:
    """A cell of a table, with what is finished of it; `cell` is None where a search has not selected its settings."""
    if cell is None:
        return build.CellRuns(*place, (), None, 0)
    records, first = tuple(study.records(cell)), cell.configs[0]
    missing = study.missing(cell) if asked or records else ()
    return build.CellRuns(*place, records, of_cell(cell, costs), extra_networks(first), missing)


def _recipe_notes(study: Study, recipe: Recipe, cells: list[Cell]) -> list[str]:
    return [*_teachers(study, recipe, cells), *_selected(cells)]


def _listed(what: str, places: Sequence[tuple[str, str]], recipe: Recipe) -> list[str]:
    """A line that names cells, by their groups too where there are several."""
    names = [f"{group} {variant}" if len(recipe.groups) > 1 else variant for group, variant in places]
    return [f"{what}: {'; '.join(names)}."] if places else []


def _teachers(study: Study, recipe: Recipe, cells: list[Cell]) -> list[str]:
    """A line per teacher and assistant: its accuracy beside the printed one."""
    above = {t.trial_id: t for cell in cells for config in cell.configs for t in lineage(config)[:-1]}
    lines = []
    for config in above.values():
        if not record.is_finished(study.trial(config)):
            continue
        accuracy = 100 * evidence.scores(record.read(study.trial(config)), recipe.judged_on)[0]
        tested = recipe.judged_on == "test" and config.method == "ce"
        printed = recipe.teachers.get(config.model) if tested else None
        beside = f", the paper's {printed.mean:.2f} %" if printed else ""
        lines.append(
            f"Learnt from: {config.model} ({config.method}, seed {config.seed}), {accuracy:.2f} % on the "
            f"{recipe.judged_on} images{beside}; one for all trials, so no interval says what another would have done."
        )
    return lines


def _selected(cells: list[Cell]) -> list[str]:
    """A line on what searches selected."""
    found = [
        f"{cell.group.label} {cell.variant.label}: {name} {cell.configs[0].settings[name]:g} ({value.selected})"
        for cell in cells
        for name, value in cell.variant.settings_in(cell.group.label).items()
        if isinstance(value, Selected)
    ]
    return [f"Selected on held-out training images: {'; '.join(found)}."] if found else []


def _go_on(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise Stopped("stopped")


def _write(study: Study, made: Results, facts: dict[str, str]) -> None:
    """Write all files of the tables and figures; where there is nothing to show, none."""
    if not study.budget and not made.tables:
        return
    commands = [study.command] if study.command else []
    if not study.budget:
        described = folder.read_study(study.directory)
        commands = [start.command for start in described.starts] if described else []
    about = build.About(study.budget, tuple(commands), tuple(facts.items()), tuple(made.problems))
    # A recipe that was asked for alone has a page of its own name.
    alone = study.budget and len(study.asked) == 1
    name = f"{study.asked[0]}.html" if alone else folder.REPORT
    written = build.files(made.tables, made.figures, about, name, made.more)
    manifest.write(study.directory, written)
    made.files = tuple(written)


def _summary(study: Study, cells: list[Cell]) -> dict[str, Any]:
    """Where each number of a comparison comes from, and what failed."""
    runs = [run for cell in cells for run in study.records(cell)]
    return {
        "trials": [
            {
                "trial_id": run.config.trial_id,
                "method": run.config.method,
                "seed": run.config.seed,
                "settings": run.config.settings,
                "directory": str(run.directory.relative_to(study.directory)),
                **run.result.model_dump(include=_SUMMARY),
            }
            for run in runs
        ],
        "failures": [
            {
                "trial_id": trial.config.trial_id,
                "method": trial.config.method,
                "seed": trial.config.seed,
                "error": error,
            }
            for trial, error in study.failures()
        ],
        "environment": next((run.result.environment for run in runs), {}),
    }
