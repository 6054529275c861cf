"""What charts are drawn from: escaped elements, axes, lines and markers, coloured by the page's style sheet."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 360
"""Units of a chart's width: it is shown at about as many pixels on a phone, and text stays readable."""

STYLES = 8
"""Methods that can be told apart by colour, shape and dashes."""

_SHAPES = (
    "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0z",  # circle
    "M-3.4-3.4h6.8v6.8h-6.8z",  # square
    "M0-4.6L4.4 3.4H-4.4z",  # triangle
    "M0-4.9L4.9 0L0 4.9L-4.9 0z",  # diamond
    "M0 4.6L4.4-3.4H-4.4z",  # triangle, point down
    "M-1.4-4.4h2.8v3h3v2.8h-3v3h-2.8v-3h-3v-2.8h3z",  # plus
    "M-4.4 0L-2.2-3.8H2.2L4.4 0L2.2 3.8H-2.2z",  # hexagon
    "M-4.4-3.6V3.6L4.4-3.6V3.6z",  # bow tie: a bar would not be seen on an interval
)
_DASHES = ("", "7 3", "2 3", "8 3 2 3", "4 4", "12 3", "1 4", "8 2 2 2 2 2")


def element(name: str, *children: str, **attributes: object) -> Markup:
    """An element; attribute names have _ for -, values and plain texts are escaped, None leaves an attribute out."""
    described = "".join(
        f' {key.strip("_").replace("_", "-")}="{escape(number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(children)
    return Markup(f"<{name}{described}>{inner}</{name}>" if inner else f"<{name}{described}/>")


def number(value: object) -> str:
    """A coordinate with two decimals at most; anything else as it is."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text(x: float, y: float, content: object, anchor: str = "start", kind: str = "tick") -> Markup:
    """A label; names of users may run from right to left."""
    return element("text", str(content), x=float(x), y=float(y), text_anchor=anchor, class_=kind)


def shorten(name: str, length: int) -> str:
    """A name that fits a label: its middle gives way, because the ends tell names apart.

    >>> shorten("a very long name", 9)
    'a ve…name'
    """
    if len(name) <= length:
        return name
    kept = length - 1
    return f"{name[: kept - kept // 2]}…{name[len(name) - kept // 2 :]}"


@dataclass(frozen=True)
class Scale:
    """Values low..high on coordinates start..end, with round ticks."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        """The coordinate of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def label(self, tick: float, signed: bool = False) -> str:
        """A tick with as many decimals as the ticks need, a true minus sign and, if asked, a plus."""
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else 1.0
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        decimals += round(step * 10**decimals, 6) % 1 != 0  # steps of 2.5
        sign = "+" if signed and round(tick, decimals) else ""
        shown = f"{tick:{sign}.{decimals}f}" if decimals < 9 and abs(tick) < 1e9 else f"{tick:{sign}.3g}"
        return shown.replace("-", "−")


def scale(
    values: Iterable[float],
    start: float,
    end: float,
    ticks: int = 5,
    margin: float = 0.04,
    whole: bool = False,
) -> Scale:
    """A scale that shows all finite values, with about so many ticks, on whole numbers if asked."""
    from matplotlib.ticker import MaxNLocator

    finite = [float(value) for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    spread = (high - low) or max(abs(high) * 0.02, 0.5)
    low, high = low - margin * spread, high + margin * spread
    if low == high:
        low, high = low - 0.5, high + 0.5
    located = MaxNLocator(nbins=ticks, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high)
    return Scale(low, high, start, end, tuple(float(tick) for tick in located if low <= tick <= high))


def marker(
    style: int, x: float, y: float, title: str | None = None, hollow: bool = False, faint: bool = False
) -> Markup:
    """The shape of a method's style at a point, with a text for the pointer."""
    kind = f"m{style % STYLES} mark{' hollow' if hollow else ''}{' faint' if faint else ''}"
    name = [element("title", title)] if title else []
    place = f"translate({number(float(x))} {number(float(y))})"
    return element("path", *name, d=_SHAPES[style % STYLES], transform=place, class_=kind)


def line(
    points: Sequence[tuple[float, float]], kind: str, style: int | None = None, dashed: bool = True
) -> Markup:
    """A line through points; points that are not finite interrupt it."""
    commands, pen_down = [], False
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            commands.append(f"{'L' if pen_down else 'M'}{number(float(x))} {number(float(y))}")
            pen_down = True
        else:
            pen_down = False
    dashes = _DASHES[style % STYLES] if style is not None and dashed else ""
    name = kind if style is None else f"{kind} m{style % STYLES}"
    return element("path", d="".join(commands), class_=name, stroke_dasharray=dashes or None)


def key(style: int) -> Markup:
    """A method's line and marker for a legend; the name beside it says the same."""
    parts = line([(0, 7), (28, 7)], "curve", style), marker(style, 14, 7)
    return element("svg", *parts, class_="key", viewBox="0 0 28 14", width=28, height=14, aria_hidden="true")


def chart(height: float, label: str, *parts: Markup, width: float = WIDTH) -> Markup:
    """An image with a text alternative."""
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {number(float(width))} {number(float(height))}",
        role="img",
        aria_label=label,
        class_="chart",
    )


def axes(x: Scale, y: Scale, x_label: str) -> list[Markup]:
    """Grid and tick labels of a plot whose axes cross at the lower left, and the title of its lower one."""
    left, bottom = x.start, y.start
    parts = [line([(left, y(tick)), (x.end, y(tick))], "grid") for tick in y.ticks]
    parts += [text(left - 6, y(tick) + 3.5, y.label(tick), "end") for tick in y.ticks]
    return [*parts, *x_axis(x, bottom, x_label)]


def x_axis(x: Scale, bottom: float, label: str, signed: bool = False) -> list[Markup]:
    """The lower axis alone."""
    parts = [line([(x.start, bottom), (x.end, bottom)], "base")]
    parts += [line([(x(tick), bottom), (x(tick), bottom + 4)], "base") for tick in x.ticks]
    parts += [text(x(tick), bottom + 16, x.label(tick, signed), "middle") for tick in x.ticks]
    return [*parts, text((x.start + x.end) / 2, bottom + 32, label, "middle", "axis")]
