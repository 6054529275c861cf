"""What comes of a study: tables and figures, made from finished runs, and their files."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from selftaught.activities import OnActivity, activity, nobody
from selftaught.errors import SelftaughtError
from selftaught.files import evidence, manifest, record, trace
from selftaught.files import study_folder as folder
from selftaught.recipes import Recipe, Selected
from selftaught.report import page, paper, paper_figures, paper_page, paper_render, render
from selftaught.report.drawing import Drawing
from selftaught.report.paper import PaperTable
from selftaught.report.paper_page import About, Figure
from selftaught.report.study import read
from selftaught.report.tables import Table, tabulate
from selftaught.study.costs import EFFORT, of_cell, time_steps, untimed
from selftaught.study.expand import Cell
from selftaught.study.measures import MEASURES, Measuring, class_similarity, discriminativeness
from selftaught.study.studies import Study
from selftaught.study.trials import Trial
from selftaught.training.loop import Stopped
from selftaught.training.teaching import extra_networks, lineage


@dataclass(frozen=True)
class Results:
    """Tables and figures in the order of the recipes; `files` are their names in the study's directory.

    `problems` say which recipes could not be shown, or not whole, and why.
    """

    tables: tuple[PaperTable, ...]
    figures: tuple[Figure, ...]
    files: tuple[str, ...]
    problems: tuple[str, ...] = ()


def make(
    study: Study,
    tell: Callable[[str], None],
    should_stop: Callable[[], bool],
    facts: dict[str, str],
    on_activity: OnActivity = nobody,
) -> Results:
    """Measure what is still to be measured of the finished trials, and write everything.

    Args:
        study: what was run.
        tell: hears what is being done.
        should_stop: asked now and then.
        facts: names and values for the page, such as the wall time.

    Raises:
        Stopped: `should_stop` said so.
    """
    cells = {recipe.name: study.shown(recipe) for recipe in study.recipes}
    tell("timing a step of each method")
    timed = [cell for recipe in study.recipes if recipe.search is None for cell in cells[recipe.name]]
    for problem in time_steps(study, untimed(study, timed), should_stop, on_activity):
        tell(problem)
    costs = folder.usable_costs(study.directory)
    tables: list[PaperTable] = []
    figures: list[Figure] = []
    problems: list[str] = []
    how = Measuring(EFFORT[study.budget].images, study.directory / MEASURES, should_stop=should_stop)
    for recipe in study.recipes:
        _go_on(should_stop)
        tell(f"making {recipe.name}")
        of_recipe = cells[recipe.name]
        try:
            if recipe.kind in ("table", "search", "figure3"):
                tables.append(_table(study, recipe, of_recipe, costs))
            if recipe.kind in _FIGURES:
                figures += _FIGURES[recipe.kind](study, recipe, of_recipe, how)
        except Stopped:
            raise
        except (
            SelftaughtError
        ) as error:  # a damaged file, a network without maps: the others are worth showing
            problems.append(f"{recipe.name} is not complete: {error}")
            tell(problems[-1])
    return _written(study, tables, figures, facts, problems)


def _table(study: Study, recipe: Recipe, cells: list[Cell], costs: dict[str, float]) -> PaperTable:
    """The whole table, whatever was asked for this time: what is left out of it would be left out of the correction."""
    whole = study.whole.get(recipe.name, recipe)
    planned = {(cell.group.label, cell.variant.label): cell for cell in cells}
    asked = {(g.label, v.label) for g in recipe.groups for v in recipe.variants if v.runs_in(g.label)}
    found = []
    for group in whole.groups:
        for variant in (variant for variant in whole.variants if variant.runs_in(group.label)):
            place = group.label, variant.label
            found.append(_shown_cell(study, place, planned.get(place), costs, place in asked))
    blank = {(cell.group, cell.variant) for cell in found if not cell.records and not cell.missing}
    waiting = sorted(place for place in blank & asked if place not in planned)
    notes = [
        *_teachers(study, recipe, cells),
        *_selected(cells),
        *_listed("Not run yet, a search is not finished", waiting, whole),
        *_listed("Not asked for, and not run", sorted(blank - asked), whole),
    ]
    return paper.tabulate(whole, found, study.budget, notes)


def _shown_cell(
    study: Study, place: tuple[str, str], cell: Cell | None, costs: dict[str, float], asked: bool
) -> paper.Cell:
    """A cell of a table, with what is finished of it; `cell` is None where a search has not selected its settings."""
    if cell is None:
        return paper.Cell(*place, (), None, 0)
    records, first = tuple(study.records(cell)), cell.configs[0]
    missing = study.missing(cell) if asked or records else ()
    return paper.Cell(*place, records, of_cell(cell, costs), extra_networks(first), missing)


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


def _figure1(study: Study, recipe: Recipe, cells: list[Cell], how: Measuring) -> list[Figure]:
    """A grid per network: its explanations along the training of the first seed."""
    made = []
    for cell in cells:
        config = cell.configs[0]
        snapshots = trace.read(study.trial(config)) if study.records(cell)[:1] else {}
        if snapshots:
            classes = record.read(study.trial(config)).result.data.classes
            title = f"{cell.group.label}, {cell.variant.label}"
            drawing = paper_figures.figure1(title, snapshots, classes, config.warmup)
            made.append(_figure(recipe, f"{recipe.title}: {title}", drawing, study))
    return made


def _figure2(study: Study, recipe: Recipe, cells: list[Cell], how: Measuring) -> list[Figure]:
    """A heatmap per network, averaged over the trials."""
    panels = []
    for cell in cells:
        runs = study.records(cell)
        if not runs:
            continue
        matrices = [class_similarity(run.directory, how=how) for run in runs]
        images = min(how.images or runs[0].result.data.test, runs[0].result.data.test)
        panels.append(
            paper_figures.Panel(
                f"{cell.group.label}, {cell.variant.label}",
                runs[0].result.data.classes,
                np.mean(matrices, axis=0),
                paper_figures.EXPECTED.get(cell.group.data, ()),
                f"{images:,} test images, {len(runs)} network{'s' * (len(runs) > 1)}",
            )
        )
    return [_figure(recipe, recipe.title, paper_figures.figure2(panels), study)] if panels else []


def _figure3(study: Study, recipe: Recipe, cells: list[Cell], how: Measuring) -> list[Figure]:
    """Accuracy beside class-discriminativeness, by saliency method and network."""
    students = []
    for group in recipe.groups:
        of_group = [cell for cell in cells if cell.group.label == group.label]
        plain = [
            run.directory for cell in of_group if cell.variant.method == "ce" for run in study.records(cell)
        ]
        found = {}
        for cell in of_group:
            saliency, runs = str(cell.variant.settings.get("saliency")), study.records(cell)
            if saliency in paper_figures.PAPER_ORDER and runs:
                found[saliency] = paper_figures.Explained(
                    [run.result.accuracy for run in runs],
                    [discriminativeness(directory, saliency, how) for directory in plain],
                    [discriminativeness(run.directory, saliency, how) for run in runs],
                    [run.config.seed for run in runs],
                )
        if found:
            students.append(paper_figures.Student(group.label, found))
    return [_figure(recipe, recipe.title, paper_figures.figure3(students), study)] if students else []


_FIGURES = {"figure1": _figure1, "figure2": _figure2, "figure3": _figure3}
"""What draws the figures of a kind of recipe."""


def _figure(recipe: Recipe, title: str, drawing: Drawing, study: Study) -> Figure:
    reduced = () if study.budget == paper.FULL else (f"{study.budget} budget: NOT the paper's protocol.",)
    caption = (*reduced, *drawing.caption, *recipe.notes)
    return Figure(recipe.name, title, caption, drawing.alt, drawing.png, drawing.headers, drawing.rows)


def _written(
    study: Study,
    tables: list[PaperTable],
    figures: list[Figure],
    facts: dict[str, str],
    problems: list[str],
) -> Results:
    files: dict[str, bytes] = {}
    for table in tables:
        name, values = table.recipe.name, paper_render.values(table)
        files[f"{name}.md"] = paper_render.markdown(table).encode()
        files[f"{name}.csv"] = paper_render.as_csv(table).encode()
        files[f"{name}.json"] = (json.dumps(values, indent=2) + "\n").encode()
    for figure in figures:
        same = [other for other in figures if other.name == figure.name]
        number = f"-{same.index(figure) + 1}" if len(same) > 1 else ""
        files[f"{figure.name}{number}.png"] = figure.png
    about = About(
        study.budget, (study.command,) if study.command else (), tuple(facts.items()), tuple(problems)
    )
    files[_page(study)] = paper_page.html(tables, figures, about).encode()
    manifest.write(study.directory, files)
    return Results(tuple(tables), tuple(figures), tuple(files), tuple(problems))


def _page(study: Study) -> str:
    """The name of the HTML page: that of the recipe where one alone was asked for."""
    return folder.REPORT if len(study.asked) > 1 else f"{study.asked[0]}.html"


@dataclass(frozen=True)
class Comparison:
    """What came of a comparison: the table (None if no trial finished) and what did not go well."""

    study: Study
    table: Table | None
    failures: list[tuple[Trial, str]] = field(default_factory=list)


def compared(
    study: Study, should_stop: Callable[[], bool] = lambda: False, on_activity: OnActivity = nobody
) -> Comparison:
    """Write the table and the report of what is finished; without a finished trial there is none.

    Raises:
        Stopped: `should_stop` said so: there is no table, or one without the time of a step.
    """
    _go_on(should_stop)
    if not _finished(study):
        return Comparison(study, None, study.failures())
    missing_times = untimed(study, study.cells()[study.recipes[0].name])
    if missing_times:  # all of them in memory together: who runs out of it has the table
        _show(study, [], on_activity)
    return _show(study, time_steps(study, missing_times, should_stop, on_activity), on_activity)


def _finished(study: Study) -> list[record.Record]:
    """The finished trials of a comparison."""
    return [run for cell in study.cells()[study.recipes[0].name] for run in study.records(cell)]


def _show(study: Study, notes: Sequence[str], on_activity: OnActivity) -> Comparison:
    # Read as `selftaught report` reads it: what is made here now can be made again from the files.
    with activity(on_activity, "writing the table and the report"):
        found = read([study.directory])
        found.notes += notes
        table = tabulate(found.records, found.methods, found.costs, found.notes)
        comparison = Comparison(study, table, study.failures())
        files = {
            folder.TABLE: render.markdown(table),
            folder.TABLE_CSV: render.as_csv(table),
            folder.SUMMARY: json.dumps(summary(comparison), indent=2) + "\n",
            folder.REPORT: page.html(found.records, found.methods, found.costs, found.commands, found.notes),
        }
        manifest.write(study.directory, {name: text.encode() for name, text in files.items()})
    return comparison


_SUMMARY = {
    *("accuracy", "balanced_accuracy", "macro_f1", "top5_accuracy", "nll", "ece", "ece_scaled", "seconds"),
    *("soft_labels", "learning", "strength"),
}
"""What of each result stands in comparison.json."""


def summary(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values: the table, and where each number comes from."""
    study, runs = comparison.study, _finished(comparison.study)
    return {
        **(render.values(comparison.table) if comparison.table else {}),
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
            for trial, error in comparison.failures
        ],
        "environment": next((run.result.environment for run in runs), {}),
    }
