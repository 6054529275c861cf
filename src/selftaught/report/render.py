"""A table as Markdown, as CSV, for the terminal, and as plain values."""

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from selftaught.report.differences import Difference
from selftaught.report.numbers import duration, p_value, points
from selftaught.report.tables import Row, Table

ABSENT = "–"
P_VALUE, VERDICT = "p", "verdict"
"""The columns of the p-value of the difference, and of what that allows to say."""

SCALED = "ECE % scaled"
"""The column of the ECE after temperature scaling."""

STEP, TIME = "step × ce", "time"
"""The columns of the cost: of a step, and of a trial."""

_ACCURACY, _BALANCED, _F1, _TOP5 = "accuracy %", "balanced %", "macro F1 %", "top-5 %"

_FIELDS = (
    *("method", "trials", "accuracy", "accuracy_std", "pairs", "baseline"),
    *("difference_estimate", "difference_low", "difference_high", "p", "verdict"),
    *("nll", "ece", "nll_scaled", "ece_scaled", "cost"),
)
_LATER_FIELDS = ("balanced_accuracy", "balanced_accuracy_std", "macro_f1", "top5_accuracy", "seconds")
"""The columns of the CSV; older versions wrote the first ones alone."""

_NARROW = {
    _BALANCED: "balanced",
    _F1: "macro F1",
    _TOP5: "top-5",
    SCALED: "ECE %\nscaled",
    STEP: "step\n× ce",
}
"""What titles are on a terminal, where there is little room."""

_BELOW = {_BALANCED: _ACCURACY, _F1: _ACCURACY, _TOP5: _ACCURACY, TIME: STEP}
"""Columns that stand below others on a terminal."""


@dataclass(frozen=True)
class _Optional:
    """Which of the columns there are that not every table has."""

    classes: bool
    top5: bool
    scaled: bool
    time: bool


def headers(table: Table, page: bool = False) -> list[str]:
    """The column titles of what people read; what no row has, or what says no more than others, is left out.

    Args:
        table: the table.
        page: whether there is room for macro F1 in any case.
    """
    return _titles(table.baseline, _optional(table), page)


def cells(row: Row, table: Table, page: bool = False) -> list[str]:
    """A row of `table` as people read it, one text per header."""
    difference, p, verdict = _difference(row.difference)
    texts = {
        "method": row.method,
        _ACCURACY: _with_std(row.accuracy, row.accuracy_std),
        _BALANCED: _with_std(row.balanced_accuracy, row.balanced_accuracy_std),
        _F1: _percent(row.macro_f1),
        _TOP5: _percent(row.top5_accuracy),
        _to(table.baseline): difference,
        P_VALUE: p,
        VERDICT: verdict,
        "NLL": f"{row.nll:.3f}",
        "ECE %": _percent(row.ece),
        SCALED: _percent(row.ece_scaled),
        STEP: f"{row.cost:.2f}" if row.cost is not None else ABSENT,
        TIME: duration(row.seconds) if row.seconds is not None else ABSENT,
    }
    return [texts[title] for title in headers(table, page)]


def markdown(table: Table) -> str:
    """A Markdown table, what is to be known before it is read, and its caption."""
    titles = headers(table)
    align = ["---" if title in ("method", VERDICT) else "---:" for title in titles]
    lines = [titles, align, *(cells(row, table) for row in table.rows)]
    text = "".join(f"{_line(line)}\n" for line in lines)
    return text + "\n" + "".join(f"{' '.join(line.split())}\n" for line in (*first(table), *table.caption))


def first(table: Table) -> tuple[str, ...]:
    """What people are told before the numbers."""
    return (*table.remarks, *([table.learning.sentence] if table.learning else []))


def as_csv(table: Table) -> str:
    """One line per method with full numbers: fractions, not per cent."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=(*_FIELDS, *_LATER_FIELDS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(row, table) for row in table.rows)
    return text.getvalue()


def terminal(table: Table) -> Group:
    """The table for a terminal of 80 columns, between what is to be known before it is read and its caption.

    P-value and verdict stand below the interval, other accuracies below the accuracy, a trial's time below a step's.
    """
    titles = headers(table)
    lines = [dict(zip(titles, cells(row, table), strict=True)) for row in table.rows]
    for row, texts in zip(table.rows, lines, strict=True):
        if row.difference is not None:
            below = p_value(row.difference.p), row.difference.verdict
            to = _to(table.baseline)
            texts[to] = "\n".join(filter(None, (texts[to], *below)))
    named = {title: _NARROW.get(title, title) for title in titles if title not in (P_VALUE, VERDICT)}
    for title, above in _BELOW.items():
        for texts in (named, *lines):
            if title in named:
                texts[above] += f"\n{texts[title]}"
    rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    shown = [title for title in named if title not in _BELOW]
    for title in shown:
        justify: Literal["left", "right"] = "left" if title == titles[0] else "right"
        rich.add_column(Text(named[title]), justify=justify, no_wrap=True)
    for texts in lines:
        # Text, because rich would read the brackets of an interval as markup.
        rich.add_row(*(Text(texts[title]) for title in shown))
    return Group(*map(Text, first(table)), rich, *(Text(line, style="dim") for line in table.caption))


def values(table: Table) -> dict[str, Any]:
    """The table as plain values, for JSON."""
    return {
        "baseline": table.baseline,
        "comparisons": len(table.planned),
        "rows": [_nested(row) for row in table.rows],
        "further": [{"method": one.method, "base": one.base, **_compared(one)} for one in table.further],
        "remarks": list(first(table)),
        "learning": [asdict(point) for point in table.learning.points] if table.learning else [],
        "caption": list(table.caption),
    }


def begins_table(text: str, suffix: str) -> bool:
    """Whether a text begins as what `markdown` (``.md``) or `as_csv` (``.csv``) writes: with all of the header."""
    begin = text.partition("\n")[0]
    if suffix == ".csv":
        return begin in (",".join(_FIELDS), ",".join((*_FIELDS, *_LATER_FIELDS)))
    # Whatever the baseline is called.
    every = (_Optional(*which) for which in itertools.product((False, True), repeat=4))
    ends = [_line(_titles("\0", optional)).split("\0") for optional in every]
    return any(begin.startswith(before) and begin.endswith(after) for before, after in ends)


def _optional(table: Table) -> _Optional:
    return _Optional(
        classes=table.uneven,
        top5=any(row.top5_accuracy is not None for row in table.rows),
        scaled=any(row.ece_scaled is not None for row in table.rows),
        time=table.has_probe,
    )


def _titles(baseline: str, has: _Optional, page: bool = False) -> list[str]:
    wanted = {
        "method": True,
        _ACCURACY: True,
        _BALANCED: has.classes,
        _F1: has.classes or page,
        _TOP5: has.top5,
        _to(baseline): True,
        P_VALUE: True,
        VERDICT: True,
        "NLL": True,
        "ECE %": True,
        SCALED: has.scaled,
        STEP: True,
        TIME: has.time,
    }
    return [title for title, there in wanted.items() if there]


def _to(baseline: str) -> str:
    return f"difference to {baseline}"


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


def _with_std(share: float | None, std: float | None) -> str:
    return _percent(share) + (f" ± {100 * std:.2f}" if std is not None else "")


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
    values["baseline"] = table.baseline
    return {name: values[name] for name in (*_FIELDS, *_LATER_FIELDS)}
