"""The columns of a table, each declared once: its key in files, its title, its number, its form and what it means.

Markdown, the page and the terminal show the columns of `shown`; CSV and JSON write their numbers by their keys.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from selftaught.recipes.schema import Value
from selftaught.report.numbers import duration, mean_std, p_value, percent, signed
from selftaught.report.questions import REFERENCE, Place
from selftaught.report.table import Cell, Table, mean_of
from selftaught.statistics.verdicts import Difference

ABSENT = "–"
LABEL, SCORE = "variant", "accuracy"
"""The keys of the first two columns."""

DOUBTFUL = "†"
"""Marks a printed value that is not to be compared with."""


LOOKS = ("better", "worse", "agrees", "selected")
"""The words that stand out by their colour."""


@dataclass(frozen=True)
class Part:
    """What the texts of a column have below them, or in a column of its own with this title.

    `blank` stands in that column where there is nothing, `prefix` before the text where it stands below.
    """

    title: str
    blank: str = ABSENT
    prefix: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Text:
    """What people read in a cell; `beside` stands on a line of its own where there is little room."""

    first: str = ABSENT
    beside: str = ""
    parts: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The text on one line, without its parts."""
        return f"{self.first} {self.beside}".strip()

    @property
    def look(self) -> str:
        """The word that decides its colour; empty where there is none."""
        return next((word for word in (self.first, *self.parts) if word in LOOKS), "")


@dataclass(frozen=True)
class Column:
    """A column: `key` is its name in files, `number` what a cell has for it (None: nothing), `form` that in words.

    `caption` says what it means, where the title does not. It is shown where `wanted` says so, by default where some
    cell has a number, and on the page of a comparison also where it is `roomy`. `narrow` is the title where there is
    little room, `under` the key of the column that it then stands below; without `needed` it is left out there. Its
    `parts` have columns of their own where they stand `apart` and there is room. `of_test` are numbers of the test
    images, which tables on held-out images do not show; those `with_std` are a mean and a deviation.
    """

    key: str
    title: str
    number: Callable[[Cell], Any]
    form: Callable[[Any], str | Text] = str
    caption: str = ""
    wanted: Callable[[Table], bool] | None = None
    narrow: str = ""
    under: str = ""
    parts: tuple[Part, ...] = ()
    numeric: bool = True
    needed: bool = True
    roomy: bool = False
    apart: bool = True
    of_test: bool = False
    with_std: bool = False

    def value(self, table: Table, cell: Cell) -> Any:
        """The number of a cell, None where there is none."""
        return None if self.of_test and table.recipe.judged_on != "test" else self.number(cell)

    def text(self, table: Table, cell: Cell) -> Text:
        """The number as people read it."""
        value = self.value(table, cell)
        made = ABSENT if value is None else self.form(value)
        return made if isinstance(made, Text) else Text(made)

    def below(self, text: Text) -> list[str]:
        """The parts of a text as they stand below it."""
        named = zip(self.parts, text.parts, strict=False)
        return [f"{part.prefix}{word}" for part, word in named if word not in ("", ABSENT)]

    def is_in(self, table: Table) -> bool:
        """Whether people see it."""
        return self.wanted(table) if self.wanted is not None else self.is_filled(table)

    def is_filled(self, table: Table) -> bool:
        """Whether some cell has a number."""
        return any(self.value(table, cell) is not None for cell in table.cells.values())


def _of_result(name: str) -> Callable[[Cell], float | None]:
    return lambda cell: mean_of(getattr(run.result, name) for run in cell.records)


def _of_classes(name: str) -> Callable[[Cell], float | None]:
    return lambda cell: mean_of(getattr(one, name) for one in cell.classes)


def score(cell: Cell | None) -> str:
    """The mean ± standard deviation of a cell."""
    return ABSENT if cell is None or cell.mean is None else mean_std(cell.mean, cell.std)


def _shares(values: tuple[float, float | None]) -> str:
    mean, std = values
    return mean_std(100 * mean, None if std is None else 100 * std)


NUMBERS = (
    Column(
        "balanced_accuracy",
        "balanced %",
        lambda cell: cell.balanced,
        _shares,
        "Balanced: mean over the classes of their accuracies, in %.",
        wanted=lambda table: table.uneven,
        narrow="balanced",
        under=SCORE,
        of_test=True,
        with_std=True,
    ),
    Column(
        "macro_f1",
        "macro F1 %",
        _of_classes("macro_f1"),
        percent,
        "Macro F1: mean over the classes of F1, the harmonic mean of precision and recall, in %.",
        wanted=lambda table: table.uneven,
        narrow="macro F1",
        under=SCORE,
        roomy=True,
        of_test=True,
    ),
    Column(
        "top5_accuracy",
        "top-5 %",
        _of_classes("top5_accuracy"),
        percent,
        "Top-5: test images whose class is among the five most probable ones, in %.",
        narrow="top-5",
        under=SCORE,
        of_test=True,
    ),
    Column("nll", "NLL", lambda cell: cell.nll, "{:.3f}".format, needed=False),
    Column("ece", "ECE %", lambda cell: cell.ece, percent, needed=False),
    Column("nll_scaled", "", _of_result("nll_scaled"), wanted=lambda table: False, of_test=True),
    Column(
        "ece_scaled",
        "ECE % scaled",
        _of_result("ece_scaled"),
        percent,
        "Scaled: after temperature scaling, each trial's temperature fitted on its held-out images.",
        narrow="ECE %\nscaled",
        needed=False,
        of_test=True,
    ),
    Column(
        "cost",
        "step × ce",
        lambda cell: cell.cost,
        "{:.2f}".format,
        "Step: time of a training step relative to plain cross-entropy, median over alternating steps.",
        wanted=lambda table: table.is_comparison or table.has("cost"),
        narrow="step\n× ce",
        needed=False,
    ),
    Column(
        "seconds",
        "time",
        _of_result("seconds"),
        duration,
        "Time: of training a trial, mean over trials; the probe's is that of its features and its fit.",
        wanted=lambda table: table.has_probe,
        under="cost",
    ),
    Column(
        "extra",
        "extra networks",
        lambda cell: cell.extra or None,
        str,
        "Extra networks: how many others are trained for one student (teachers, assistants, peers).",
        narrow="extra\nnetworks",
        needed=False,
    ),
)
"""The numbers beside the score; a new one is one more here."""


def columns(table: Table, page: bool = False) -> list[Column]:
    """The columns that people read, in their order; on a page there is room for more of them."""
    roomy = page and table.is_comparison
    return [column for column in _every(table) if column.is_in(table) or (roomy and column.roomy)]


def _every(table: Table) -> Iterator[Column]:
    title = "method" if table.is_comparison else "variant"
    yield Column(LABEL, title, lambda cell: cell.variant, numeric=False)
    if table.recipe.search is not None:
        yield from _of_search(table)
        return
    yield _score(table)
    yield Column(
        "paper",
        "paper",
        lambda cell: cell if cell.paper else None,
        lambda cell: Text(printed(cell.paper), parts=(cell.verdict or ABSENT,)),
        parts=(Part("verdict"),),
    )
    yield from (column for column in NUMBERS if column.under == SCORE)
    yield from (_difference(table, name) for name in table.bases)
    yield from (column for column in NUMBERS if column.under != SCORE)


def _score(table: Table) -> Column:
    """The mean of the metric; where trials may be missing their number stands beside it."""
    if table.is_comparison:
        return Column(SCORE, "accuracy %", lambda cell: cell, score, wanted=lambda table: True)
    what = "held-out" if table.recipe.search is not None else "ours,"
    title = f"{what} {table.recipe.metric} %"
    narrow = title.replace(", ", ",\n")
    return Column(SCORE, title, lambda cell: cell, ours, wanted=lambda table: True, narrow=narrow)


def ours(cell: Cell) -> Text:
    """Our mean ± standard deviation and the number of trials, of how many where some are missing."""
    if cell.mean is None:
        return Text("none of", f"{len(cell.missing)} finished") if cell.missing else Text()
    of = f" of {cell.trials + len(cell.missing)}" if cell.missing else ""
    return Text(score(cell), f"({cell.trials}{of})")


def _of_search(table: Table) -> Iterator[Column]:
    search = table.recipe.search
    assert search is not None

    def is_best(cell: Cell) -> bool:
        return cell.settings.get(search.setting) == search.paper_best.get(cell.group, ABSENT)

    yield _score(table)
    nll = next(column for column in NUMBERS if column.key == "nll")
    yield replace(nll, title="held-out NLL", needed=True)
    yield Column(
        "selected",
        "selected",
        lambda cell: cell.selected,
        lambda chosen: "selected" if chosen else "",
        wanted=lambda table: True,
        numeric=False,
    )
    yield Column(
        "best",
        "the paper's best",
        is_best,
        lambda best: "best" if best else "",
        wanted=lambda table: any(map(is_best, table.cells.values())),
        numeric=False,
    )


def printed(value: Value | None) -> str:
    """A value of the paper, marked if it is not to be compared with."""
    if value is None:
        return ABSENT
    return mean_std(value.mean, value.std) + ("" if value.anchor else f" {DOUBTFUL}")


def _difference(table: Table, name: str) -> Column:
    """The differences that are called so; where they are not all to the same cell, each says to which."""
    to = {cell.bases[name] for cell in table.cells.values() if name in cell.compared}
    several = len(to) > 1 and name == REFERENCE
    base = "its reference" if several else next(iter(to), "") if name == REFERENCE else table.label(name)

    def text(found: tuple[str, Difference]) -> Text:
        label, one = found
        estimate, low, high = (signed(100 * value) for value in one.interval)
        words = p_value(one.p) or ABSENT, one.verdict
        return Text(f"to {label}: {estimate}" if several else estimate, f"[{low}, {high}]", words)

    return Column(
        f"to {name}",
        f"difference to {base}" if table.is_comparison else f"Δ to {base}",
        lambda cell: (cell.bases[name], cell.compared[name]) if name in cell.compared else None,
        text,
        wanted=(lambda table: True) if table.is_comparison else None,
        parts=(Part("p", prefix="p ", numeric=True), Part("verdict", blank="")),
        apart=table.is_comparison,
    )


@dataclass(frozen=True)
class Shown:
    """A column as it stands in a table: its title, and in each cell what stands there and below it."""

    title: str
    numeric: bool
    texts: Mapping[Place, tuple[str, str, str]]


def shown(table: Table, page: bool = False) -> list[Shown]:
    """The columns where there is room: each cell's first line, second line and look.

    Parts that stand apart have columns of their own, if any of their texts says something.
    """
    found: list[Shown] = []
    for column in columns(table, page):
        texts = {place: column.text(table, cell) for place, cell in table.cells.items()}
        if not column.apart:
            lines = {
                place: (text.line, ", ".join(column.below(text)), text.look) for place, text in texts.items()
            }
            found.append(Shown(column.title, column.numeric, lines))
            continue
        plain = {
            place: (text.line, "", text.first if text.first in LOOKS else "") for place, text in texts.items()
        }
        found.append(Shown(column.title, column.numeric, plain))
        for i, part in enumerate(column.parts):
            words = {place: text.parts[i] if text.parts else part.blank for place, text in texts.items()}
            if column.wanted or set(words.values()) - {part.blank, ABSENT}:
                own = {place: (word, "", word if word in LOOKS else "") for place, word in words.items()}
                found.append(Shown(part.title, part.numeric, own))
    return found
