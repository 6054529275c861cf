"""Figures, made without a display."""

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from selftaught.report.explanations import ExplainedImage

_CELL = 0.95
"""Inches per map."""


def explanation_grid(explained: Sequence[ExplainedImage], classes: Sequence[str]) -> Figure:
    """Figure 1 of the paper: a row per image with the input, then a map and its similarity score per class.

    Red supports the class and blue speaks against it, each row on one scale; the score is the cosine to the
    reference class's map, and the reference is framed.
    """
    columns = len(classes) + 1
    figure = Figure(
        figsize=(_CELL * columns, (_CELL + 0.3) * len(explained) + 0.3),
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, hspace=0, wspace=0),
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(explained), columns, squeeze=False)
    for row, item in zip(axes, explained, strict=True):
        row[0].imshow(item.image, cmap="gray" if item.image.ndim == 2 else None)
        row[0].set_xlabel(_verdict(item, classes), fontsize=7)
        scale = float(abs(item.maps).max()) or 1.0
        for k, axis in enumerate(row[1:]):
            axis.imshow(item.maps[k], cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")
            axis.set_xlabel(f"{item.similarity[k]:+.2f}", fontsize=7)
            if k == item.reference:
                for spine in axis.spines.values():
                    spine.set(linewidth=2.0, color="black")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for axis, title in zip(axes[0], ["input", *classes], strict=True):
        # Class names come from users: no mathtext.
        axis.set_title(title if len(title) <= 12 else f"{title[:11]}…", fontsize=8, parse_math=False)
    return figure


def _verdict(item: ExplainedImage, classes: Sequence[str]) -> str:
    said = f"{classes[item.prediction]} {100 * item.probabilities[item.prediction]:.0f} %"
    if item.truth is None:
        return said.replace("$", r"\$")
    return f"{'✓' if item.prediction == item.truth else '✗'} {said}".replace("$", r"\$")
