"""What a table of the paper allows to say: its caption, and what agrees with the paper, in sentences."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from selftaught.files.names import called
from selftaught.report import carried
from selftaught.report.differences import CLEAR, LEVEL
from selftaught.report.numbers import p_value, points
from selftaught.report.paper_comparisons import CONTROLS, REFERENCE
from selftaught.report.words import listed

if TYPE_CHECKING:
    from selftaught.report.paper import Comparison, PaperCell, PaperTable

_QUESTION = ("ce", "ls", "le-uniform", "le-permut")
"""What LE stands or falls with: does it help, more than label smoothing does, and is it the explanations?"""

DOUBTFUL = "†"
"""Marks a printed value that is not to be compared with."""

_AGAINST = {
    "better": "better than {reference}",
    "worse": "worse than {reference}",
    "no clear difference": "no clear difference from {reference}",
    "one seed: no verdict": "no verdict against {reference}, one seed",
}


def protocol(table: "PaperTable") -> str:
    """The images, epochs, batches and trials that the runs had; of a reduced budget, that they are not the paper's."""
    of_data: dict[str, list[tuple[int, int, int, int]]] = {}
    for run in table.records:
        data, config = run.result.data, run.config
        judged_on = data.test if table.recipe.judged_on == "test" else data.val
        sizes = data.train, judged_on, config.epochs, config.batch_size
        of_data.setdefault(called(config.data), []).append(sizes)
    parts = []
    for data_name, sizes_of in of_data.items():
        train, on, epochs, batch = (_range(values) for values in zip(*sizes_of, strict=True))
        prefix = f"{data_name}: " if len(of_data) > 1 else ""
        kind = "test" if table.recipe.judged_on == "test" else "held-out"
        judged = "" if table.recipe.search else f", {on} {kind} images"
        parts.append(f"{prefix}{train} training images{judged}, {epochs} epochs, batches of {batch}")
    counts = [cell.trials for cell in table.cells.values() if cell.trials]
    if counts:
        fewer = "" if table.reduced or min(counts) >= table.recipe.trials else f" of {table.recipe.trials}"
        parts.append(f"{_range(counts)} trial{'s' if max(counts) > 1 else ''}{fewer}")
    parts += sorted({run.config.precision for run in table.records} - {"32-true"})
    facts = ", ".join(parts) if len(of_data) < 2 else "; ".join(parts)
    name = f"{table.budget} budget"
    if not table.reduced:
        return f"{name}: {facts}." if facts else f"{name}."
    return f"{name}: {facts}: NOT the paper's protocol." if facts else f"{name}: NOT the paper's protocol."


def caption(table: "PaperTable") -> Iterator[str]:
    """What the reader must know, the budget first."""
    yield protocol(table)
    cells = list(table.cells.values())
    recipe = table.recipe
    if recipe.search:
        yield (
            "Accuracy in % and NLL on held-out training images after the last epoch, mean over trials ± standard "
            "deviation (n−1), in brackets the number of trials. Of the values with the most finished trials that with "
            "the highest accuracy is selected, at a tie that with the lower NLL. The test images play no part."
        )
    else:
        better = ", lower is better" if recipe.metric == "error" else ""
        where = "Test" if recipe.judged_on == "test" else "Held-out"
        yield (
            f"{where} {recipe.metric} in %{better}, after the last epoch, mean over trials ± standard deviation "
            "(n−1), in brackets the number of trials."
        )
        if recipe.judged_on == "held-out":
            yield "Held out of the training images: no number of this table is of the test images."
        yield from _about_verdicts(cells)
        yield from _about_comparisons(table)
        if any(cell.cost is not None for cell in cells):
            yield "Step: time of a training step relative to plain cross-entropy, median over alternating steps."
        if any(cell.extra for cell in cells):
            yield "Extra networks: how many others are trained for one student (teachers, assistants, peers)."
        for cell in cells:
            runs = [run for run in table.records if run.config.trial_id in cell.runs]
            said = carried.caution(runs, f"{cell.group}, {cell.variant}")
            if said:
                yield said
    for cell in cells:
        seeds: dict[str, list[str]] = {}
        for line in cell.missing:
            seed, _, why = " ".join(line.split()).partition(": ")
            seeds.setdefault(why, []).append(seed)
        for why, those in seeds.items():
            yield f"Missing: {cell.group}, {cell.variant}: {', '.join(those)}{': ' if why else ''}{why}"
    if any(_is_interim(table, cell) for cell in cells):
        yield (
            "Where seeds are missing a clear difference is an interim one: who looks after every few trials meets "
            "p < 0.05 more often than one time in twenty where there is no difference. All planned trials decide."
        )


def agreement(table: "PaperTable") -> str:
    """How many printed values ours agree with, in one sentence; empty where nothing is printed or nothing was run."""
    if table.recipe.search:
        return _found(table)
    printed = [cell for cell in table.cells.values() if cell.verdict]
    judged = [cell for cell in printed if cell.verdict != "not comparable"]
    if not printed:
        return ""
    if not judged:
        return f"None of {len(printed)} printed values can be compared: {_reasons(printed)}."
    agree = sum(cell.verdict == "agrees" for cell in judged)
    parts = [f"{agree} of {len(judged)} printed values agree{'s' if agree == 1 else ''}"]
    for verdict in ("better", "worse"):
        places = [f"{cell.group} {cell.variant}" for cell in judged if cell.verdict == verdict]
        if places:
            verb = "is" if len(places) == 1 else "are"
            parts.append(f"{len(places)} {verb} {verdict} here than printed ({', '.join(places)})")
    rest = [cell for cell in printed if cell.verdict == "not comparable"]
    if rest:
        parts.append(f"{len(rest)} more cannot be compared ({_reasons(rest)})")
    return "; ".join(parts) + "."


def about_le(table: "PaperTable") -> Iterator[tuple[str, str]]:
    """For every cell of LE its place, and how it compares with all that it is compared with."""
    for cell in table.cells.values():
        if cell.method == "le" and cell.compared:
            yield _told(table, cell, cell.compared.values())


def beside_the_columns(table: "PaperTable") -> Iterator[tuple[str, str]]:
    """For every cell its place, and the comparisons that have no column."""
    for cell in table.cells.values():
        rest = [found for base, found in cell.compared.items() if base not in (*CONTROLS, REFERENCE)]
        if rest:
            yield _told(table, cell, rest)


def _told(table: "PaperTable", cell: "PaperCell", comparisons: Iterable["Comparison"]) -> tuple[str, str]:
    said = "; ".join(_said(comparison, table.recipe.metric) for comparison in comparisons)
    return f"{cell.variant}, {cell.group}", f"{said}."


def le_in_short(tables: Sequence["PaperTable"]) -> str:
    """Whether LE beats CE, label smoothing and its controls, over all tables in one sentence; empty without LE.

    A cell that is in several tables counts once, with the least that any of them allows to say. Tables on held-out
    images count where there are no others.
    """
    tested = [table for table in tables if table.recipe.judged_on == "test"]
    where = "" if tested else "on held-out images "
    tables = tested or tables
    parts = []
    for method in _QUESTION:
        found: dict[frozenset[str], set[str]] = {}
        for table in tables:
            for cell in table.cells.values():
                comparison = cell.compared.get(method)
                if cell.method == "le" and comparison is not None and comparison.p is not None:
                    found.setdefault(cell.runs, set()).add(comparison.verdict)
        if found:
            label = next((t.label(method) for t in tables if t.label(method) != method), method)
            clear = {verdict: sum(said == {verdict} for said in found.values()) for verdict in CLEAR}
            worse = f" (and is worse in {clear['worse']})" if clear["worse"] else ""
            cells = f"{len(found)} cell{'s' if len(found) > 1 else ''}"
            parts.append(f"{label} in {clear['better']} of {cells}{worse}")
    reduced = {table.budget for table in tables if table.reduced}
    when = f"at the {listed(sorted(reduced))} budget and after" if reduced else "after"
    said = f"{where}{when} correction LE is clearly better than {listed(parts)}."
    return said[0].upper() + said[1:] if parts else ""


def clear_differences(tables: Sequence["PaperTable"]) -> str:
    """What differs clearly in tables without LE, in one sentence; empty where the paper has their numbers."""
    if any(table.recipe.paper or table.recipe.search for table in tables):
        return ""
    cells = [cell for table in tables for cell in table.cells.values()]
    tested = [(cell, one) for cell in cells for one in cell.compared.values() if one.p is not None]
    if not tested:
        return "Nothing can be said yet: a verdict needs two seeds or more of what is compared."
    clear = [
        f"{cell.variant} is {one.verdict} than {one.base} ({cell.group})"
        for cell, one in tested
        if one.verdict in CLEAR
    ]
    return f"{'; '.join(clear) or 'No clear difference in any comparison'}."


def _said(comparison: "Comparison", metric: str) -> str:
    p = p_value(comparison.p_holm)
    against = _AGAINST[comparison.verdict].format(reference=comparison.base)
    return f"{against} ({points(comparison.test.interval)} points of {metric}{', ' if p else ''}{p})"


def _is_interim(table: "PaperTable", cell: "PaperCell") -> bool:
    """Whether a difference of the cell is called clear before all of its planned trials are in."""
    incomplete = {other.variant for other in table.of(cell.group) if other.missing}
    return any(
        comparison.verdict in CLEAR and incomplete & {cell.variant, comparison.base}
        for comparison in cell.compared.values()
    )


def _about_verdicts(cells: Sequence["PaperCell"]) -> Iterator[str]:
    judged = [cell for cell in cells if cell.verdict not in ("", "not comparable")]
    if judged:
        yield (
            "Agrees: ours and the printed mean differ by at most two combined standard errors, 2·√(s²/n + s²/5), "
            "with the deviation of each and 5 trials behind each printed value. Not a test: of values that are the "
            "same, with 5 trials of ours, one in twelve is further off."
        )
        rest = [cell for cell in cells if cell.verdict == "not comparable"]
        if rest:
            yield f"Not comparable: {_reasons(rest)}."
    if any(cell.paper and not cell.paper.anchor for cell in cells):
        yield f"{DOUBTFUL} contradicts the paper's own text or is plainly a slip: not to be compared with."


def _about_comparisons(table: "PaperTable") -> Iterator[str]:
    cells = list(table.cells.values())
    every = [comparison for cell in cells for comparison in cell.compared.values()]
    images = f"{table.recipe.judged_on} images"
    if every:
        among = every[0].among
        corrected, p = (
            ", not corrected",
            f"corrected after Holm over the table's {among} comparisons, finished or not",
        )
        if among == 1:
            corrected, p = "", "of the test against no difference"
        yield (
            f"Δ: difference in points with its 95 % interval, over seeds and {images}{corrected}. "
            f"p: {p}; better and worse mean p < {LEVEL}."
        )
        if table.reduced:
            yield "All trials are trained on the same images: no interval says what others would have done."
    if any(comparison.pairs == 1 for comparison in every):
        yield f"With one seed an interval covers the {images} only: there is no p-value and no verdict."
    fewer = {
        f"{cell.group} {cell.variant} to {comparison.base} ({comparison.pairs})": None
        for cell in cells
        for comparison in cell.compared.values()
        if comparison.pairs < cell.trials
    }
    if fewer:
        yield f"Only seeds that both cells finished with stored predictions count: {', '.join(fewer)}."
    methods = {cell.group: {c.method for c in table.of(cell.group) if c.trials} for cell in cells}
    without = [group for group, present in methods.items() if "ce" not in present]
    if without:
        yield f"No difference to CE in {', '.join(without)}: it has no finished trial there."


def _found(table: "PaperTable") -> str:
    """What a search selected, and what the paper says it found; empty where nothing was to be run."""
    assert table.recipe.search is not None
    parts = []
    for group in table.groups:
        chosen = next((cell for cell in table.of(group) if cell.selected), None)
        best = table.recipe.search.paper_best.get(group)
        found = f"{chosen.variant} ({chosen.mean:.2f} %)" if chosen else "nothing finished"
        parts.append(f"{group}: {found}" + (f", the paper {best:g}" if best is not None else ""))
    return f"Selected on held-out training images: {'; '.join(parts)}." if parts else ""


def _reasons(cells: Sequence["PaperCell"]) -> str:
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        reasons.setdefault(cell.why, []).append(f"{cell.group} {cell.variant}")
    if len(reasons) == 1:
        return next(iter(reasons))
    return "; ".join(f"{why}: {', '.join(places)}" for why, places in reasons.items())


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"
