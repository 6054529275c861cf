"""The seam between studies and reports: finished trials by cell go in, a table comes out, and the files of tables.

A comparison is a recipe of one group whose variants are the methods, with no budget; everything else has one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from selftaught.files import study_folder as folder
from selftaught.recipes.schema import Recipe
from selftaught.report import page, paper, paper_page, paper_render, render, tables
from selftaught.report.paper import Cell, PaperTable
from selftaught.report.paper_page import About, Figure
from selftaught.report.tables import Table

__all__ = ["About", "Cell", "Figure", "files", "table", "values"]


def table(
    recipe: Recipe, cells: Sequence[Cell], budget: str = "", notes: Sequence[str] = ()
) -> Table | PaperTable:
    """The table of a recipe over the finished trials of its cells.

    Args:
        recipe: how the table is laid out and what the paper printed; of a comparison, one group of methods.
        cells: one per group and variant in the order they are shown, each with its finished trials, the time of a step
            relative to plain training (None where it is not known), the number of further networks that are trained
            for one student, and a line per trial that is missing.
        budget: the name of the budget that the trials had; empty for a comparison.
        notes: what the reader must know first, such as trials that failed.

    Raises:
        InputError: cells that the recipe does not have or that cannot stand side by side, a damaged file, or no
            finished trial at all in a comparison.
    """
    if budget:
        return paper.tabulate(recipe, cells, budget, notes)
    records = [record for cell in cells for record in cell.records]
    costs = {cell.variant: cell.cost for cell in cells if cell.cost is not None}
    made = tables.tabulate(records, [cell.variant for cell in cells], costs, notes)
    return replace(made, records=tuple(records), costs=costs, notes=tuple(notes))


def values(table: Table | PaperTable, more: Mapping[str, Any] = {}) -> dict[str, Any]:
    """The table as plain values for JSON, with what else a study knows (`more`)."""
    made = paper_render.values(table) if isinstance(table, PaperTable) else render.values(table)
    return {**made, **more}


def files(
    tables: Sequence[Table | PaperTable],
    figures: Sequence[Figure],
    about: About,
    name: str = folder.REPORT,
    more: Mapping[str, Any] = {},
) -> dict[str, bytes]:
    """All files of the tables and figures of a study, by name: Markdown, CSV, JSON, pictures and the page.

    Args:
        tables: in the order they are shown; of a comparison its only one.
        figures: shown after the tables.
        about: budget, commands and facts for the page.
        name: of the page.
        more: what comparison.json says beside the table: trials, failures, environment.
    """
    made: dict[str, bytes] = {}
    for one in tables:
        texts = _comparison(one) if isinstance(one, Table) else _reproduced(one)
        of_values = values(one, more if isinstance(one, Table) else {})
        end = folder.SUMMARY if isinstance(one, Table) else f"{one.recipe.name}.json"
        made |= {key: text.encode() for key, text in texts.items()}
        made[end] = (json.dumps(of_values, indent=2) + "\n").encode()
    for figure in figures:
        same = [other for other in figures if other.name == figure.name]
        number = f"-{same.index(figure) + 1}" if len(same) > 1 else ""
        made[f"{figure.name}{number}.png"] = figure.png
    comparison = next((one for one in tables if isinstance(one, Table)), None)
    if comparison is not None:
        methods = [row.method for row in comparison.rows]
        text = page.html(comparison.records, methods, comparison.costs, about.commands, comparison.notes)
    else:
        text = paper_page.html([one for one in tables if isinstance(one, PaperTable)], figures, about)
    return {**made, name: text.encode()}


def _comparison(table: Table) -> dict[str, str]:
    return {folder.TABLE: render.markdown(table), folder.TABLE_CSV: render.as_csv(table)}


def _reproduced(table: PaperTable) -> dict[str, str]:
    name = table.recipe.name
    return {f"{name}.md": paper_render.markdown(table), f"{name}.csv": paper_render.as_csv(table)}
