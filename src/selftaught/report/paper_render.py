"""A table of the paper as Markdown, as CSV, for the terminal, and as plain values."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from selftaught.recipes.schema import Value
from selftaught.report import paper_words as words
from selftaught.report.numbers import p_value, points
from selftaught.report.paper import PaperCell, PaperTable
from selftaught.report.paper_comparisons import CONTROLS, REFERENCE, Comparison
from selftaught.report.render import ABSENT, STEP

WIDE = 118
"""Columns of a terminal from which on nothing is left out."""

VARIANT, PAPER, VERDICT, SELECTED, EXTRA = "variant", "paper", "verdict", "selected", "extra networks"
ITS_REFERENCE = "Δ to its reference"
"""Titles of columns that are not shown everywhere, or not as numbers."""

_SHORT = {"no clear difference": "unclear", "one seed: no verdict": "one seed"}
"""Verdicts for narrow columns."""

_COLOURS = {"better": "green", "worse": "red", "agrees": "green"}

FIELDS = (
    *("recipe", "budget", "paper_protocol", "source", "group", "variant", "method", "settings"),
    *("metric", "part", "trials", "missing", "mean", "std", "paper_mean", "paper_std", "paper_anchor"),
    *("paper_verdict", "why", "nll", "ece", "cost", "extra", "selected"),
)
"""The columns of the CSV before those of the comparisons; means, deviations, differences and ECE are fractions."""

_OF_COMPARISON = ("base", "estimate", "low", "high", "p", "p_holm", "pairs", "verdict")


@dataclass(frozen=True)
class Column:
    """A column of the detailed table: its title, the text of a cell (lines of it apart by newlines), its alignment."""

    title: str
    text: Callable[[PaperCell], str]
    numeric: bool = True


def columns(table: PaperTable) -> list[Column]:
    """The columns that people read; one that would be empty in every line is left out."""
    unit = f"{table.recipe.metric} %"
    best = table.recipe.search.paper_best if table.recipe.search else {}
    found = [Column(VARIANT, lambda cell: cell.variant, numeric=False)]
    if table.recipe.search:
        found += [
            Column("held-out accuracy %", ours),
            Column("held-out NLL", lambda cell: _number(cell.nll, ".3f")),
            Column(SELECTED, lambda cell: "selected" if cell.selected else "", numeric=False),
            Column(
                "the paper's best",
                lambda cell: "best" if _value(table, cell) == best.get(cell.group, ABSENT) else "",
                numeric=False,
            ),
        ]
    else:
        found += [
            Column(f"ours, {unit}", ours),
            Column(PAPER, lambda cell: printed(cell.paper)),
            Column(VERDICT, lambda cell: cell.verdict or ABSENT, numeric=False),
            *(_to_base(table, base) for base in CONTROLS),
            _to_reference(table),
            Column("NLL", lambda cell: _number(cell.nll, ".3f")),
            Column("ECE %", lambda cell: _number(None if cell.ece is None else 100 * cell.ece, ".2f")),
            Column(STEP, lambda cell: _number(cell.cost, ".2f")),
            Column(EXTRA, lambda cell: str(cell.extra) if cell.extra else ABSENT),
        ]
    cells = list(table.cells.values())
    return [
        column
        for column in found
        if column.title == SELECTED or any(column.text(cell) not in (ABSENT, "") for cell in cells)
    ]


def ours(cell: PaperCell) -> str:
    """Our mean ± standard deviation and the number of trials, of how many where some are missing."""
    if cell.mean is None:
        return f"none of {len(cell.missing)} finished" if cell.missing else ABSENT
    return f"{mean_std(cell.mean, cell.std)} ({_trials(cell)})"


def mean_std(mean: float, std: float | None) -> str:
    """A mean and, if there is one, its standard deviation.

    >>> mean_std(90.256, 0.331), mean_std(90.256, None)
    ('90.26 ± 0.33', '90.26')
    """
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def printed(value: Value | None) -> str:
    """A value of the paper, marked if it is not to be compared with."""
    if value is None:
        return ABSENT
    return mean_std(value.mean, value.std) + ("" if value.anchor else f" {words.DOUBTFUL}")


def overview(table: PaperTable) -> tuple[list[str], list[list[str]]]:
    """The paper's own layout: the variants side by side, ours above the printed and the quoted values."""
    rows = []
    for group in table.groups:
        cells = {cell.variant: cell for cell in table.of(group)}
        here = [cells.get(variant) for variant in table.variants]
        rows.append([f"{group}, ours", *(ABSENT if cell is None else _plain_ours(cell) for cell in here)])
        if any(cell and cell.paper for cell in here):
            rows.append([f"{group}, paper", *(printed(cell.paper if cell else None) for cell in here)])
        rows += [
            [f"{quoted.source}, quoted", *(printed(quoted.values.get(name)) for name in table.variants)]
            for quoted in table.recipe.quoted
            if quoted.group == group
        ]
    return ["", *table.variants], rows


def markdown(table: PaperTable) -> str:
    """The paper's layout, a detailed table per group, and the caption, for GitHub."""
    parts = [f"## {_escaped(table.title)}", f"**{_escaped(table.caption[0])}**"]
    if table.fits_a_line:
        parts.append(_grid(*overview(table), [False] + [True] * len(table.variants)))
    shown = columns(table)
    for group in table.groups:
        rows = [[_one_line(column.text(cell)) for column in shown] for cell in table.of(group)]
        parts += [
            f"### {_escaped(group)}",
            _grid([column.title for column in shown], rows, [column.numeric for column in shown]),
        ]
    rest = [f"- {_escaped(place)}: {_escaped(text)}" for place, text in words.beside_the_columns(table)]
    if rest:
        parts.append("\n".join(["And further:", "", *rest]))
    lines = [*table.caption[1:], *table.notes]
    parts.append("\n".join(f"- {_escaped(line)}" for line in lines))
    return "\n\n".join(parts) + "\n"


def as_csv(table: PaperTable) -> str:
    """One line per cell with all digits, then one per quoted value."""
    text = io.StringIO()
    bases = dict.fromkeys(base for cell in table.cells.values() for base in cell.compared)
    fields = [*FIELDS, *(f"{_to(base)}_{name}" for base in bases for name in _OF_COMPARISON)]
    writer = csv.DictWriter(text, fieldnames=fields, lineterminator="\n", restval="")
    writer.writeheader()
    for cell in table.cells.values():
        writer.writerow(_flat(table, cell))
    for quoted in table.recipe.quoted:
        for variant, value in quoted.values.items():
            place = {"group": quoted.group, "variant": variant, "source": f"{quoted.source}, quoted"}
            writer.writerow(_common(table) | place | _printed(value))
    return text.getvalue()


def values(table: PaperTable) -> dict[str, Any]:
    """The table as plain values, for JSON; as in the CSV all but counts, costs and NLL are fractions."""
    return {
        "recipe": table.recipe.name,
        "title": table.title,
        "budget": table.budget,
        "paper_protocol": table.follows_the_paper,
        "metric": table.recipe.metric,
        "cells": [_nested(table, cell) for cell in table.cells.values()],
        "quoted": [
            {"source": quoted.source, "group": quoted.group, "variant": variant, **_printed(value)}
            for quoted in table.recipe.quoted
            for variant, value in quoted.values.items()
        ],
        "agreement": words.agreement(table),
        "caption": list(table.caption),
        "notes": list(table.notes),
    }


@dataclass(frozen=True)
class Terminal:
    """A table that fits the console it is printed on: readable at 80 columns, complete from `WIDE` on."""

    table: PaperTable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Title, a table per group, caption."""
        table, wide = self.table, options.max_width >= WIDE
        yield Text(table.title, style="bold")
        yield Text(table.caption[0], style="bold yellow" if table.reduced else "")
        yield _rich(table, wide)
        for quoted in table.recipe.quoted:
            told = ", ".join(f"{name} {printed(value)}" for name, value in quoted.values.items())
            yield Text(f"{quoted.group}, {quoted.source}, quoted: {told}")
        for place, text in words.beside_the_columns(table):
            yield Text(f"{place}: {text}")
        yield Group(*(Text(line, style="dim") for line in (*table.caption[1:], *table.notes)))


def _rich(table: PaperTable, wide: bool) -> RichTable:
    """The cells of all groups; verdicts stand below what they are on, calibration and cost give way to little room."""
    left_out = () if table.recipe.search else (VERDICT,) if wide else (VERDICT, "NLL", "ECE %", STEP, EXTRA)
    kept = [column for column in columns(table) if column.title not in left_out]
    rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in kept:
        title = column.title.replace(", ", ",\n").replace("extra ", "extra\n").replace(" ×", "\n×")
        rich.add_column(
            Text(title),
            justify="right" if column.numeric else "left",
            no_wrap=column.title != VARIANT,
            overflow="fold" if column.title == VARIANT else "ellipsis",
            min_width=12 if column.title == VARIANT else None,
            max_width=(20 if wide else 14) if column.title == VARIANT else None,
        )
    for group in table.groups:
        rich.add_section()
        rich.add_row(Text(group, style="bold"))
        for cell in table.of(group):
            rich.add_row(*(_rich_cell(column, cell, wide) for column in kept))
    return rich


def _rich_cell(column: Column, cell: PaperCell, wide: bool) -> Text:
    text = column.text(cell)
    if column.title == VARIANT:
        return Text(text)
    if column.title == PAPER and cell.verdict:
        text += f"\n{cell.verdict}"
    if column.title.startswith("ours"):
        text = text.replace(" (", "\n(").replace("none of ", "none of\n")
    if column.title.startswith("Δ"):
        for verdict, short in _SHORT.items():
            text = text.replace(verdict, short)
        text = text if wide else text.replace(" [", "\n[")
    shown = Text(text)  # not markup: rich would read the brackets of an interval
    for word, colour in _COLOURS.items():
        shown.highlight_words([word], style=colour)
    return shown


def _to_base(table: PaperTable, base: str) -> Column:
    return Column(f"Δ to {table.label(base)}", lambda cell: _difference(cell.compared.get(base)))


def _to_reference(table: PaperTable) -> Column:
    """Differences to what the recipe names; where that is not the same for all, each says to what."""
    bases = {found.base for cell in table.cells.values() if (found := cell.compared.get(REFERENCE))}
    title = f"Δ to {bases.pop()}" if len(bases) == 1 else ITS_REFERENCE
    return Column(title, lambda cell: _difference(cell.compared.get(REFERENCE), named=title == ITS_REFERENCE))


def _difference(comparison: Comparison | None, named: bool = False) -> str:
    """Two lines: the difference with its interval; the corrected p-value and what it allows to say."""
    if comparison is None:
        return ABSENT
    told = [text for text in (p_value(comparison.p_holm), comparison.verdict) if text]
    base = f"to {comparison.base}: " if named else ""
    return f"{base}{points(comparison.test.interval)}\n{', '.join(told)}"


def _plain_ours(cell: PaperCell) -> str:
    return ABSENT if cell.mean is None else mean_std(cell.mean, cell.std)


def _trials(cell: PaperCell) -> str:
    return f"{cell.trials} of {cell.trials + len(cell.missing)}" if cell.missing else str(cell.trials)


def _value(table: PaperTable, cell: PaperCell) -> Any:
    """The value of the setting that is searched."""
    return cell.settings.get(table.recipe.search.setting) if table.recipe.search else None


def _number(value: float | None, form: str) -> str:
    return ABSENT if value is None else format(value, form)


def _common(table: PaperTable) -> dict[str, Any]:
    return {
        "recipe": table.recipe.name,
        "budget": table.budget,
        "paper_protocol": table.follows_the_paper,
        "metric": table.recipe.metric,
        "part": table.recipe.judged_on,
    }


def _flat(table: PaperTable, cell: PaperCell) -> dict[str, Any]:
    nested = _nested(table, cell)
    flat = {name: value for name, value in nested.items() if name != "compared"}
    for base, comparison in nested["compared"].items():
        flat |= {f"{_to(base)}_{name}": value for name, value in comparison.items()}
    settings = "; ".join(f"{name}={value}" for name, value in nested["settings"].items())
    return _common(table) | flat | {"settings": settings, "missing": "; ".join(cell.missing)}


def _nested(table: PaperTable, cell: PaperCell) -> dict[str, Any]:
    plain = (str, int, float, bool, type(None))
    return {
        "source": "ours",
        "group": cell.group,
        "variant": cell.variant,
        "method": cell.method,
        "settings": {
            name: value if isinstance(value, plain) else str(value) for name, value in cell.settings.items()
        },
        "trials": cell.trials,
        "missing": list(cell.missing),
        "mean": _fraction(cell.mean),
        "std": _fraction(cell.std),
        **_printed(cell.paper),
        "paper_verdict": cell.verdict,
        "why": cell.why,
        "compared": {base: _comparison(comparison) for base, comparison in cell.compared.items()},
        "nll": cell.nll,
        "ece": cell.ece,
        "cost": cell.cost,
        "extra": cell.extra,
        "selected": cell.selected if table.recipe.search else None,
    }


def _printed(value: Value | None) -> dict[str, Any]:
    return {
        "paper_mean": _fraction(value.mean) if value else None,
        "paper_std": _fraction(value.std) if value else None,
        "paper_anchor": value.anchor if value else None,
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    ends = {name: _fraction(getattr(comparison.test, name)) for name in ("estimate", "low", "high")}
    return ends | {
        "base": comparison.base,
        "p": comparison.p,
        "p_holm": comparison.p_holm,
        "pairs": comparison.pairs,
        "verdict": comparison.verdict,
    }


def _to(base: str) -> str:
    """What the columns of a comparison begin with."""
    return f"to_{base.replace('-', '_').replace('+', '_')}"


def _fraction(percent: float | None) -> float | None:
    # Rounded, lest 1.17 % become 0.011699999999999999.
    return None if percent is None else round(percent / 100, 12)


def _grid(titles: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    align = ["---:" if right else "---" for right in numeric]
    lines = [
        [_escaped(title) for title in titles],
        align,
        *([_escaped(text) for text in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _one_line(text: str) -> str:
    return "; ".join(text.split("\n"))


def _escaped(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    plain = " ".join(text.split())
    for character in "\\`*_<>|#":
        plain = plain.replace(character, f"\\{character}")
    return plain
