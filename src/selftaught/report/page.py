"""The page of a study: one HTML file that needs no network, made from tables, figures and records alone."""

import base64
import datetime
import re
import shlex
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import selftaught
from selftaught.files.evidence import class_sizes, gather
from selftaught.files.names import called
from selftaught.report import charts, making, plain, sections, sentences, svg
from selftaught.report.agreement import FULL
from selftaught.report.columns import columns, shown
from selftaught.report.markdown import markdown, overview
from selftaught.report.questions import REFERENCE
from selftaught.report.table import Table
from selftaught.statistics.paired import Interval

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Characters that HTML does not allow; names on disk may hold them."""


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

    budget: str = ""
    commands: tuple[tuple[str, ...], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@np.errstate(all="ignore")  # records may hold numbers of any size
def html(tables: Sequence[Table], figures: Sequence[Figure] = (), about: About = About()) -> str:
    """The page as a text.

    Args:
        tables: in the order they are shown; a comparison stands alone.
        figures: shown after the tables.
        about: the budget, the commands and further facts.

    Raises:
        InputError: a damaged file.
    """
    one = tables[0] if tables and tables[0].is_comparison else None
    styles = {id(table): _styles(table) for table in tables}
    context = {
        **(_of_comparison(one, styles[id(one)]) if one else _of_recipes(tables, figures, about)),
        "tables": [_section(table, f"t{i}", styles[id(table)]) for i, table in enumerate(tables)],
        "figures": _figures(figures),
        "commands": [shlex.join(command) for command in about.commands],
        "known": about.facts,
        "runs": [] if one else _runs(tables),
        "making": making.making(tables),
        "styles": range(svg.STYLES),
        "tabs": max(4, *(len(table.variants) for table in tables), 0),
        "version": selftaught.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    return CONTROL.sub("\ufffd", environment().get_template("page.html").render(context))


def _of_comparison(table: Table, styles: dict[str, int]) -> dict[str, Any]:
    """The head of a comparison's page: did it help?"""
    config = table.records[0].config
    methods, model = ", ".join(table.variants), called(config.model)
    sizes = class_sizes(table.records)
    found = sentences.findings(table)
    return {
        "title": f"{methods} on {called(config.data)} with {model}",
        "heading": f"{methods} on {called(config.data)}",
        "soft": f"with {model}",
        "look": "wide" if table.uneven or table.has_probe else "",
        "printed": False,
        "question": "Did it help?",
        "notes": table.notes,
        "leads": [f"{sentences.headline(table)}."],
        "remarks": sentences.remarks(table),
        "findings": [
            {
                "summary": "",
                "open": True,
                "sign": ".",
                "lines": [(f"{method}: {verdict}", text) for method, verdict, text in found],
            }
        ],
        "cautions": list(filter(None, (sentences.calibration(table), *sentences.cautions(table, sizes)))),
        "comparison": _evidence(table, table.groups[0], styles),
    }


def _of_recipes(tables: Sequence[Table], figures: Sequence[Figure], about: About) -> dict[str, Any]:
    """The head of a page of recipes: is it as in the paper, and does LE help?"""
    reduced = about.budget != FULL
    printed = not tables or figures or any(table.recipe.paper or table.recipe.search for table in tables)
    names = ", ".join(table.recipe.title for table in tables)
    heading = "Introspective learning: our numbers beside the paper's" if printed else f"Results of {names}"
    protocol = f"{about.budget} budget, not the paper's protocol" if reduced else ""
    return {
        "title": f"{heading} ({protocol})" if reduced else heading,
        "heading": heading.replace("'", "’"),
        "soft": protocol.replace("'", "’"),
        "look": "paper",
        "printed": printed,
        "question": "Is it as in the paper?" if printed else "In short",
        "notes": about.notes,
        "leads": [
            sentences.lead(tables, about.budget) if printed else "",
            sentences.le_in_short(tables) or sentences.clear_differences(tables),
        ],
        "remarks": [],
        "findings": [
            {
                "summary": "Table by table",
                "open": not reduced,
                "sign": ".",
                "lines": [(_short(table), text) for table in tables if (text := _finding(table))],
            },
            {
                "summary": "LE against all others, cell by cell",
                "open": False,
                "sign": ":",
                "lines": [
                    (f"{_short(table)}, {place}", text)
                    for table in tables
                    for place, text in sentences.about_le(table)
                ],
            },
        ],
        "cautions": [],
        "comparison": None,
    }


def _finding(table: Table) -> str:
    """What a table came to; that a reduced budget cannot be compared is said once for all of them."""
    return "" if table.reduced and not table.recipe.search else sentences.agreement(table)


def _short(table: Table) -> str:
    """What a table is called in lists: its number, or the recipe's name."""
    return table.place or table.recipe.name


def _styles(table: Table) -> dict[str, int]:
    """The baseline is neutral (0), the others have colours in their order, beginning again after the last."""
    neutral = next((c.variant for c in table.cells.values() if c.method == table.baseline), "")
    others = [variant for variant in table.variants if variant != neutral]
    return {neutral: 0} | {variant: 1 + i % (svg.STYLES - 1) for i, variant in enumerate(others)}


def _section(table: Table, place: str, styles: dict[str, int]) -> dict[str, Any]:
    """What the section of a table shows."""
    found, is_comparison = shown(table, page=True), table.is_comparison
    caption = sentences.caption(
        replace(table, notes=()) if is_comparison else table, columns(table, page=True)
    )
    return {
        "id": "table" if is_comparison else place,
        "name": "Table" if is_comparison else _short(table),
        "file": "selftaught-table" if is_comparison else f"selftaught-{table.recipe.name}-{table.budget}",
        "title": "Comparison" if is_comparison else table.title,
        "reduced": table.reduced,
        "budget": "" if is_comparison else caption.pop(0),
        "overview": overview(table) if table.fits_a_line else None,
        # Where room is short a title takes two lines, but a sign stays beside its word.
        "headers": [
            (
                re.sub(" %|(?<=× ) ", lambda at: at[0].replace(" ", "\N{NO-BREAK SPACE}"), one.title),
                one.numeric,
            )
            for one in found
        ],
        "groups": [
            (
                group,
                [
                    [
                        dict(zip(("first", "more", "look"), one.texts[cell.group, cell.variant], strict=True))
                        | {"numeric": one.numeric}
                        for one in found
                    ]
                    for cell in table.of(group)
                ],
            )
            for group in table.groups
        ],
        "charts": [] if table.recipe.search else _charts(table, styles),
        "further": [] if is_comparison else sentences.further(table),
        "caption": caption,
        "notes": table.recipe.notes,
        "files": [
            (name, end, _data(f"text/{name.lower()};charset=utf-8", text.encode(errors="replace")))
            for name, end, text in (("Markdown", "md", markdown(table)), ("CSV", "csv", plain.as_csv(table)))
        ],
        "evidence": []
        if is_comparison or table.recipe.judged_on != "test"
        else [
            {**_evidence(table, group, styles, f"{place}-{i}-"), "name": group}
            for i, group in enumerate(table.groups)
            if any(cell.records for cell in table.of(group))
        ],
    }


def _charts(table: Table, styles: dict[str, int]) -> list[dict[str, Any]]:
    """For each group the intervals of the differences to the baseline, or to what a variant is instead of."""
    made = []
    for group in table.groups:
        intervals: dict[str, dict[str, Interval]] = {}
        for cell in table.of(group):
            name = table.baseline if table.baseline in cell.compared else REFERENCE
            if name in cell.compared:
                intervals.setdefault(cell.bases[name], {})[cell.variant] = cell.compared[name].interval
        for base, of_base in intervals.items():
            chart = charts.differences(of_base, base, styles, table.recipe.metric)
            made.append({"group": group, "baseline": base, "chart": chart})
    return made


def _evidence(table: Table, group: str, styles: dict[str, int], place: str = "") -> dict[str, Any]:
    """What the trials of a group kept beside their numbers; `place` goes before the ids of its sections."""
    cells = [cell for cell in table.of(group) if cell.records]
    found = [gather(cell.variant, cell.records) for cell in cells]
    return {
        "id": place,
        "legend": [(cell.variant, svg.key(styles[cell.variant])) for cell in cells],
        "trials": sections.trials(found, styles),
        "learning": sections.learning(table, styles) if table.is_comparison else None,
        "curves": sections.curves(found, styles),
        "reliability": sections.reliability(found, table, cells, styles),
        "classes": sections.classes(found, styles),
        "confusions": sections.confusions(found),
        "examples": sections.examples(found, 8 if table.is_comparison else 2),
    }


def _figures(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    names = [figure.name for figure in figures]
    made = []
    for i, figure in enumerate(figures):
        # Figures are called by their numbers, with letters where there are several of one recipe.
        several = names.count(figure.name) > 1
        letter = string.ascii_lowercase[names[:i].count(figure.name) % 26] if several else ""
        name = re.sub("^figure(?=[0-9]+$)", "Figure ", figure.name) + letter
        made.append(
            {
                "id": f"f{i}",
                "name": name,
                "title": figure.title if figure.title.startswith(name) else f"{name}: {figure.title}",
                "source": _data("image/png", figure.png),
                "alt": figure.alt,
                "caption": figure.caption,
                "headers": figure.headers,
                "rows": figure.rows,
            }
        )
    return made


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _runs(tables: Sequence[Table]) -> list[list[str]]:
    """Per table its budget, its finished and missing trials, and the time that training them took."""
    rows = []
    for table in tables:
        missing, records = sum(len(cell.missing) for cell in table.cells.values()), table.records
        minutes = sum(run.result.seconds for run in records) / 60
        rows.append([_short(table), table.budget, str(len(records)), str(missing), f"{minutes:,.1f}"])
    return rows


def environment() -> Any:
    """The templates of pages, which escape whatever they are given."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("selftaught.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
