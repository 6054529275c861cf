"""What figures share: canvases without a display, the colours of signed values, maps, names that people chose.

Nothing here imports torch, so that figures can be drawn from records alone.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

COLOURS = matplotlib.colormaps["RdBu_r"]
"""Red is positive and blue negative: for and against a class."""

DPI = 150
"""Dots per inch of what is saved as PNG."""


WIDTH = 8.0
"""Inches: 1200 pixels."""


@dataclass(frozen=True)
class Drawing:
    """A figure and what it shows.

    Attributes:
        png: the picture, 1200 pixels wide.
        alt: what it is, for those who do not see it.
        caption: sentences, one a line.
        headers: those of a table of the same facts.
        rows: its cells as text.
    """

    png: bytes
    alt: str
    caption: tuple[str, ...]
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def canvas(width: float, height: float) -> Figure:
    """A figure of so many inches that needs no display."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG of `DPI`."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def short(name: str, most: int) -> str:
    """A name of at most so many characters, on one line.

    >>> short("automobile", 5)
    'auto…'
    """
    name = " ".join(name.split())
    return name if len(name) <= most else f"{name[: most - 1]}…"


def strength(maps: np.ndarray) -> float:
    """The magnitude in maps of one image that gets the full colour; above 0.

    Not the largest one: a few pixels of a gradient can be far above all others.
    """
    magnitudes = np.abs(maps)
    return float(np.quantile(magnitudes, 0.99) or magnitudes.max() or 1.0)


def show_map(axis: Axes, values: np.ndarray, scale: float) -> None:
    """A signed map (h, w) as squares that fill the axes, with full colours at ± `scale`."""
    axis.imshow(values, cmap=COLOURS, vmin=-scale, vmax=scale, interpolation="nearest", aspect="auto")


def frame(axis: Axes) -> None:
    """Draw a thick frame around the axes."""
    for spine in axis.spines.values():
        spine.set(linewidth=2.5, color="black")


def colour_key(figure: Figure, place: tuple[float, float, float, float], label: str) -> None:
    """The key to the colours of maps, at a place in fractions of the figure, with a text below."""
    bar = figure.colorbar(
        ScalarMappable(Normalize(-1, 1), COLOURS), figure.add_axes(place), orientation="horizontal"
    )
    bar.set_ticks([-1, 0, 1], labels=["against the class", "0", "for the class"], fontsize=7)
    bar.ax.tick_params(length=2, pad=2)
    bar.set_label(label, fontsize=7, labelpad=1)
    bar.outline.set_visible(False)


def plain_ticks(axis: Axes, which: str, names: Sequence[str], **style: Any) -> None:
    """Label the positions 0, 1, ... of an axis ("x" or "y") with names, in which a $ is a $."""
    chosen = {"x": axis.xaxis, "y": axis.yaxis}[which]
    chosen.set_ticks(range(len(names)))
    chosen.set_ticklabels(names, parse_math=False, **style)
