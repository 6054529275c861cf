"""Figures 1 to 3 of the paper, drawn from plain arrays, each with its facts in words and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.stats import rankdata

from selftaught.files.trace import Snapshot
from selftaught.report.drawing import (
    COLOURS,
    WIDTH,
    Drawing,
    canvas,
    colour_key,
    frame,
    plain_ticks,
    png,
    short,
    show_map,
    strength,
)
from selftaught.report.numbers import signed
from selftaught.report.paper_orders import PAPER_ORDER, Explained, Student, figure3

__all__ = [
    "EXPECTED",
    "PAPER_ORDER",
    "Drawing",
    "Explained",
    "Panel",
    "Student",
    "figure1",
    "figure2",
    "figure3",
    "ranks_of",
]

_DIGITS = (("0", "6"), ("1", "7"), ("3", "5"), ("4", "9"))
EXPECTED = {
    "cifar10": (("truck", "automobile"), ("dog", "cat")),
    "mnist": _DIGITS,
    "digits": _DIGITS,
}
"""Pairs of classes that the paper finds alike in Figure 2, by dataset."""

_TOP = 5
"""How many of the most similar pairs are named."""

_UPRIGHT = 2
"""Longer names of columns are turned."""


@dataclass(frozen=True)
class Panel:
    """One heatmap of Figure 2.

    Attributes:
        title: the dataset and the network.
        classes: C names.
        matrix: (C, C), the mean cosine between the classes' explanations.
        expected: pairs of names that the paper finds alike; see `EXPECTED`.
        about: what the mean is over, for example "1,000 test images, 3 networks".
    """

    title: str
    classes: Sequence[str]
    matrix: np.ndarray
    expected: Sequence[tuple[str, str]] = ()
    about: str = ""


def figure1(
    title: str, snapshots: Mapping[int, Snapshot], classes: Sequence[str], warmup: int = 0
) -> Drawing:
    """Figure 1 for one dataset: each image's explanations at successive epochs under each other.

    Args:
        title: the dataset, the network and the saliency.
        snapshots: by epoch, of the same images; at least one. From `selftaught.files.trace.read`.
        classes: the names of all classes.
        warmup: the epochs before explanations were learned from.
    """
    epochs = sorted(snapshots)
    first = snapshots[epochs[0]]
    figure = _figure1_canvas(snapshots, epochs, classes)
    rows = tuple(
        (
            f"{i + 1}: {classes[first.labels[i]]}",
            str(epoch),
            *_prediction(snapshots[epoch], i, classes),
            *_nearest(snapshots[epoch], i, classes),
        )
        for i in range(len(first.labels))
        for epoch in epochs
    )
    caption = [
        f"{title}: one map per class after epoch {_listed(epochs)}. Red supports the class, blue speaks against it, "
        "each row on its own scale; the true class is framed. Below a map: how similar it is to the true class's.",
        "The images are the first of their classes in the test part.",
    ]
    if warmup:
        caption.append(f"Up to epoch {warmup} the network learns from the labels alone (warm-up).")
    if len(first.classes) < len(classes):
        caption.append(f"{len(first.classes)} of the {len(classes)} classes are shown.")
    headers = (
        "image: true class",
        "epoch",
        "prediction",
        "probability",
        "most similar other class",
        "similarity",
    )
    alt = f"{title}: saliency maps of {len(first.labels)} test images at {len(epochs)} epochs of training"
    return Drawing(png(figure), alt, tuple(caption), headers, rows)


def figure2(panels: Sequence[Panel]) -> Drawing:
    """Figure 2: how similar the explanations of every two classes are, a heatmap per panel, two side by side."""
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    side, top = (2.8 if columns == 2 else 4.6), 0.35
    longest = max(len(name) for panel in panels for name in panel.classes)
    block = top + side + (0.85 if longest > _UPRIGHT else 0.3)
    figure = canvas(WIDTH, lines * block)
    for place, panel in enumerate(panels):
        line, column = divmod(place, columns)
        left = 0.72 + column * WIDTH / columns if columns == 2 else (WIDTH - side) / 2
        bottom = (lines - line) * block - top - side
        corner = (left / WIDTH, bottom / (lines * block))
        _draw_heatmap(figure.add_axes((*corner, side / WIDTH, side / (lines * block))), panel)
    caption = [
        "Mean cosine between the explanations of two classes; framed: the pairs that the paper finds alike."
    ]
    for panel in panels:
        caption += _words_on_pairs(panel)
    rows = tuple(row for panel in panels for row in _pair_rows(panel))
    headers = ("panel", "pair", "mean cosine", "rank", "named by the paper")
    alt = "Heatmaps of class-by-class similarity: " + "; ".join(panel.title for panel in panels)
    return Drawing(png(figure), alt, tuple(caption), headers, rows)


def _figure1_canvas(
    snapshots: Mapping[int, Snapshot], epochs: Sequence[int], classes: Sequence[str]
) -> Figure:
    """Blocks of rows: an image each, an epoch per row."""
    first = snapshots[epochs[0]]
    left, right, gap, under, between, bottom = 0.24, 0.04, 0.04, 0.2, 0.27, 0.62
    columns = 1 + len(first.classes)
    wide = min(0.95, (WIDTH - left - right - (columns - 1) * gap) / columns)
    left += (WIDTH - left - right - columns * wide - (columns - 1) * gap) / 2
    tall = wide * min(2.0, first.images.shape[2] / first.images.shape[3])
    block = between + len(epochs) * (tall + under)
    height = len(first.labels) * block + bottom
    figure = canvas(WIDTH, height)
    for i in range(len(first.labels)):
        for line, epoch in enumerate(epochs):
            low = height - i * block - between - line * (tall + under) - tall
            places = [(left + column * (wide + gap), low, wide, tall) for column in range(columns)]
            sizes = np.array([WIDTH, height, WIDTH, height])
            axes = [figure.add_axes(tuple(np.array(place) / sizes)) for place in places]
            _draw_epoch(axes, snapshots[epoch], i, epoch, classes, titled=line == 0)
    key = (0.5 - 2 / WIDTH, 0.34 / height, 4 / WIDTH, 0.07 / height)
    colour_key(figure, key, "each row on its own scale")
    return figure


def _draw_epoch(
    axes: Sequence[Axes], seen: Snapshot, i: int, epoch: int, classes: Sequence[str], titled: bool
) -> None:
    image = seen.images[i]
    axes[0].imshow(image.transpose(1, 2, 0) if len(image) == 3 else image[0], cmap="gray", aspect="auto")
    axes[0].set_ylabel(f"epoch {epoch}", fontsize=7, labelpad=2)
    name, chance = _prediction(seen, i, classes)
    right = seen.probabilities[i].argmax() == seen.labels[i]
    said = f"✓ {chance}" if right else f"✗ {short(name, 6)}, {chance}"
    axes[0].set_xlabel(said, fontsize=6, labelpad=3, parse_math=False)
    scale = strength(seen.maps[i])
    for axis, k, values, score in zip(axes[1:], seen.classes, seen.maps[i], seen.similarity[i], strict=True):
        show_map(axis, values, scale)
        axis.set_xlabel(signed(score), fontsize=7, labelpad=3)
        if k == seen.labels[i]:
            frame(axis)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    if titled:
        for axis, title in zip(axes, ["input", *(classes[k] for k in seen.classes)], strict=True):
            axis.set_title(short(title, 11), fontsize=7, pad=3, parse_math=False)


def _prediction(seen: Snapshot, i: int, classes: Sequence[str]) -> tuple[str, str]:
    best = int(seen.probabilities[i].argmax())
    return classes[best], f"{100 * seen.probabilities[i, best]:.0f} %"


def _nearest(seen: Snapshot, i: int, classes: Sequence[str]) -> tuple[str, str]:
    others = np.where(seen.classes == seen.labels[i], -np.inf, seen.similarity[i])
    best = int(others.argmax())
    return classes[seen.classes[best]], signed(seen.similarity[i, best])


def _draw_heatmap(axis: Axes, panel: Panel) -> None:
    count = len(panel.classes)
    off_diagonal = panel.matrix[~np.eye(count, dtype=bool)]
    limit = max(np.ceil(10 * np.abs(off_diagonal).max()) / 10, 0.1)
    # The diagonal says nothing, and its ones would leave the rest pale.
    shown = np.ma.masked_where(np.eye(count, dtype=bool), panel.matrix)
    axis.set_facecolor("0.85")
    picture = axis.imshow(shown, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation="nearest")
    axis.set_title(short(panel.title, 48), fontsize=9, pad=6, parse_math=False)
    axis.set(xticks=[], yticks=[])
    if count <= 40:
        names = [short(name, 12) for name in panel.classes]
        size = 7 if count <= 20 else 4.5
        plain_ticks(axis, "x", names, rotation=90 if max(map(len, names)) > _UPRIGHT else 0, fontsize=size)
        plain_ticks(axis, "y", names, fontsize=size)
        axis.tick_params(length=0, pad=2)
    if count <= 12:
        for (row, column), value in np.ndenumerate(panel.matrix):
            colour = "white" if row != column and abs(value) > 0.62 * limit else "black"
            text = "1" if value > 0.995 else signed(value).lstrip("+").replace("0.", ".", 1)
            axis.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
    for a, b in _expected_positions(panel):
        for corner in ((a - 0.5, b - 0.5), (b - 0.5, a - 0.5)):
            axis.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=1.8))
    bar = axis.figure.colorbar(picture, cax=axis.inset_axes((1.03, 0, 0.03, 1)))
    bar.set_ticks([-limit, 0, limit], labels=[f"−{limit:.1f}", "0", f"+{limit:.1f}"], fontsize=6)
    bar.ax.tick_params(length=2, pad=2)
    bar.outline.set_visible(False)


def _expected_positions(panel: Panel) -> list[tuple[int, int]]:
    """The expected pairs whose classes there are, each in the order of the classes."""
    place = {name: k for k, name in enumerate(panel.classes)}
    pairs = [(place[a], place[b]) for a, b in panel.expected if a in place and b in place]
    return [(min(pair), max(pair)) for pair in pairs]


def ranks_of(panel: Panel) -> dict[tuple[int, int], int]:
    """The rank of every pair, 1 for the most similar; the most similar first."""
    pairs = list(combinations(range(len(panel.classes)), 2))
    ranks = rankdata([-panel.matrix[pair] for pair in pairs], method="min").astype(int).tolist()
    return dict(sorted(zip(pairs, ranks, strict=True), key=lambda item: item[1]))


def _named(panel: Panel, pair: tuple[int, int]) -> str:
    return "–".join(panel.classes[k] for k in pair)


def _words_on_pairs(panel: Panel) -> list[str]:
    ranks, expected = ranks_of(panel), _expected_positions(panel)
    top = list(ranks)[:_TOP]
    about = f" ({panel.about})" if panel.about else ""
    listed = ", ".join(f"{_named(panel, pair)} {signed(panel.matrix[pair])}" for pair in top)
    lines = [f"{panel.title}{about}: most alike are {listed}."]
    if expected:
        places = ", ".join(f"{_named(panel, pair)} is number {ranks[pair]}" for pair in expected)
        among = sum(ranks[pair] <= len(top) for pair in expected)
        chance = len(expected) * len(top) / len(ranks)
        lines.append(
            f"Of the pairs that the paper expects, {places} of {len(ranks)}; {among} of {len(expected)} are among the "
            f"first {len(top)} (by chance {chance:.1f} would be)."
        )
    return lines


def _pair_rows(panel: Panel) -> list[tuple[str, ...]]:
    ranks, expected = ranks_of(panel), _expected_positions(panel)
    shown = [pair for pair in ranks if ranks[pair] <= _TOP or pair in expected]
    return [
        (
            panel.title,
            _named(panel, pair),
            signed(panel.matrix[pair]),
            f"{ranks[pair]} of {len(ranks)}",
            "yes" if pair in expected else "no",
        )
        for pair in shown
    ]


def _listed(epochs: Sequence[int]) -> str:
    return ", ".join(map(str, epochs))
