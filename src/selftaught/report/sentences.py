"""The sentences of a report: templates/sentences.j2 has their words, here are the facts that they are chosen by."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from selftaught.errors import shown as printable
from selftaught.files import evidence
from selftaught.files.results import Record
from selftaught.report import balance, facts
from selftaught.report.columns import Column, columns
from selftaught.report.learning import Learning, learning
from selftaught.report.numbers import p_value, percent, points
from selftaught.report.table import Cell, Table
from selftaught.statistics.verdicts import CLEAR, LEVEL, Difference

_QUESTION = ("ce", "ls", "le-uniform", "le-permut")
"""What LE stands or falls with: does it help, more than label smoothing does, and is it the explanations?"""

_VERDICTS = ("better", "worse", "no clear difference", "one seed: no verdict")


def listed(names: Sequence[str]) -> str:
    """Several names as in a sentence: one, two and three."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


@cache
def _templates() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("selftaught.report"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"clear": CLEAR, "level": LEVEL}
    environment.filters |= {
        "count_of": "{:,}".format,
        "listed": listed,
        "p": p_value,
        "percent": percent,
        "points": lambda interval: points(interval, 100),
        "shown": printable,
    }
    return environment.get_template("sentences.j2").module


def _lines(name: str, *values: Any) -> list[str]:
    """The sentences that a macro makes of these values, one a line."""
    text = getattr(_templates(), name)(*values)
    return [line for raw in text.split("\n") if (line := " ".join(raw.split()))]


def say(name: str, *values: Any) -> str:
    """The sentence that a macro makes of these values; empty where there is nothing to say."""
    return " ".join(_lines(name, *values))


def caption(table: Table, shown: Sequence[Column] | None = None) -> list[str]:
    """What the reader must know of a table and its columns that are shown, the budget first where there is one."""
    found = {**facts.of_trials(table), **facts.of_comparisons(table), **facts.of_printed(table)}
    found |= {
        "captions": [c.caption for c in shown or columns(table) if c.caption and c.is_filled(table)],
        "guessing": guessing(table) if table.is_comparison else None,
        "soft_labels": soft_labels(table),
    }
    return _lines("caption", table, found)


def headline(table: Table) -> str:
    """The answer to "did it help?", for accuracy, in one sentence without its full stop."""
    return say("headline", table, {"parts": list(_clauses(table))})


def _clauses(table: Table) -> Iterator[dict[str, Any]]:
    """Which methods are how against which, the clear verdicts first; the linear probe was not asked for."""
    found = [
        (cell.variant, one)
        for cell in table.contestants
        if (one := cell.compared.get(table.baseline)) is not None
    ]
    further = [(c.variant, base, one) for c, rest in table.beside_the_columns() for base, one in rest]
    # Once is enough to be told that one seed is too few.
    further = [item for item in further if item[2].p is not None or not found]
    first = True
    for verdict in _VERDICTS:
        methods = [name for name, one in found if one.verdict == verdict]
        if methods:
            yield _clause(verdict, methods, [table.baseline], " in accuracy", first)
            first = False
    for verdict in _VERDICTS:
        bases = [base for _, base, one in further if one.verdict == verdict]
        if bases:
            yield _clause(verdict, [further[0][0]], bases, "" if found else " in accuracy", first)
            first = False


def _clause(
    verdict: str, methods: Sequence[str], bases: Sequence[str], in_what: str, first: bool
) -> dict[str, Any]:
    return {"verdict": verdict, "methods": methods, "bases": bases, "in_what": in_what, "first": first}


def findings(table: Table) -> list[tuple[str, str, str]]:
    """For each compared method of a comparison its name, its verdict, and its differences in words."""
    made = []
    for cell in table.cells.values():
        own = cell.compared.get(table.baseline)
        rest = [(name, one) for name, one in cell.compared.items() if name != table.baseline]
        if not cell.compared:
            continue
        parts = [say("finding", table.baseline, own, "accuracy", True)] if own else []
        if rest:
            told = say("against", rest, "accuracy")
            parts.append(told[:1].upper() + told[1:])
        verdict = own.verdict if own else f"not compared with {table.baseline}"
        made.append((cell.variant, verdict, " ".join(parts)))
    return made


def calibration(table: Table) -> str:
    """How well calibrated the methods of a comparison are, in one sentence for all of them."""
    scaled = next((column for column in columns(table) if column.key == "ece_scaled"), None)
    rows = [
        (cell.variant, cell.ece, scaled.value(table, cell) if scaled else None)
        for cell in table.cells.values()
        if cell.ece is not None
    ]
    return say("calibration", rows if len(rows) > 1 else [])


def cautions(table: Table, sizes: np.ndarray | None = None) -> list[str]:
    """What to keep in mind before believing a comparison, and what would make it clearer.

    Args:
        table: of a comparison.
        sizes: test images of each class, int64 (C,); None where the runs kept no predictions to count them from.
    """
    found = facts.of_doubts(table)
    found |= {"guessing": guessing(table, sizes), "soft_labels": soft_labels(table)}
    return _lines("cautions", found)


def guessing(table: Table, sizes: np.ndarray | None = None) -> dict[str, Any] | None:
    """What is to be said where no method does better than one that looks at no image."""
    records = table.records
    best = max((cell.accuracy for cell in table.contestants), default=0.0)
    known = evidence.class_sizes(records) if sizes is None else sizes
    return facts.guessing(best, records[0].result.data.classes, known) if records else None


def soft_labels(table: Table) -> list[dict[str, Any]]:
    """The cells whose explanations say too little to learn from, and what they say."""
    if table.recipe.search is not None:
        return []
    found = (
        facts.soft_labels(
            cell.records, cell.variant if table.is_comparison else f"{cell.group}, {cell.variant}"
        )
        for cell in table.cells.values()
    )
    return [one for one in found if one is not None]


def soft_labels_of(records: Sequence[Record], name: str) -> str:
    """What to say of the explanations of runs that were trained alike; empty where they say enough."""
    found = facts.soft_labels(records, name)
    return say("soft_labels", found) if found else ""


def classes(found: Mapping[str, Iterable[Any]], names: Sequence[str]) -> str:
    """Why accuracy alone would mislead, in one sentence; empty where it does not.

    Args:
        found: what the trials of each method say of the classes (`selftaught.files.evidence.Classes`).
        names: of the classes.
    """
    return say("classes", balance.of_classes(found, names))


def sizes(images: Sequence[int] | np.ndarray, names: Sequence[str], part: str) -> str:
    """How uneven classes are, in words; empty where they are not.

    >>> sizes([52, 12, 40], ["t-shirt", "hat", "bag"], "test")
    't-shirt has 52 of 104 test images, hat 12'
    """
    found = balance.uneven(images, names)
    return say("sizes", found, part) if found else ""


def remarks(table: Table) -> list[str]:
    """What is to be known before the numbers of a comparison are looked at."""
    if not table.is_comparison:
        return []
    found = {cell.variant: cell.classes for cell in table.cells.values()}
    names = table.records[0].result.data.classes
    told = [classes(found, names), say("fine_tuning", facts.fine_tuning(table))]
    more = learning(table.records)
    return [line for line in (*told, *([more_images(more)] if more else [])) if line]


def more_images(found: Learning) -> str:
    """What the points of the linear probe say, and what another doubling may bring."""
    return say("more_images", facts.more_images(found))


def further(table: Table) -> list[tuple[str, str]]:
    """For every cell its place, and the comparisons that have no column."""
    return [_told(table, cell, rest) for cell, rest in table.beside_the_columns()]


def about_le(table: Table) -> list[tuple[str, str]]:
    """For every cell of LE its place, and how it compares with all that it is compared with."""
    return [
        _told(table, cell, [(cell.bases[name], one) for name, one in cell.compared.items()])
        for cell in table.cells.values()
        if cell.method == "le" and cell.compared
    ]


def _told(table: Table, cell: Cell, found: Sequence[tuple[str, Difference]]) -> tuple[str, str]:
    place = cell.variant if table.is_comparison else f"{cell.variant}, {cell.group}"
    return place, say("against", found, table.recipe.metric)


def agreement(table: Table) -> str:
    """How many printed values ours agree with, in one sentence; empty where nothing is printed or nothing was run."""
    return say("agreement", facts.of_agreement(table))


def lead(tables: Sequence[Table], budget: str) -> str:
    """The answer to "is it as in the paper?" in one sentence."""
    cells = [cell for table in tables for cell in table.cells.values()]
    # A value that several tables show counts once.
    distinct = {(cell.group, cell.runs, cell.paper): cell.verdict for cell in cells}
    judged = [verdict for verdict in distinct.values() if verdict not in ("", "not comparable")]
    return say("lead", budget, judged)


def le_in_short(tables: Sequence[Table]) -> str:
    """Whether LE beats CE, label smoothing and its controls, over all tables in one sentence; empty without LE.

    A cell that is in several tables counts once, with the least that any of them allows to say. Tables on held-out
    images count where there are no others.
    """
    tested = [table for table in tables if table.recipe.judged_on == "test"]
    counted = tested or list(tables)
    parts = []
    for method in _QUESTION:
        found: dict[frozenset[str], set[str]] = {}
        for table in counted:
            for cell in table.cells.values():
                one = cell.compared.get(method)
                if cell.method == "le" and one is not None and one.p is not None:
                    found.setdefault(cell.runs, set()).add(one.verdict)
        if found:
            label = next((t.label(method) for t in counted if t.label(method) != method), method)
            clear = {verdict: sum(said == {verdict} for said in found.values()) for verdict in CLEAR}
            worse = f" (and is worse in {clear['worse']})" if clear["worse"] else ""
            cells = f"{len(found)} cell{'s' if len(found) > 1 else ''}"
            parts.append(f"{label} in {clear['better']} of {cells}{worse}")
    reduced = sorted({table.budget for table in counted if table.reduced})
    where = "" if tested else "on held-out images "
    return say("le_in_short", {"parts": parts, "reduced": reduced, "where": where})


def clear_differences(tables: Sequence[Table]) -> str:
    """What differs clearly in tables without LE, in one sentence; empty where the paper has their numbers."""
    if any(table.recipe.paper or table.recipe.search for table in tables):
        return ""
    cells = [cell for table in tables for cell in table.cells.values()]
    tested = [(c, c.bases[n], one) for c in cells for n, one in c.compared.items() if one.p is not None]
    return say(
        "clear_differences", {"tested": tested, "differing": [item for item in tested if item[2].is_clear]}
    )
