"""Figures, made without a display."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from selftaught.files.trace import ExplainedImage
from selftaught.report.drawing import COLOURS, canvas, colour_key, frame, short, show_map, strength
from selftaught.report.numbers import signed

_CELL = 0.95
"""Inches per map; photographs get half as much again."""

_LINE = 0.19
"""Inches per line of text."""

_PHOTOGRAPH = 64
"""From this many pixels on the shorter side a colour picture is a photograph, in which one can find things."""


def explanation_grid(
    explained: Sequence[ExplainedImage], classes: Sequence[str], overlay: bool | None = None
) -> Figure:
    """Figure 1 of the paper: a row per image with the input, then a map and its similarity score per class.

    Red supports the class and blue speaks against it, each row on one scale; the score is the similarity to the
    reference class's map, and the reference is framed.

    Args:
        explained: at least one image.
        classes: the names of all classes.
        overlay: draw the maps over the greyed picture; by default where it is a photograph.
    """
    over = overlay if overlay is not None else all(is_photograph(item.image) for item in explained)
    shared = all(np.array_equal(item.classes, np.arange(len(classes))) for item in explained)
    figure, axes = _grid(explained, _CELL * (1.5 if over else 1), _LINE if shared else 2 * _LINE)
    for row, item in zip(axes, explained, strict=True):
        _draw_row(row, item, classes, over)
    for row, item in zip(axes[:1] if shared else axes, explained, strict=False):
        row[0].set_title("input", fontsize=8, pad=3)
        for axis, k in zip(row[1:], item.classes, strict=True):
            # Names come from users: no mathtext.
            axis.set_title(short(classes[k], 18 if over else 12), fontsize=8, pad=3, parse_math=False)
    return figure


def _grid(explained: Sequence[ExplainedImage], cell: float, between: float) -> tuple[Figure, np.ndarray]:
    """Axes in the pictures' proportions, `cell` inches wide, and the key to their colours below them."""
    rows, columns = len(explained), 1 + len(explained[0].classes)
    tall = cell * explained[0].image.shape[0] / explained[0].image.shape[1]
    left, right, top, bottom, gap = 0.2, 0.06, 0.2, 0.75, 0.04
    width = left + columns * cell + (columns - 1) * gap + right
    height = top + rows * tall + (rows - 1) * between + bottom
    figure = canvas(width, height)
    place = {
        "left": left / width,
        "right": 1 - right / width,
        "top": 1 - top / height,
        "bottom": bottom / height,
    }
    axes = figure.add_gridspec(rows, columns, **place, wspace=gap / cell, hspace=between / tall).subplots(
        squeeze=False
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    length = min(4.0, width - 1)
    which = "predicted" if explained[0].truth is None else "true"
    colour_key(
        figure,
        (0.5 - length / 2 / width, 0.42 / height, length / width, 0.07 / height),
        f"each row on its own scale, framed: the {which} class\nbelow a map: how similar it is to the framed one",
    )
    return figure, axes


def is_photograph(image: np.ndarray) -> bool:
    """Whether an image, uint8 (H, W) or (H, W, 3), is large and in colour."""
    return image.ndim == 3 and min(image.shape[:2]) >= _PHOTOGRAPH


def _draw_row(row: Sequence[Axes], item: ExplainedImage, classes: Sequence[str], over: bool) -> None:
    row[0].imshow(item.image, cmap="gray" if item.image.ndim == 2 else None)
    row[0].set_xlabel(_verdict(item, classes), fontsize=7, labelpad=2, parse_math=False)
    row[0].set_ylabel(_file_name(item.name, 24 if over else 17), fontsize=6, labelpad=2, parse_math=False)
    scale = strength(item.maps)
    for axis, k, values, score in zip(row[1:], item.classes, item.maps, item.similarity, strict=True):
        if over:
            axis.imshow(overlaid(item.image, values / scale))
        else:
            show_map(axis, values, scale)
        axis.set_xlabel(signed(score), fontsize=7, labelpad=2)
        if k == item.reference:
            frame(axis)


def overlaid(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map over its picture in pale grey: the stronger it is at a place, the less is seen of the picture there.

    Args:
        image: uint8 (H, W) or (H, W, 3).
        values: (h, w) of any size, scaled up bilinearly; 1 is full red, -1 full blue, beyond is cut off.

    Returns:
        float (H, W, 3) in [0, 1].
    """
    height, width = image.shape[:2]
    small = Image.fromarray(np.asarray(values, np.float32))
    large = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    grey = (image if image.ndim == 2 else image @ np.array([0.299, 0.587, 0.114])) / 255
    opacity = 0.65 * np.clip(np.abs(large), 0, 1)[..., None]
    colour = np.where(large[..., None] > 0, COLOURS(0.9)[:3], COLOURS(0.1)[:3])
    return (1 - opacity) * (0.35 + 0.6 * grey[..., None]) + opacity * colour


def _verdict(item: ExplainedImage, classes: Sequence[str]) -> str:
    said = f"{short(classes[item.prediction], 12)}, {100 * item.probabilities[item.prediction]:.0f} %"
    if item.truth is None:
        return said
    return f"{'✓' if item.prediction == item.truth else '✗'} {said}"


def _file_name(name: str, most: int) -> str:
    """With its last folder, often the class; of a long name both ends, which tell the files of a series apart."""
    name = "/".join(name.split("/")[-2:])
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}"
