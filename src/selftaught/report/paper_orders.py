"""Figure 3: accuracy by saliency method beside how class-discriminative its maps are, and whether the orders agree."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from selftaught.report.drawing import WIDTH, Drawing, canvas, plain_ticks, png
from selftaught.statistics.paired import holm
from selftaught.statistics.verdicts import LEVEL

PAPER_ORDER = {
    "grad-input": "Grad*Input",
    "guided-backprop": "GuidedBP",
    "grad": "Grad",
    "grad-cam": "Grad-CAM",
}
"""Saliency methods, the least class-discriminative first, with the paper's names for them (Section 5.4)."""

_TESTED = "t-test over seeds, corrected after Holm"

_SAME = 1e-12
"""Numbers that differ by less are equal."""

_ORDER = " < ".join(PAPER_ORDER.values())


@dataclass(frozen=True)
class Explained:
    """What was found for one saliency method on one architecture, a number per trained network each.

    Attributes:
        accuracy: test accuracies of LE with it, fractions.
        on_ce: discriminativeness of its maps on networks trained with plain cross-entropy; lower is more
            class-discriminative.
        on_own: likewise on the networks of `accuracy`.
        seeds: of the networks of `accuracy`; those of `on_ce` are the same for all methods.
    """

    accuracy: Sequence[float] = ()
    on_ce: Sequence[float] = ()
    on_own: Sequence[float] = ()
    seeds: Sequence[int] = ()


@dataclass(frozen=True)
class Student:
    """One architecture of Figure 3: its name, and what was found by saliency, keys of `PAPER_ORDER`."""

    name: str
    found: Mapping[str, Explained]


@dataclass(frozen=True)
class _Quantity:
    """A column of the figure; `sign` makes larger mean better; equal `networks`: numbers in the same order."""

    title: str
    label: str
    sign: int
    unit: float
    values: Callable[[Explained], Sequence[float]]
    networks: Callable[[Explained], object] = lambda found: tuple(found.seeds)


_QUANTITIES = (
    _Quantity("accuracy of LE", "test accuracy (%)", 1, 100, lambda found: found.accuracy),
    _Quantity(
        "maps on CE networks",
        "rank correlation (lower is better)",
        -1,
        1,
        lambda found: found.on_ce,
        lambda found: len(found.on_ce),
    ),
    _Quantity("maps on LE networks", "rank correlation (lower is better)", -1, 1, lambda found: found.on_own),
)


def figure3(students: Sequence[Student]) -> Drawing:
    """Figure 3: per architecture the accuracy by saliency method, and the discriminativeness of the maps beside it.

    Methods without numbers (their trials failed, say) are left out of the orders, and the caption names them.

    Args:
        students: at least one.
    """
    line, top, bottom, left, gap, right = 1.75, 0.3, 0.35, 0.62, 0.6, 0.06
    height = len(students) * (line + top + bottom)
    figure = canvas(WIDTH, height)
    wide = (WIDTH - left - right - 2 * gap) / 3
    for row, student in enumerate(students):
        low = height - row * (line + top + bottom) - top - line
        for column, quantity in enumerate(_QUANTITIES):
            place = ((left + column * (wide + gap)) / WIDTH, low / height, wide / WIDTH, line / height)
            _draw_panel(figure.add_axes(place), student, quantity)
    caption = [
        "Dots are single networks, bars their mean ± standard deviation (n − 1). Rank correlation: the mean Spearman "
        "correlation between the maps of the true class and of another one; lower is more class-discriminative."
    ]
    for student in students:
        caption += _words(student)
    rows = tuple(
        (
            student.name,
            PAPER_ORDER[key],
            *(
                _cell(quantity.values(student.found.get(key, Explained())), quantity.unit)
                for quantity in _QUANTITIES
            ),
        )
        for student in students
        for key in PAPER_ORDER
    )
    headers = ("network", "saliency", "accuracy of LE (%)", "rank correlation, CE", "rank correlation, LE")
    names = " and ".join(student.name for student in students)
    alt = f"Accuracy by saliency method and discriminativeness of the maps for {names}"
    return Drawing(png(figure), alt, tuple(caption), headers, rows)


def _draw_panel(axis: Axes, student: Student, quantity: _Quantity) -> None:
    plain_ticks(axis, "x", list(PAPER_ORDER.values()), fontsize=6)
    axis.set_xlim(-0.5, len(PAPER_ORDER) - 0.5)
    for place, key in enumerate(PAPER_ORDER):
        values = quantity.unit * np.asarray(quantity.values(student.found.get(key, Explained())))
        if not len(values):
            axis.text(
                place, 0.5, "none", transform=axis.get_xaxis_transform(), ha="center", fontsize=7, color="0.4"
            )
            continue
        axis.scatter(
            np.full(len(values), place - 0.17), values, s=9, color="#2166ac", alpha=0.6, linewidths=0
        )
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        axis.errorbar(place + 0.1, values.mean(), spread, fmt="D", ms=4, color="black", capsize=3, lw=1.2)
    axis.set_title(f"{student.name}: {quantity.title}", fontsize=7.5, pad=5, parse_math=False)
    axis.set_ylabel(quantity.label, fontsize=7, labelpad=2)
    axis.tick_params(axis="y", labelsize=7, length=2, pad=2)
    axis.ticklabel_format(axis="y", useOffset=False)
    axis.grid(axis="y", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _words(student: Student) -> list[str]:
    """The orders of one architecture, and what they say about the paper's."""
    lines = []
    for quantity in _QUANTITIES:
        known = _known(student, quantity)
        absent = [PAPER_ORDER[key] for key in PAPER_ORDER if key not in known]
        what = f"{student.name}, by {quantity.title}"
        if len(known) < 2:
            lines.append(f"{what}: too few methods have numbers for an order.")
            continue
        verdict = "agrees" if _increases(known) else "does not agree"
        left_out = f" as far as there are numbers (none for {', '.join(absent)})" if absent else ""
        lines.append(
            f"{what}: {_order(known)}; this {verdict} with the paper's order {_ORDER}{left_out}. "
            f"{_noise(known, {key: quantity.networks(student.found[key]) for key in known})}"
        )
    return [*lines, *_rank_agreement(student)]


def _known(student: Student, quantity: _Quantity) -> dict[str, np.ndarray]:
    """The methods' numbers in the paper's order, of those that have any; larger is better."""
    every = {
        key: np.asarray(quantity.values(student.found.get(key, Explained())), float) for key in PAPER_ORDER
    }
    return {key: quantity.sign * values for key, values in every.items() if len(values)}


def _increases(known: Mapping[str, np.ndarray]) -> bool:
    means = [values.mean() for values in known.values()]
    return all(a < b for a, b in pairwise(means))


def _ascending(known: Mapping[str, np.ndarray]) -> list[str]:
    return sorted(known, key=lambda key: known[key].mean())


def _order(known: Mapping[str, np.ndarray]) -> str:
    order = _ascending(known)
    text = PAPER_ORDER[order[0]]
    for before, after in pairwise(order):
        sign = "<" if known[before].mean() < known[after].mean() else "="
        text += f" {sign} {PAPER_ORDER[after]}"
    return text


def _noise(known: Mapping[str, np.ndarray], networks: Mapping[str, object]) -> str:
    """Whether neighbours in the order could as well be the other way round."""
    single = [PAPER_ORDER[key] for key, values in known.items() if len(values) < 2]
    if single:
        which = "" if len(single) == len(known) else f" for {', '.join(single)}"
        return f"One network only{which}: nothing is known of the noise, so the order may be chance."
    neighbours = list(pairwise(_ascending(known)))
    p_values = holm(
        [
            _p_value(known[a], known[b], bool(networks[a]) and networks[a] == networks[b])
            for a, b in neighbours
        ]
    )
    close = [
        f"{PAPER_ORDER[a]} and {PAPER_ORDER[b]}"
        for (a, b), p in zip(neighbours, p_values, strict=True)
        if p >= LEVEL
    ]
    if close:
        return (
            f"The order is within noise: no clear difference between {', between '.join(close)} ({_TESTED})."
        )
    return f"All neighbours differ clearly ({_TESTED})."


def _p_value(a: np.ndarray, b: np.ndarray, paired: bool) -> float:
    """Of Student's test of a difference; without any spread nothing is known of the noise, and it is 1."""
    if not paired or len(a) != len(b):
        return 1.0 if np.ptp(a) + np.ptp(b) < _SAME else float(stats.ttest_ind(a, b, equal_var=False).pvalue)
    difference = b - a
    return 1.0 if np.ptp(difference) < _SAME else float(stats.ttest_1samp(difference, 0).pvalue)


def _rank_agreement(student: Student) -> list[str]:
    """Kendall's tau between the order by accuracy and the two by discriminativeness."""
    accuracy, *others = (_known(student, quantity) for quantity in _QUANTITIES)
    lines = []
    for quantity, known in zip(_QUANTITIES[1:], others, strict=True):
        both = [key for key in accuracy if key in known]
        if len(both) < 2:
            continue
        a, b = ([values[key].mean() for key in both] for values in (accuracy, known))
        tau = float(stats.kendalltau(a, b).statistic)
        if math.isnan(tau):
            said = "has no rank correlation with the accuracies, as one of the two is the same for all"
        else:
            same = "the same order" if tau > 1 - 1e-9 else "not the same order"
            said = f"against accuracy: Kendall's tau {tau:+.2f} over {len(both)} methods, {same}".replace(
                "-", "−"
            )
        lines.append(f"{student.name}, discriminativeness of {quantity.title} {said}.")
    return lines


def _cell(values: Sequence[float], unit: float) -> str:
    """``mean ± std (n)`` of one column, in three decimals or two for percentages."""
    scaled, digits = unit * np.asarray(values, float), 2 if unit == 100 else 3
    if not len(scaled):
        return "none"
    spread = f" ± {scaled.std(ddof=1):.{digits}f}" if len(scaled) > 1 else ""
    return f"{scaled.mean():.{digits}f}{spread} ({len(scaled)})".replace("-", "−")
