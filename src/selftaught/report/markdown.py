"""A table as Markdown."""

import re
from collections.abc import Callable, Sequence

from selftaught.report import sentences
from selftaught.report.columns import printed, score, shown
from selftaught.report.table import Table


def markdown(table: Table) -> str:
    """The paper's layout, a detailed table per group, and the caption, for GitHub; of a comparison its one table."""
    caption = sentences.caption(table)
    escaped = _without_bars if table.is_comparison else _escaped
    parts = [] if table.is_comparison else [f"## {_escaped(table.title)}", f"**{_escaped(caption.pop(0))}**"]
    if table.fits_a_line:
        parts.append(_grid(*overview(table), [False] + [True] * len(table.variants), escaped))
    columns = shown(table)
    for group in table.groups:
        parts += [] if table.is_comparison else [f"### {_escaped(group)}"]
        rows = [
            ["; ".join(filter(None, column.texts[cell.group, cell.variant][:2])) for column in columns]
            for cell in table.of(group)
        ]
        titles, numeric = ([getattr(one, name) for one in columns] for name in ("title", "numeric"))
        parts.append(_grid(titles, rows, numeric, escaped))
    further = [f"- {escaped(place)}: {escaped(text)}" for place, text in sentences.further(table)]
    if further:
        parts.append("\n".join(["And further:", "", *further]))
    lines = [*sentences.remarks(table), *caption, *table.recipe.notes]
    parts.append("\n".join(f"- {escaped(line)}" for line in lines))
    return "\n\n".join(parts) + "\n"


def overview(table: Table) -> tuple[list[str], list[list[str]]]:
    """The paper's own layout: the variants side by side, ours above the printed and the quoted values."""
    rows = []
    for group in table.groups:
        cells = {cell.variant: cell for cell in table.of(group)}
        here = [cells.get(variant) for variant in table.variants]
        rows.append([f"{group}, ours", *(score(cell) for cell in here)])
        if any(cell and cell.paper for cell in here):
            rows.append([f"{group}, paper", *(printed(cell.paper if cell else None) for cell in here)])
        rows += [
            [f"{quoted.source}, quoted", *(printed(quoted.values.get(name)) for name in table.variants)]
            for quoted in table.recipe.quoted
            if quoted.group == group
        ]
    return ["", *table.variants], rows


def begins_table(text: str) -> bool:
    """Whether a text begins as the table of a comparison does, in this version and in older ones."""
    return bool(
        re.match(r"\| method \| accuracy % \|.* difference to .*\| p \| verdict \| NLL \| ECE % \|", text)
    )


def _grid(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    escaped: Callable[[str], str],
) -> str:
    align = ["---:" if right else "---" for right in numeric]
    lines = [map(escaped, titles), align, *(map(escaped, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _without_bars(text: str) -> str:
    """A text on one line that ends no cell; paths stay as they are, so that an archive finds and shortens them."""
    return " ".join(text.split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    return re.sub(r"[\\`*_<>|#]", r"\\\g<0>", " ".join(text.split()))
