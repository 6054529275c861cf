"""The charts of the report: what the trials came to, drawn as SVG that says in words what it shows."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from selftaught.files.evidence import BINS
from selftaught.report import svg
from selftaught.report.learning import Learning
from selftaught.report.numbers import points
from selftaught.statistics.paired import Interval

_ROW, _LEFT, _RIGHT = 34, 92, 346
"""Height of a method's row, and where the values of a chart with rows begin and end."""

_SHORT, _LONGEST, _CHARACTER = 13, 22, 7
"""Characters of a row's name, where there is little room and where there is more, and how wide one is."""

_TIE = 4
"""How far down a dot goes for each dot that is in its place already."""

_FEW = 30
"""Bins with fewer predictions are drawn faintly and not joined: their accuracy is mostly chance."""

_MOST_POINTS = 240
"""Points of a training curve that can be told apart."""


def seeds(values: Mapping[str, Mapping[int, float]], styles: Mapping[str, int]) -> Markup:
    """A dot per method and seed, equal seeds joined: {method: {seed: accuracy in %}}."""
    rows = {method: 24 + _ROW * row for row, method in enumerate(values)}
    x = svg.scale([value for of in values.values() for value in of.values()], _LEFT, _RIGHT)
    parts = []
    for seed in sorted({seed for of in values.values() for seed in of}):
        path = [
            (x(of[seed]), float(rows[m])) if seed in of else (math.nan, math.nan) for m, of in values.items()
        ]
        parts.append(svg.line(path, "pair"))
    for method, of in values.items():
        mean = x(float(np.mean(list(of.values()))))
        parts.append(svg.line([(mean, rows[method] - 11), (mean, rows[method] + 11)], "mean"))
        parts.append(_row_label(svg.shorten(method, _SHORT), rows[method]))
        drawn: list[float] = []
        for seed, value in of.items():
            at = x(value)
            beside = _TIE * sum(abs(at - other) < 2 for other in drawn)  # equal values would hide each other
            drawn.append(at)
            parts.append(
                svg.marker(styles[method], at, rows[method] + beside, f"{method}, seed {seed}: {value:.2f} %")
            )
    bottom = 24 + _ROW * len(rows) - 8
    described = "; ".join(
        f"{method} {np.mean(list(of.values())):.2f} on average, from {min(of.values()):.2f} to {max(of.values()):.2f}"
        for method, of in values.items()
    )
    return svg.chart(
        bottom + 38,
        f"Test accuracy in % of each seed by method: {described}.",
        *svg.x_axis(x, bottom, "test accuracy %"),
        *parts,
    )


def differences(
    values: Mapping[str, Interval], baseline: str, styles: Mapping[str, int], metric: str = "accuracy"
) -> Markup:
    """Each method's difference to the baseline in points of the metric, with its interval."""
    ends = [100 * end for interval in values.values() for end in interval]
    names = [svg.shorten(method, _LONGEST) for method in values]
    left = max(_LEFT, 12 + _CHARACTER * max(map(len, names)))
    x = svg.scale([0.0, *ends], left, _RIGHT)
    bottom = 24 + _ROW * len(values) - 8
    parts = [*svg.x_axis(x, bottom, f"points of {metric} against {baseline}", signed=True)]
    parts.append(svg.line([(x(0), 6), (x(0), bottom)], "zero"))
    for row, (method, interval) in enumerate(values.items()):
        y = 24 + _ROW * row
        estimate, low, high = (100 * value for value in interval)
        parts.append(_row_label(names[row], y, left))
        parts.append(svg.line([(x(low), y), (x(high), y)], "interval", styles[method], dashed=False))
        for end in (low, high):
            parts.append(
                svg.line([(x(end), y - 5), (x(end), y + 5)], "interval", styles[method], dashed=False)
            )
        parts.append(svg.marker(styles[method], x(estimate), y, f"{method}: {points(interval, 100)}"))
    described = "; ".join(f"{method} {points(interval, 100)}" for method, interval in values.items())
    return svg.chart(
        bottom + 38, f"Difference to {baseline} in points, with 95 % intervals: {described}.", *parts
    )


def curves(
    values: Mapping[str, np.ndarray], shared: Sequence[np.ndarray], title: str, styles: Mapping[str, int]
) -> Markup:
    """A quantity over the epochs: the mean over seeds within the band from the lowest to the highest seed.

    Args:
        values: (seeds, epochs) by method, nan where there is no value.
        shared: what else the vertical axis must show, so that charts side by side have one scale.
        title: the quantity and its unit.
        styles: each method's style.
    """
    longest = max(table.shape[1] for table in values.values())
    x = svg.scale([1, longest], 42, _RIGHT, margin=0.02, whole=True)
    y = svg.scale((value for table in shared for value in table.ravel()), 186, 8)
    parts = svg.axes(x, y, "epoch")
    told = []
    for method, table in values.items():
        known = np.flatnonzero(np.isfinite(table).any(axis=0))
        known = known[np.unique(np.linspace(0, len(known) - 1, _MOST_POINTS).round().astype(int))]
        low, mean, high = (how(table[:, known], axis=0) for how in (np.nanmin, np.nanmean, np.nanmax))
        at = [x(float(epoch + 1)) for epoch in known]
        if len(table) > 1:
            around = [*zip(at, map(y, high), strict=True), *zip(at[::-1], map(y, low[::-1]), strict=True)]
            parts.append(svg.line(around, "band", styles[method], dashed=False))
        parts.append(svg.line([*zip(at, map(y, mean), strict=True)], "curve", styles[method]))
        for i in np.unique(np.linspace(0, len(known) - 1, 5).round().astype(int)):
            parts.append(
                svg.marker(
                    styles[method], at[i], y(mean[i]), f"{method}, epoch {known[i] + 1}: {mean[i]:.4g}"
                )
            )
        told.append(f"{method} from {mean[0]:.4g} to {mean[-1]:.4g}")
    return svg.chart(222, f"{title} over {longest} epochs, mean over seeds: {'; '.join(told)}.", *parts)


def learning(found: Learning, style: int) -> Markup:
    """Accuracy over the number of training images, each point as far from the next: they double."""
    ends = [100 * end for point in found.points for end in (point.lowest, point.highest)]
    last = len(found.points) - 1
    x = svg.Scale(0, last, 70, _RIGHT - 28, ())
    y = svg.scale(ends, 186, 8)
    parts = [svg.line([(42, y(tick)), (_RIGHT, y(tick))], "grid") for tick in y.ticks]
    parts += [svg.text(36, y(tick) + 3.5, y.label(tick), "end") for tick in y.ticks]
    parts.append(svg.line([(42, 186), (_RIGHT, 186)], "base"))
    parts.append(svg.text(x(last / 2), 218, "training images", "middle", "axis"))
    means = [(x(i), y(100 * point.accuracy)) for i, point in enumerate(found.points)]
    parts.append(svg.line(means, "curve", style))
    for (at, mean), point in zip(means, found.points, strict=True):
        parts.append(svg.text(at, 202, f"{point.images:,}", "middle"))
        if point.lowest < point.highest:
            reach = [(at, y(100 * end)) for end in (point.lowest, point.highest)]
            parts.append(svg.line(reach, "interval", style, dashed=False))
        parts.append(svg.marker(style, at, mean, f"{point.images:,} images: {100 * point.accuracy:.2f} %"))
    told = "; ".join(f"{point.images:,} images {100 * point.accuracy:.2f}" for point in found.points)
    return svg.chart(224, f"Test accuracy in % of the linear probe by training images: {told}.", *parts)


def reliability(method: str, before: np.ndarray, after: np.ndarray | None, style: int) -> Markup:
    """Accuracy against confidence in bins, and how many predictions each bin holds; (3, BINS) each."""
    width, side = 260.0, 210.0
    x = svg.Scale(0, 1, 40, 40 + side, (0.0, 0.25, 0.5, 0.75, 1.0))
    y = svg.Scale(0, 1, 14 + side, 14, x.ticks)
    parts = [*_percent_grid(x, y), svg.line([(x(0), y(0)), (x(1), y(1))], "ideal")]
    for table, hollow in ((after, True), (before, False)):
        if table is None:
            continue
        points = [(x(c), y(a), n) for c, a, n in zip(*_points(table), strict=True)]
        sure = [(px, py if n >= _FEW else math.nan) for px, py, n in points]
        parts.append(svg.line(sure, "thin" if hollow else "curve", style, dashed=False))
        parts += [
            svg.marker(style, px, py, f"{method}: {n:.0f} predictions", hollow, faint=n < _FEW)
            for px, py, n in points
        ]
    top = y(0) + 26
    parts += _histogram(before, x, top, f"bars m{style % svg.STYLES}")
    if after is not None:
        parts += _histogram(after, x, top, f"bars outline m{style % svg.STYLES}")
    parts.append(svg.text(x(0.5), top + 60, "confidence %", "middle", "axis"))
    label = f"Reliability of {method}: accuracy against confidence in {BINS} bins"
    told = [f"{label}{'' if after is None else ', before and after temperature scaling'}."]
    gap = float((before[2].sum() - before[1].sum()) / before[0].sum())
    told.append(
        f"On average the confidence is {abs(100 * gap):.1f} points {'above' if gap > 0 else 'below'} the accuracy."
    )
    return svg.chart(top + 66, " ".join(told), *parts, width=width)


def classes(values: Mapping[str, np.ndarray], names: Sequence[str], styles: Mapping[str, int]) -> Markup:
    """Accuracy in % of each class, a row per class with a marker per method; nan for a class without images."""
    x = svg.scale((value for table in values.values() for value in table), 120, _RIGHT)
    bottom = 10 + 22 * len(names)
    parts = svg.x_axis(x, bottom, "accuracy %")
    for row, name in enumerate(names):
        y = 18 + 22 * row
        parts.append(svg.line([(x.start, y), (x.end, y)], "grid"))
        parts.append(
            svg.element(
                "g", svg.element("title", name), svg.text(112, y + 4, svg.shorten(name, 15), "end", "name")
            )
        )
        step = min(4.0, 14 / len(values))  # equal values would hide each other
        parts += [
            svg.marker(
                styles[method],
                x(float(table[row])),
                y + step * (place - (len(values) - 1) / 2),
                f"{name}, {method}: {table[row]:.1f} %",
            )
            for place, (method, table) in enumerate(values.items())
            if math.isfinite(table[row])
        ]
    means = "; ".join(
        f"{method} from {np.nanmin(t):.1f} to {np.nanmax(t):.1f}" for method, t in values.items()
    )
    return svg.chart(bottom + 38, f"Accuracy in % of {len(names)} classes by method: {means}.", *parts)


def _row_label(name: str, y: float, left: float = _LEFT) -> Markup:
    return svg.text(left - 12, y + 4, name, "end", "name")


def _points(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence, accuracy and count of the bins that hold anything."""
    count, right, confidence = table[:, table[0] > 0]
    return confidence / count, right / count, count


def _percent_grid(x: svg.Scale, y: svg.Scale) -> list[Markup]:
    parts = [svg.line([(x.start, y(tick)), (x.end, y(tick))], "grid") for tick in y.ticks]
    parts += [svg.text(x.start - 6, y(tick) + 4, f"{100 * tick:.0f}", "end") for tick in y.ticks]
    parts += [svg.text(x(tick), y(0) + 15, f"{100 * tick:.0f}", "middle") for tick in x.ticks]
    middle = (y.start + y.end) / 2
    turned = svg.element(
        "g", svg.text(0, 0, "accuracy %", "middle", "axis"), transform=f"translate(11 {middle}) rotate(-90)"
    )
    return [*parts, turned]


def _histogram(table: np.ndarray, x: svg.Scale, top: float, kind: str) -> list[Markup]:
    """How the predictions are spread over the bins, the fullest 40 units high, on a line 44 units below `top`."""
    shares = table[0] / table[0].max()
    bars = [
        svg.element(
            "rect",
            svg.element("title", f"{table[0, b]:.0f} predictions"),
            x=x(b / BINS) + 1,
            y=top + 44 - 40 * float(shares[b]),
            width=(x.end - x.start) / BINS - 2,
            height=40 * float(shares[b]),
            class_=kind,
        )
        for b in range(BINS)
        if shares[b] > 0
    ]
    return [*bars, svg.line([(x.start, top + 44), (x.end, top + 44)], "base")]
