"""A table as Markdown, as CSV, for the terminal, and as plain values."""

import csv
import io
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from selftaught.report.tables import Row, Table

ABSENT = "–"
VERDICT = 3
"""The column that says what the interval allows to say."""


def headers(table: Table) -> list[str]:
    """The column titles of what people read."""
    return ["method", "accuracy %", f"difference to {table.baseline}", "verdict", "NLL", "ECE %", "step × ce"]


def cells(row: Row) -> list[str]:
    """A row as people read it, one text per header."""
    return [
        row.method,
        f"{100 * row.accuracy:.2f}"
        + (f" ± {100 * row.accuracy_std:.2f}" if row.accuracy_std is not None else ""),
        _interval(row),
        row.verdict,
        f"{row.nll:.3f}",
        f"{100 * row.ece:.2f}",
        f"{row.cost:.2f}" if row.cost is not None else ABSENT,
    ]


def markdown(table: Table) -> str:
    """A Markdown table and its caption."""
    lines = [headers(table), ["---"] + ["---:"] * 2 + ["---"] + ["---:"] * 3]
    lines += [cells(row) for row in table.rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n" + "\n".join(table.caption) + "\n"


def as_csv(table: Table) -> str:
    """One line per method with full numbers: fractions, not per cent."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(_flat(table.rows[0], table)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(row, table) for row in table.rows)
    return text.getvalue()


def terminal(table: Table) -> Group:
    """The table and its caption for a terminal of 80 columns: the verdict stands below the interval."""
    titles = headers(table)
    rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in (*titles[:VERDICT], *titles[VERDICT + 1 :]):
        rich.add_column(title, justify="left" if title == titles[0] else "right", no_wrap=True)
    for row in table.rows:
        texts = cells(row)
        verdict = texts.pop(VERDICT)
        if verdict:
            texts[VERDICT - 1] += f"\n{verdict}"
        # Text, because rich would read the brackets of an interval as markup.
        rich.add_row(*map(Text, texts))
    return Group(rich, *(Text(line, style="dim") for line in table.caption))


def values(table: Table) -> dict[str, Any]:
    """The table as plain values, for JSON."""
    return {
        "baseline": table.baseline,
        "rows": [_nested(row) for row in table.rows],
        "caption": list(table.caption),
    }


def _interval(row: Row) -> str:
    if row.difference is None:
        return ABSENT
    points = (100 * row.difference.estimate, 100 * row.difference.low, 100 * row.difference.high)
    return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*points)


def _nested(row: Row) -> dict[str, Any]:
    interval = row.difference
    difference = interval and {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    return asdict(row) | {"difference": difference, "verdict": row.verdict}


def _flat(row: Row, table: Table) -> dict[str, Any]:
    values = _nested(row)
    difference = values["difference"] or {"estimate": None, "low": None, "high": None}
    return {
        **{name: values[name] for name in ("method", "trials", "accuracy", "accuracy_std", "pairs")},
        "baseline": table.baseline,
        **{f"difference_{name}": number for name, number in difference.items()},
        **{name: values[name] for name in ("verdict", "nll", "ece", "cost")},
    }
