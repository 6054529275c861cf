"""A table as plain values for JSON, and as CSV with all digits.

The keys of comparisons are older than those of recipes, and other programs read both: they keep their names.
"""

import csv
import io
import re
from dataclasses import asdict
from typing import Any

from selftaught.recipes.schema import Value
from selftaught.report import sentences
from selftaught.report.columns import NUMBERS, columns
from selftaught.report.learning import learning as learning_of
from selftaught.report.table import Cell, Table
from selftaught.statistics.verdicts import Difference

_ALWAYS = ("nll", "ece", "cost", "extra")
"""The numbers that stand in the files of a recipe whether they are shown or not."""


def values(table: Table) -> dict[str, Any]:
    """The table as plain values, for JSON; all but counts, costs, times and NLL are fractions."""
    caption = sentences.caption(table)
    if table.is_comparison:
        learning = learning_of(table.records)
        return {
            "baseline": table.baseline,
            "comparisons": len([question for question in table.questions if not question.apart]),
            "rows": [_compared_row(table, cell) for cell in table.cells.values()],
            "further": [
                {"method": cell.variant, "base": base, **_against(one)}
                for cell, rest in table.beside_the_columns()
                for base, one in rest
            ],
            "remarks": sentences.remarks(table),
            "learning": [asdict(point) for point in learning.points] if learning else [],
            "caption": caption,
        }
    return {
        "recipe": table.recipe.name,
        "title": table.title,
        "budget": table.budget,
        "paper_protocol": table.follows_the_paper,
        "metric": table.recipe.metric,
        "cells": [_recipe_cell(table, cell) for cell in table.cells.values()],
        "quoted": [
            {"source": quoted.source, "group": quoted.group, "variant": variant, **_printed(value)}
            for quoted in table.recipe.quoted
            for variant, value in quoted.values.items()
        ],
        "agreement": sentences.agreement(table),
        "caption": caption,
        "notes": list(table.recipe.notes),
    }


def as_csv(table: Table) -> str:
    """One line per cell with all digits, then one per quoted value."""
    if table.is_comparison:
        rows = [
            {**_flat(_compared_row(table, cell)), "baseline": table.baseline} for cell in table.cells.values()
        ]
        return _csv([*OF_COMPARISON, *(key for key in rows[0] if key not in OF_COMPARISON)], rows)
    recipe = table.recipe
    common = {
        "recipe": recipe.name,
        "budget": table.budget,
        "paper_protocol": table.follows_the_paper,
        "metric": recipe.metric,
        "part": recipe.judged_on,
    }
    rows = []
    for cell in table.cells.values():
        nested = _recipe_cell(table, cell)
        compared = nested.pop("compared")
        settings = "; ".join(f"{name}={value}" for name, value in nested["settings"].items())
        row = {**common, **nested, "settings": settings, "missing": "; ".join(cell.missing)}
        rows.append(row | _flat({_prefix(name): one for name, one in compared.items()}))
    for quoted in recipe.quoted:
        place = {"group": quoted.group, "source": f"{quoted.source}, quoted"}
        rows += [{**common, **place, "variant": name, **_printed(v)} for name, v in quoted.values.items()]
    return _csv([*OF_RECIPE, *(key for row in rows for key in row if key not in OF_RECIPE)], rows)


OF_COMPARISON = (
    *("method", "trials", "accuracy", "accuracy_std", "pairs", "baseline"),
    *("difference_estimate", "difference_low", "difference_high", "p", "verdict"),
    *("nll", "ece", "nll_scaled", "ece_scaled", "cost"),
)
OF_RECIPE = (
    *("recipe", "budget", "paper_protocol", "source", "group", "variant", "method", "settings"),
    *("metric", "part", "trials", "missing", "mean", "std", "paper_mean", "paper_std", "paper_anchor"),
    *("paper_verdict", "why", "nll", "ece", "cost", "extra", "selected"),
)
"""The order of the first columns of a CSV, whatever more there are."""


def begins_table(text: str) -> bool:
    """Whether a text begins as the CSV of a comparison does, in this version and in older ones."""
    return re.match(",".join(OF_COMPARISON) + "[,\n]", text) is not None


def _csv(fields: list[str], rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(fields)), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _numbers(table: Table, cell: Cell) -> dict[str, Any]:
    """The cell's numbers by the keys of their columns."""
    wanted = {column.key for column in columns(table)} | set(_ALWAYS)
    found: dict[str, Any] = {}
    for column in NUMBERS:
        if not table.is_comparison and column.key not in wanted:
            continue
        value = column.value(table, cell)
        if column.with_std:
            found[column.key], found[f"{column.key}_std"] = value or (None, None)
        else:
            found[column.key] = value
    return found


def _compared_row(table: Table, cell: Cell) -> dict[str, Any]:
    numbers = _numbers(table, cell)
    del numbers["extra"]
    score = {"accuracy": _fraction(cell.mean), "accuracy_std": _fraction(cell.std)}
    against = _against(cell.compared.get(table.baseline))
    return {"method": cell.variant, "trials": cell.trials, **score, **numbers, **against}


def _against(one: Difference | None) -> dict[str, Any]:
    """A difference as plain values; without one there is nothing to say."""
    if one is None:
        return {"pairs": 0, "difference": None, "p": None, "verdict": ""}
    return {"pairs": one.pairs, "difference": one.interval._asdict(), "p": one.p, "verdict": one.verdict}


def _recipe_cell(table: Table, cell: Cell) -> dict[str, Any]:
    plain = (str, int, float, bool, type(None))
    numbers = _numbers(table, cell)
    first = {key: numbers.pop(key) for key in _ALWAYS}
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
        "compared": {name: _comparison(cell.bases[name], one) for name, one in cell.compared.items()},
        **first,
        "extra": cell.extra,
        "selected": cell.selected if table.recipe.search else None,
        **numbers,
    }


def _printed(value: Value | None) -> dict[str, Any]:
    return {
        "paper_mean": _fraction(value.mean) if value else None,
        "paper_std": _fraction(value.std) if value else None,
        "paper_anchor": value.anchor if value else None,
    }


def _comparison(base: str, one: Difference) -> dict[str, Any]:
    return {
        **{name: round(value, 12) for name, value in one.interval._asdict().items()},
        "base": base,
        "p": one.p_alone,
        "p_holm": one.p,
        "pairs": one.pairs,
        "verdict": one.verdict,
    }


def _flat(nested: dict[str, Any]) -> dict[str, Any]:
    """Values within values get names of their own; those of a difference come after its base in a recipe's files."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            flat |= {
                f"{name}_{key}": one for key, one in sorted(value.items(), key=lambda item: item[0] != "base")
            }
        elif name != "difference":  # None: there is none
            flat[name] = value
    return flat


def _prefix(base: str) -> str:
    """What the columns of a comparison begin with."""
    return f"to_{base.replace('-', '_').replace('+', '_')}"


def _fraction(percent: float | None) -> float | None:
    # Rounded, lest 1.17 % become 0.011699999999999999.
    return None if percent is None else round(percent / 100, 12)
