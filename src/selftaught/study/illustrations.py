"""The figures of the paper, drawn of a study's finished trials."""

from collections.abc import Callable

import numpy as np

from selftaught.files import record, trace
from selftaught.recipes import Recipe
from selftaught.report import paper_figures
from selftaught.report.agreement import FULL
from selftaught.report.build import Figure
from selftaught.report.drawing import Drawing
from selftaught.study.expand import Cell
from selftaught.study.measures import Measuring, class_similarity, discriminativeness
from selftaught.study.studies import Study


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


FIGURES: dict[str, Callable[[Study, Recipe, list[Cell], Measuring], list[Figure]]] = {
    "figure1": _figure1,
    "figure2": _figure2,
    "figure3": _figure3,
}
"""What draws the figures of a kind of recipe."""


def _figure(recipe: Recipe, title: str, drawing: Drawing, study: Study) -> Figure:
    reduced = () if study.budget == FULL else (f"{study.budget} budget: NOT the paper's protocol.",)
    caption = (*reduced, *drawing.caption, *recipe.notes)
    return Figure(recipe.name, title, caption, drawing.alt, drawing.png, drawing.headers, drawing.rows)
