"""A table as Markdown, as CSV, for the terminal, and as plain values."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from selftaught.report.differences import Difference
from selftaught.report.numbers import p_value, points
from selftaught.report.tables import Row, Table

ABSENT = "–"
DIFFERENCE, P_VALUE, VERDICT = 2, 3, 4
"""The columns of the difference, of its p-value, and of what that allows to say."""
SCALED = "ECE % scaled"
"""The column of the ECE after temperature scaling."""

STEP = "step × ce"
"""The column of the cost."""

_FIELDS = (
    *("method", "trials", "accuracy", "accuracy_std", "pairs", "baseline"),
    *("difference_estimate", "difference_low", "difference_high", "p", "verdict"),
    *("nll", "ece", "nll_scaled", "ece_scaled", "cost"),
)
"""The columns of the CSV."""

NARROW = {SCALED: "ECE %\nscaled", STEP: "step\n× ce"}
"""Titles that take two lines on a terminal."""


def headers(table: Table) -> list[str]:
    """The column titles of what people read; what no row has is left out."""
    return _headers(table.baseline, _has_scaled(table))


def cells(row: Row, table: Table) -> list[str]:
    """A row of `table` as people read it, one text per header."""
    scaled = [_percent(row.ece_scaled)] if _has_scaled(table) else []
    return [
        row.method,
        f"{100 * row.accuracy:.2f}"
        + (f" ± {100 * row.accuracy_std:.2f}" if row.accuracy_std is not None else ""),
        *_difference(row.difference),
        f"{row.nll:.3f}",
        _percent(row.ece),
        *scaled,
        f"{row.cost:.2f}" if row.cost is not None else ABSENT,
    ]


def markdown(table: Table) -> str:
    """A Markdown table and its caption."""
    titles = headers(table)
    align = ["---" if column in (0, VERDICT) else "---:" for column in range(len(titles))]
    lines = [titles, align, *(cells(row, table) for row in table.rows)]
    text = "".join(f"{_line(line)}\n" for line in lines)
    return text + "\n" + "".join(f"{' '.join(line.split())}\n" for line in table.caption)


def as_csv(table: Table) -> str:
    """One line per method with full numbers: fractions, not per cent."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=_FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(row, table) for row in table.rows)
    return text.getvalue()


def terminal(table: Table) -> Group:
    """The table and its caption for a terminal of 80 columns: p-value and verdict stand below the interval."""
    titles = headers(table)
    rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in (*titles[:P_VALUE], *titles[VERDICT + 1 :]):
        rich.add_column(
            Text(NARROW.get(title, title)), justify="left" if title == titles[0] else "right", no_wrap=True
        )
    for row in table.rows:
        texts = cells(row, table)
        del texts[P_VALUE : VERDICT + 1]
        if row.difference is not None:
            below = p_value(row.difference.p), row.difference.verdict
            texts[DIFFERENCE] = "\n".join(filter(None, (texts[DIFFERENCE], *below)))
        # Text, because rich would read the brackets of an interval as markup.
        rich.add_row(*map(Text, texts))
    return Group(rich, *(Text(line, style="dim") for line in table.caption))


def values(table: Table) -> dict[str, Any]:
    """The table as plain values, for JSON."""
    return {
        "baseline": table.baseline,
        "comparisons": len(table.planned),
        "rows": [_nested(row) for row in table.rows],
        "further": [{"method": one.method, "base": one.base, **_compared(one)} for one in table.further],
        "caption": list(table.caption),
    }


def begins_table(text: str, suffix: str) -> bool:
    """Whether a text begins as what `markdown` (``.md``) or `as_csv` (``.csv``) writes: with all of the header."""
    first = text.partition("\n")[0]
    if suffix == ".csv":
        return first == ",".join(_FIELDS)
    # Whatever the baseline is called.
    ends = [_line(_headers("\0", scaled)).split("\0") for scaled in (False, True)]
    return any(first.startswith(before) and first.endswith(after) for before, after in ends)


def _headers(baseline: str, scaled: bool) -> list[str]:
    middle = ["accuracy %", f"difference to {baseline}", "p", "verdict", "NLL", "ECE %"]
    return ["method", *middle, *([SCALED] if scaled else []), STEP]


def _line(texts: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(_plain, texts))} |"


def _difference(one: Difference | None) -> tuple[str, str, str]:
    """Difference with interval, p-value and verdict."""
    if one is None:
        return ABSENT, ABSENT, ""
    return points(one.interval, 100), p_value(one.p).removeprefix("p ") or ABSENT, one.verdict


def _percent(share: float | None) -> str:
    return ABSENT if share is None else f"{100 * share:.2f}"


def _has_scaled(table: Table) -> bool:
    return any(row.ece_scaled is not None for row in table.rows)


def _plain(text: str) -> str:
    """A text as a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def _nested(row: Row) -> dict[str, Any]:
    return asdict(row) | _compared(row.difference)


def _compared(one: Difference | None) -> dict[str, Any]:
    """A difference as plain values; without one there is nothing to say."""
    if one is None:
        return {"pairs": 0, "difference": None, "p": None, "verdict": ""}
    return {"pairs": one.pairs, "difference": one.interval._asdict(), "p": one.p, "verdict": one.verdict}


def _flat(row: Row, table: Table) -> dict[str, Any]:
    values = _nested(row)
    difference = values["difference"] or {}
    values |= {f"difference_{name}": difference.get(name) for name in ("estimate", "low", "high")}
    return {name: table.baseline if name == "baseline" else values[name] for name in _FIELDS}
