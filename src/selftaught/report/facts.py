"""What the sentences of a report are chosen by: counts, shares and doubts, found in tables and records."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from selftaught.files import evidence
from selftaught.files.catalogue import PROBE
from selftaught.files.names import called
from selftaught.files.results import OPPOSITE, TEMPERATURES, Record
from selftaught.report import comparable
from selftaught.report.learning import Learning, another_doubling
from selftaught.report.table import Cell, Table

CLEARLY = 1.2
"""An accuracy of more than this many times 1/C is clearly better than guessing; a class with more than this many times
1/C of the images is clearly more frequent than others."""

MOSTLY_OPPOSITE = 0.5
"""From this share of wrong classes with nearly opposite maps on, leftovers decide what the others get."""

NEARLY_EVEN = 0.05
"""Soft labels that have less than this share of their rest elsewhere than even ones are even for all that is known."""

FEW_IMAGES = 100
"""With fewer test images one of them is more than a point of accuracy; fewer held-out ones make a rough temperature."""


def of_trials(table: Table) -> dict[str, Any]:
    """What the trials of a table were made with, and which are missing."""
    cells, records = table.contestants, [run for cell in table.contestants for run in cell.records]
    counts = [cell.trials for cell in cells if cell.trials]
    config = comparable.first(records).config if records else None
    every = table.records
    fewer = table.budget and not table.reduced and counts and min(counts) < table.recipe.trials
    return {
        "sizes": _sizes(table, records),
        "trials": _range(counts) if counts else "0",
        "planned": table.recipe.trials if fewer else 0,
        "precisions": sorted({run.config.precision for run in every} - {"32-true"}),
        "blend": config.blend if config else 1,
        "split_by": config.split_by if config else None,
        "subsets": any(map(comparable.has_a_subset, every))
        and len({run.config.data_fingerprint for run in every}) > 1,
        "missing": [] if table.is_comparison else _missing(table),  # those of a comparison are in its notes
        "teachers": list(_teachers(table)) if table.is_comparison else [],
        "probe": _probe(table) if table.is_comparison else None,
    }


def _sizes(table: Table, records: Sequence[Record]) -> list[dict[str, Any]]:
    """The images, epochs and batches of the trials, by their data."""
    of_data: dict[str, list[Record]] = {}
    for run in records:
        of_data.setdefault(called(run.config.data), []).append(run)
    return [
        {
            "data": name,
            "model": called(runs[0].config.model),
            "train": _range([run.result.data.train for run in runs]),
            "val": _range([run.result.data.val for run in runs]),
            "judged": _range(
                [
                    run.result.data.test if table.recipe.judged_on == "test" else run.result.data.val
                    for run in runs
                ]
            ),
            "epochs": _range([run.config.epochs for run in runs]),
            "batch": _range([run.config.batch_size for run in runs]),
        }
        for name, runs in of_data.items()
    ]


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _missing(table: Table) -> list[tuple[str, list[str], str]]:
    """Places with seeds that are missing for the same reason, and the reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in table.cells.values():
        place = f"{cell.group}, {cell.variant}"
        for line in cell.missing:
            seed, _, why = " ".join(line.split()).partition(": ")
            found.setdefault((place, why), []).append(seed)
    return [(place, seeds, why) for (place, why), seeds in found.items()]


def _teachers(table: Table) -> Iterable[dict[str, Any]]:
    """The networks that were trained for a method's sake beside those in the table."""
    for cell in table.cells.values():
        configs = [run.config.teacher for run in cell.records]
        teachers = {teacher.trial_id: teacher for teacher in configs if teacher}
        if teachers:
            first = next(iter(teachers.values()))
            yield {
                "method": cell.variant,
                "count": len(teachers),
                "model": called(first.model),
                "taught_by": first.method,
                "seed": first.seed,
                "above": called(first.teacher.model) if first.teacher else "",
            }
        if any(run.result.peer_accuracy for run in cell.records):
            yield {"method": cell.variant, "count": 0}


def _probe(table: Table) -> dict[str, str] | None:
    runs = [run for cell in table.cells.values() if cell.method == PROBE for run in cell.records]
    return {"strength": strength(runs)} if runs else None


def strength(runs: Sequence[Record]) -> str:
    """The strengths that were chosen, with how many trials chose each; empty where nobody knows."""
    counts = Counter(run.result.strength for run in runs if run.result.strength is not None)
    if len(counts) == 1:
        return f"{next(iter(counts)):g}"
    return ", ".join(
        f"{value:g} in {count} trial{'s' if count > 1 else ''}" for value, count in sorted(counts.items())
    )


def of_comparisons(table: Table) -> dict[str, Any]:
    """What was compared with what, and what could not be."""
    cells = list(table.cells.values())
    found = [(cell, name, one) for cell in cells for name, one in cell.compared.items()]
    kept = {cell.variant: len([run for run in cell.records if evidence.has_answers(run)]) for cell in cells}
    methods = {group: {cell.method for cell in table.of(group) if cell.trials} for group in table.groups}
    partly = [
        f"{_place(table, cell)} {'against' if table.is_comparison else 'to'} {cell.bases[name]} ({one.pairs})"
        for cell, name, one in found
        if one.pairs < cell.trials
    ]
    without_ce = [group for group, there in methods.items() if "ce" not in there]
    return {
        "compared": bool(found),
        "tested": not table.is_comparison or any(one.p is not None for _, _, one in found),
        "several_seeds": any(one.pairs > 1 for _, _, one in found),
        "one_seed": any(one.pairs == 1 for _, _, one in found),
        "among": len([question for question in table.questions if not question.apart]) or 1,
        "le_with_all": any(q.base[1] != table.baseline for q in table.questions if not q.apart),
        "partly": list(dict.fromkeys(partly)),
        "without_predictions": [cell.variant for cell in cells if kept[cell.variant] < cell.trials]
        if table.is_comparison
        else [],
        "without_ce": without_ce if not table.is_comparison and not table.recipe.search else [],
        "interim": any(_is_interim(table, cell) for cell in cells),
    }


def _place(table: Table, cell: Cell) -> str:
    return cell.variant if table.is_comparison else f"{cell.group} {cell.variant}"


def _is_interim(table: Table, cell: Cell) -> bool:
    """Whether a difference of the cell is called clear before all of its planned trials are in."""
    incomplete = {other.variant for other in table.of(cell.group) if other.missing}
    return any(
        one.is_clear and incomplete & {cell.variant, cell.bases[name]} for name, one in cell.compared.items()
    )


def of_printed(table: Table) -> dict[str, Any]:
    """What stands beside printed values."""
    cells = list(table.cells.values())
    return {
        "judged": any(cell.verdict not in ("", "not comparable") for cell in cells),
        "not_comparable": _reasons(cells),
        "doubtful": any(cell.paper and not cell.paper.anchor for cell in cells),
    }


def _reasons(cells: Sequence[Cell]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        if cell.verdict == "not comparable":
            reasons.setdefault(cell.why, []).append(f"{cell.group} {cell.variant}")
    return reasons


def of_agreement(table: Table) -> dict[str, Any]:
    """How many printed values ours agree with; of a search, what it selected."""
    if table.recipe.search:
        found = []
        for group in table.groups:
            chosen = next((cell for cell in table.of(group) if cell.selected), None)
            best = table.recipe.search.paper_best.get(group)
            found.append((group, chosen and chosen.variant, chosen and chosen.accuracy, best))
        return {"search": found, "printed": 0}
    printed = [cell for cell in table.cells.values() if cell.verdict]
    judged = [cell for cell in printed if cell.verdict != "not comparable"]
    others = [
        (verdict, [f"{cell.group} {cell.variant}" for cell in judged if cell.verdict == verdict])
        for verdict in ("better", "worse")
    ]
    return {
        "search": [],
        "printed": len(printed),
        "judged": len(judged),
        "agree": sum(cell.verdict == "agrees" for cell in judged),
        "others": [(verdict, places) for verdict, places in others if places],
        "rest": len(printed) - len(judged),
        "not_comparable": _reasons(printed),
    }


def of_doubts(table: Table) -> dict[str, Any]:
    """What to keep in mind before believing a comparison."""
    asked = [cell for cell in table.contestants if cell.compared]
    unclear = [cell for cell in asked if not all(one.is_clear for one in cell.compared.values())]
    records = table.records
    data = records[0].result.data
    introspective = [run.config.method for run in records if "saliency" in run.config.settings]
    introspective += [run.config.method for run in records if run.config.method == "le-teacher"]
    fitted = [run for run in records if run.result.temperature is not None]
    held_out = min((run.result.data.val for run in fitted), default=FEW_IMAGES)
    low, high = TEMPERATURES
    at_limit = {
        run.config.method for run in fitted if not 1.01 * low < (run.result.temperature or 0) < 0.99 * high
    }
    return {
        "seeds": max(5, 2 * max(cell.trials for cell in unclear)) if unclear else 0,
        "equal": list(dict.fromkeys(introspective)) if len(data.classes) == 2 else [],
        "few_test": data.test if data.test < FEW_IMAGES else 0,
        "few_held_out": held_out if held_out < FEW_IMAGES else 0,
        "at_limit": sorted(at_limit),
        "range": TEMPERATURES,
        "duplicates": max(run.result.data.duplicates for run in records),
        "test": data.test,
        "interim": any(_is_interim(table, cell) for cell in table.cells.values()),
    }


def guessing(best: float, classes: Sequence[str], sizes: np.ndarray | None) -> dict[str, Any] | None:
    """What does as well as a network of this accuracy without looking at an image; None where nothing does.

    Args:
        best: the accuracy, in [0, 1].
        classes: the names of the C classes.
        sizes: test images of each class, int64 (C,); None where they are not known.
    """
    count = len(classes)
    # Up to an image more is what dividing few images leaves over.
    if sizes is None or sizes.max() <= max(CLEARLY * sizes.mean(), sizes.mean() + 1):
        return None if best >= CLEARLY / count else {"frequent": None, "classes": count}
    frequent, share = classes[int(sizes.argmax())], float(sizes.max() / sizes.sum())
    # CLEARLY times 90 % is more than all. The standard error of the share, what another draw of as many test images
    # would change in it, leaves room above: what is right on all images passes, unless they are of a single class.
    if best > share + math.sqrt(share * (1 - share) / sizes.sum()):
        return None
    return {"frequent": frequent, "share": share}


def soft_labels(runs: Sequence[Record], name: str) -> dict[str, Any] | None:
    """What the explanations of runs that were trained alike say, where that is too little to learn from.

    Older records did not measure it; what the others measured is averaged.

    Args:
        runs: of one method and its settings.
        name: of the method or the cell.
    """
    found = [run.result.soft_labels for run in runs if run.result.soft_labels is not None]
    if not found or len(runs[0].result.data.classes) < 3:
        return None
    opposite, moved, classes = (
        float(np.mean([getattr(one, part) for one in found])) for part in ("opposite", "moved", "classes")
    )
    if opposite < MOSTLY_OPPOSITE and moved >= NEARLY_EVEN:
        return None
    settings = runs[0].config.settings
    return {
        "name": name,
        "rest": 1 - float(settings.get("alpha") or 0.0),
        "moved": moved,
        "classes": classes,
        "wrong": len(runs[0].result.data.classes) - 1,
        "opposite": opposite,
        "even": opposite < MOSTLY_OPPOSITE,
        "similarity": settings.get("similarity", "cosine"),
        "limit": -OPPOSITE,
    }


def fine_tuning(table: Table) -> dict[str, Any]:
    """How plain fine-tuning stands to the linear probe; `in_vain` and `unclear` are false without the two."""
    cells = {cell.method: cell for cell in table.cells.values()}
    plain, of_probe = cells.get(table.baseline), cells.get(PROBE)
    if plain is None or of_probe is None or not table.has_probe:
        return {"name": "", "accuracy": 0.0, "of_probe": 0.0, "in_vain": False, "unclear": False}
    accuracy, its = plain.accuracy, of_probe.accuracy
    one = of_probe.compared.get(table.baseline)
    return {
        "name": plain.variant,
        "accuracy": accuracy,
        "of_probe": its,
        "in_vain": accuracy <= its,
        "unclear": one is not None and one.p is not None and not one.is_clear,
        "above": [(cell.variant, cell.accuracy) for cell in table.contestants if cell.accuracy > its],
    }


def more_images(found: Learning) -> dict[str, Any]:
    """What the points of the linear probe came to, and what another doubling may bring."""
    shares = [100 * point.accuracy for point in found.points]
    decimals = 0 if len({round(share) for share in shares}) == len(shares) else 1
    low, high = another_doubling(shares)
    return {
        "images": [f"{point.images:,}" for point in found.points],
        "shares": [f"{share:.{decimals}f}" for share in shares],
        "rose": all(a < b for a, b in pairwise(shares)),
        "low": low,
        "high": high,
    }
