"""A table for a terminal: readable at 80 columns, complete where there is more room."""

from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text as RichText

from selftaught.report import sentences
from selftaught.report.columns import LABEL, Column, Text, columns, printed
from selftaught.report.table import Cell, Table

WIDE = 118
"""Columns of a terminal from which on nothing is left out."""

_SHORT = {"no clear difference": "unclear", "one seed: no verdict": "one seed"}
"""Verdicts for narrow columns."""

_COLOURS = {"better": "green", "worse": "red", "agrees": "green"}


@dataclass(frozen=True)
class Terminal:
    """A table that fits the console it is printed on."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The answer, the table, what goes beside it, the caption."""
        table, wide = self.table, options.max_width >= WIDE
        caption = sentences.caption(table)
        if table.is_comparison:
            yield RichText(f"{sentences.headline(table)}.", style="bold")
        else:
            yield RichText(table.title, style="bold")
            yield RichText(caption.pop(0), style="bold yellow" if table.reduced else "")
        for line in sentences.remarks(table):
            yield RichText(line)
        yield _rich(table, wide)
        for quoted in table.recipe.quoted:
            told = ", ".join(f"{name} {printed(value)}" for name, value in quoted.values.items())
            yield RichText(f"{quoted.group}, {quoted.source}, quoted: {told}")
        for place, text in sentences.further(table):
            yield RichText(f"{place}: {text}")
        for line in (*caption, *table.recipe.notes):
            yield RichText(line, style="dim")


def _rich(table: Table, wide: bool) -> RichTable:
    """The cells of all groups; what has little room stands below what it belongs to, or is left out of many groups."""
    every = columns(table)
    keys = {column.key for column in every}
    below = [column for column in every if column.under in keys]
    kept = [c for c in every if c not in below and (wide or c.needed or table.is_comparison)]
    rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in kept:
        label = column.key == LABEL and not table.is_comparison
        under = [one.narrow or one.title for one in below if one.under == column.key]
        rich.add_column(
            RichText("\n".join([column.narrow or column.title, *under])),
            justify="right" if column.numeric else "left",
            no_wrap=not label,
            overflow="fold" if label else "ellipsis",
            min_width=12 if label else None,
            max_width=(20 if wide else 14) if label else None,
        )
    for group in table.groups:
        if not table.is_comparison:
            rich.add_section()
            rich.add_row(RichText(group, style="bold"))
        for cell in table.of(group):
            rich.add_row(*(_cell(table, column, below, cell, wide) for column in kept))
    return rich


def _cell(table: Table, column: Column, below: list[Column], cell: Cell, wide: bool) -> RichText:
    text = column.text(table, cell)
    lines = [*_lines(table, column, text, wide)]
    for one in below:
        if one.under == column.key:
            lines.append(one.text(table, cell).line)
    shown = RichText("\n".join(lines))  # not markup: rich would read the brackets of an interval
    if text.look:
        shown.highlight_words([text.look], style=_COLOURS.get(text.look, ""))
    return shown


def _lines(table: Table, column: Column, text: Text, wide: bool) -> list[str]:
    if table.is_comparison:  # there is one column of differences: its interval fits a line
        return [text.line, *column.below(text)]
    short = [_SHORT.get(word, word) for word in column.below(text)]
    first = [text.line] if wide and column.parts else list(filter(None, (text.first, text.beside)))
    return [*first, *([", ".join(short)] if short else [])]
