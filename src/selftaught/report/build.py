"""The seam between studies and reports: finished trials by cell go in, a table comes out, and the files of tables.

A comparison is a recipe of one group whose variants are the methods, with no budget; everything else has one.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from selftaught.files import study_folder as folder
from selftaught.report import plain
from selftaught.report.markdown import markdown
from selftaught.report.page import About, Figure, html
from selftaught.report.plain import as_csv
from selftaught.report.table import CellRuns, Table, comparison, tabulate
from selftaught.report.terminal import Terminal

__all__ = [
    "About",
    "CellRuns",
    "Figure",
    "Table",
    "Terminal",
    "as_csv",
    "comparison",
    "files",
    "html",
    "markdown",
    "tabulate",
    "values",
]


def values(table: Table, more: Mapping[str, Any] = {}) -> dict[str, Any]:
    """The table as plain values for JSON, with what else a study knows (`more`)."""
    return {**plain.values(table), **more}


def files(
    tables: Sequence[Table],
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
    for table in tables:
        own = table.recipe.name
        names = (
            (folder.TABLE, folder.TABLE_CSV, folder.SUMMARY)
            if table.is_comparison
            else (f"{own}.md", f"{own}.csv", f"{own}.json")
        )
        said = json.dumps(values(table, more if table.is_comparison else {}), indent=2) + "\n"
        texts = (markdown(table), as_csv(table), said)
        made |= {end: text.encode(errors="replace") for end, text in zip(names, texts, strict=True)}
    for figure in figures:
        same = [other for other in figures if other.name == figure.name]
        number = f"-{same.index(figure) + 1}" if len(same) > 1 else ""
        made[f"{figure.name}{number}.png"] = figure.png
    return {**made, name: html(tables, figures, about).encode()}
