"""The page of the paper's tables and figures: one HTML file that needs no network, ours beside theirs."""

import base64
import datetime
import re
import shlex
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import selftaught
from selftaught.report import charts, paper_render, svg
from selftaught.report import paper_words as words
from selftaught.report.page import CONTROL, environment
from selftaught.report.paper import PaperCell, PaperTable
from selftaught.report.paper_comparisons import REFERENCE
from selftaught.statistics.paired import Interval

_WORDS = (paper_render.VERDICT, paper_render.SELECTED)
"""Columns whose texts stand out."""


@dataclass(frozen=True)
class Figure:
    """A drawing, as PNG or as SVG, and the same facts in words and numbers.

    `name` is the recipe's, `alt` what the drawing shows for those who do not see it, `caption` and `rows` (under
    `headers`) are shown below it.
    """

    name: str
    title: str
    caption: tuple[str, ...]
    alt: str
    png: bytes
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class About:
    """What the reader should know of the run as a whole.

    `commands` are the arguments of the commands that made it, `facts` names and values such as the wall time, `notes`
    what must be said first.
    """

    budget: str
    commands: tuple[tuple[str, ...], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def html(tables: Sequence[PaperTable], figures: Sequence[Figure], about: About) -> str:
    """The page as a text.

    Args:
        tables: in the order they are shown.
        figures: shown after the tables.
        about: the budget, the commands and further facts.
    """
    context = {
        "reduced": about.budget != "paper",
        "printed": not tables
        or bool(figures)
        or any(table.recipe.paper or table.recipe.search for table in tables),
        "names": ", ".join(table.recipe.title for table in tables),
        "budget": about.budget,
        "notes": about.notes,
        "lead": _lead(tables, about.budget),
        "le": words.le_in_short(tables) or words.clear_differences(tables),
        "findings": [(_short(table), text) for table in tables if (text := _finding(table))],
        "le_findings": [(_short(table), list(words.about_le(table))) for table in tables],
        "tables": [_section(table, f"t{i}") for i, table in enumerate(tables)],
        "figures": [
            _drawing(figure, name, f"f{i}")
            for i, (figure, name) in enumerate(zip(figures, _names(figures), strict=True))
        ],
        "commands": [shlex.join(command) for command in about.commands],
        "facts": about.facts,
        "runs": _runs(tables),
        "environment": _environments(tables),
        "styles": range(svg.STYLES),
        "version": selftaught.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    return CONTROL.sub("\ufffd", environment().get_template("paper.html").render(context))


def _lead(tables: Sequence[PaperTable], budget: str) -> str:
    """The answer to "is it as in the paper?" in one sentence."""
    if budget != "paper":
        return (
            f"Nothing on this page can be compared with the paper: the {budget} budget is not its protocol."
        )
    cells = [cell for table in tables for cell in table.cells.values()]
    # A value that several tables show counts once.
    distinct = {(cell.group, cell.runs, cell.paper): cell.verdict for cell in cells}
    judged = [verdict for verdict in distinct.values() if verdict not in ("", "not comparable")]
    if not judged:
        return "No printed value can be compared with ours yet."
    return f"{judged.count('agrees')} of {len(judged)} printed values that can be compared agree with ours."


def _finding(table: PaperTable) -> str:
    """What a table came to; that a reduced budget cannot be compared is said once for all of them."""
    return "" if table.reduced and not table.recipe.search else words.agreement(table)


def _short(table: PaperTable) -> str:
    """What a table is called in lists: its number, or the recipe's name."""
    return table.place or table.recipe.name


def _names(figures: Sequence[Figure]) -> list[str]:
    """What figures are called in lists: their numbers, with letters where there are several of one recipe."""
    names = [figure.name for figure in figures]
    return [
        re.sub("^figure(?=[0-9]+$)", "Figure ", name)
        + ("" if names.count(name) == 1 else string.ascii_lowercase[names[:i].count(name) % 26])
        for i, name in enumerate(names)
    ]


def _section(table: PaperTable, place: str) -> dict[str, Any]:
    columns = paper_render.columns(table)
    texts = {"md": paper_render.markdown(table), "csv": paper_render.as_csv(table)}
    return {
        "id": place,
        "name": _short(table),
        "file": f"selftaught-{table.recipe.name}-{table.budget}",
        "title": table.title,
        "reduced": table.reduced,
        "budget": table.caption[0],
        "overview": paper_render.overview(table) if table.fits_a_line else None,
        "headers": [(column.title, column.numeric) for column in columns],
        "groups": [(group, [_row(cell, columns) for cell in table.of(group)]) for group in table.groups],
        "charts": [] if table.recipe.search else _charts(table),
        "further": list(words.beside_the_columns(table)),
        "caption": table.caption[1:],
        "notes": table.notes,
        "files": [
            (name, end, _data(f"text/{kind};charset=utf-8", texts[end].encode(errors="replace")))
            for name, end, kind in (("Markdown", "md", "markdown"), ("CSV", "csv", "csv"))
        ],
    }


def _row(cell: PaperCell, columns: Sequence[paper_render.Column]) -> list[dict[str, Any]]:
    """The texts of a line; the second line of one and the columns of `_WORDS` have the look of their verdict."""
    shown = []
    for column in columns:
        first, _, second = column.text(cell).partition("\n")
        verdict = first if column.title in _WORDS else second.rpartition(", ")[2]
        shown.append(
            {
                "text": first,
                "more": second,
                "numeric": column.numeric,
                "look": verdict if verdict in ("better", "worse", "agrees", "selected") else "",
                "on_first": column.title in _WORDS,
            }
        )
    return shown


def _charts(table: PaperTable) -> list[dict[str, Any]]:
    """For each group the intervals of the differences to CE, and of alternatives to what they are instead of."""
    styles = {variant: 1 + i % (svg.STYLES - 1) for i, variant in enumerate(table.variants)}
    shown = []
    for group in table.groups:
        intervals: dict[str, dict[str, Interval]] = {}
        for cell in table.of(group):
            comparison = cell.compared.get("ce") or cell.compared.get(REFERENCE)
            if comparison:
                of_base = intervals.setdefault(comparison.base, {})
                of_base[cell.variant] = Interval(*(value / 100 for value in comparison.test.interval))
        for base, of_base in intervals.items():
            chart = charts.differences(of_base, base, styles, table.recipe.metric)
            shown.append({"group": group, "baseline": base, "chart": chart})
    return shown


def _drawing(figure: Figure, name: str, place: str) -> dict[str, Any]:
    return {
        "id": place,
        "name": name,
        "title": figure.title if figure.title.startswith(name) else f"{name}: {figure.title}",
        "source": _data("image/png", figure.png),
        "alt": figure.alt,
        "caption": figure.caption,
        "headers": figure.headers,
        "rows": figure.rows,
    }


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _runs(tables: Sequence[PaperTable]) -> list[list[str]]:
    """Per table its budget, its finished and missing trials, and the time that training them took."""
    rows = []
    for table in tables:
        missing = sum(len(cell.missing) for cell in table.cells.values())
        seconds = sum(run.result.seconds for run in table.records)
        rows.append(
            [_short(table), table.budget, str(len(table.records)), str(missing), f"{seconds / 60:,.1f}"]
        )
    return rows


def _environments(tables: Sequence[PaperTable]) -> list[tuple[str, str]]:
    """What the runs were made with; where they differ, every value."""
    found: dict[str, dict[str, None]] = {}
    for table in tables:
        for run in table.records:
            for name, value in run.result.environment.items():
                of_sessions = str(value).split("; ")  # as `environment.joined` puts them beside each other
                found.setdefault(name, {}).update(dict.fromkeys(of_sessions))
    return [(name, "; ".join(values)) for name, values in found.items()]
