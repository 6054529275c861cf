"""What each section of the report shows, as plain values for its template; None where the runs kept nothing for it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selftaught.files.catalogue import PROBE
from selftaught.files.evidence import BINS, Evidence, Examples
from selftaught.report import charts, facts, pixels, sentences
from selftaught.report.columns import ABSENT, NUMBERS
from selftaught.report.learning import learning as learning_of
from selftaught.report.numbers import percent, signed
from selftaught.report.table import Cell, Table

_QUANTITIES = (
    ("Accuracy", "accuracy %", "accuracy", 100.0),
    ("Loss", "loss", "loss", 1.0),
    ("NLL", "NLL, nats per image", "nll", 1.0),
    ("ECE", "ECE %", "ece", 100.0),
)
_PARTS = (("train_", "training images"), ("val_", "held-out images"))

_MOST_CLASSES = 20
"""More classes are shown as the hardest ones and the most confused pairs."""

_MOST_ROWS = 1000
"""More classes are not listed one by one: the page would be too heavy to open."""

_MOST_PAIRS = 12
_MOST_MAPS = 10

Rows = list[list[str]]
Shown = dict[str, Any]


def trials(evidence: Sequence[Evidence], styles: Mapping[str, int]) -> Shown:
    """Accuracy of each seed."""
    accuracy = {
        item.method: {run.config.seed: 100 * run.result.accuracy for run in item.records} for item in evidence
    }
    seeds = sorted({seed for of in accuracy.values() for seed in of})
    return {
        "seeds": charts.seeds(accuracy, styles),
        "headers": ["seed", *accuracy],
        "rows": [[str(seed), *(number(of.get(seed), ".2f") for of in accuracy.values())] for seed in seeds],
    }


def learning(table: Table, styles: Mapping[str, int]) -> Shown | None:
    """What the linear probe makes of fewer images; None where it was not tried."""
    found = learning_of(table.records)
    if found is None:
        return None
    runs = [run for run in table.records if run.config.method == PROBE]
    return {
        "sentence": sentences.more_images(found),
        "chart": charts.learning(found, styles.get(PROBE, 0)),
        "trials": found.trials,
        "strength": facts.strength(runs),
        "test": runs[0].result.data.test,
        "headers": ["training images", "accuracy %", "lowest to highest", "balanced %", "seconds"],
        "rows": [
            [
                f"{point.images:,}",
                percent(point.accuracy),
                f"{percent(point.lowest)} to {percent(point.highest)}",
                share(point.balanced_accuracy),
                f"{point.seconds:.2f}",
            ]
            for point in found.points
        ],
    }


def curves(evidence: Sequence[Evidence], styles: Mapping[str, int]) -> list[Shown]:
    """For each quantity that some run recorded its charts: training images, and held-out images where there are any."""
    panels = []
    for name, unit, stem, factor in _QUANTITIES:
        found = {}
        for prefix, part in _PARTS if stem != "loss" else (("", "training images"),):
            of = {
                item.method: factor * item.curves[prefix + stem]
                for item in evidence
                if prefix + stem in item.curves
            }
            if of:
                found[part] = of
        if not found:
            continue
        shared = [table for of in found.values() for table in of.values()]
        panels.append(
            {
                "name": name,
                "unit": unit,
                "charts": [
                    (part, charts.curves(of, shared, f"{unit}, {part}", styles)) for part, of in found.items()
                ],
                "headers": ["method", "images", "first epoch", "best epoch", "last epoch"],
                "rows": [
                    [method, part, *_ends(table, largest=stem == "accuracy")]
                    for part, of in found.items()
                    for method, table in of.items()
                ],
            }
        )
    return panels


def reliability(
    evidence: Sequence[Evidence], table: Table, cells: Sequence[Cell], styles: Mapping[str, int]
) -> list[Shown]:
    """A diagram per method that kept its predictions."""
    scaled = next(column for column in NUMBERS if column.key == "ece_scaled")
    return [
        {
            "method": item.method,
            "chart": charts.reliability(item.method, item.reliability, item.scaled, styles[item.method]),
            "ece": share(cell.ece),
            "scaled": None if item.scaled is None else share(scaled.value(table, cell)),
            "temperatures": [
                f"{run.result.temperature:.2f}" for run in item.records if run.result.temperature
            ],
            "headers": ["confidence %", "predictions", "mean confidence %", "accuracy %"]
            + (["predictions, scaled", "accuracy %, scaled"] if item.scaled is not None else []),
            "rows": _bins(item.reliability, item.scaled),
        }
        for item, cell in zip(evidence, cells, strict=True)
        if item.reliability is not None
    ]


def classes(evidence: Sequence[Evidence], styles: Mapping[str, int]) -> Shown | None:
    """Accuracy of each class; the chart shows only the hardest of many, the table only the hardest of very many."""
    names = evidence[0].classes
    known = {
        item.method: 100 * _per_class(item.outcomes, len(names))
        for item in evidence
        if item.outcomes is not None
    }
    if not known:
        return None
    mean = np.mean(list(known.values()), axis=0)
    hardest = np.argsort(mean, kind="stable")
    shown = [int(k) for k in hardest[:_MOST_CLASSES] if np.isfinite(mean[k])]
    if len(names) <= _MOST_CLASSES:
        shown = sorted(shown)
    listed = sorted(hardest[:_MOST_ROWS].tolist())
    of_shown = {method: values[shown] for method, values in known.items()}
    return {
        "chart": charts.classes(of_shown, [names[k] for k in shown], styles),
        "all": len(names) <= _MOST_CLASSES,
        "shown": len(shown),
        "count": len(names),
        "headers": ["class", *known],
        "listed": f"the {len(listed)} hardest of {len(names)}" if len(listed) < len(names) else "",
        "rows": [[names[k], *(number(of[k], ".1f") for of in known.values())] for k in listed],
    }


def confusions(evidence: Sequence[Evidence]) -> list[Shown]:
    """Per method the confusion matrix as a table, or the most confused pairs and, unless too large, a picture."""
    outcomes = {item.method: item.outcomes for item in evidence if item.outcomes is not None}
    matrices = {item.method: matrix for item in evidence if (matrix := item.confusion) is not None}
    names = evidence[0].classes
    small = len(names) <= _MOST_CLASSES
    shares = {method: _shares(matrix) for method, matrix in matrices.items() if small}
    worst = max((float(_wrong(matrix).max()) for matrix in shares.values()), default=0.0) or 1.0
    return [
        {
            "method": method,
            "names": names if small else (),
            "count": len(names),
            "matrix": _cells(shares[method], worst) if small else None,
            "picture": pixels.matrix(matrices[method]) if method in matrices and not small else None,
            "pairs": _pairs(counts, names),
        }
        for method, counts in outcomes.items()
    ]


def examples(evidence: Sequence[Evidence], most: int) -> list[Shown]:
    """Per method up to so many explained test images of its first seed, the right ones and the wrong ones."""
    shown = []
    for item in evidence:
        if item.examples is None:
            continue
        names = item.classes
        found = [_example(item.examples, i, names) for i in _some(item.examples, most)]
        groups = [
            ("Confident and right", [example for example in found if example["right"]]),
            ("Confident and wrong", [example for example in found if not example["right"]]),
        ]
        settings = item.records[0].config.settings
        shown.append(
            {
                "method": item.method,
                "seed": item.records[0].config.seed,
                "saliency": settings.get("saliency"),
                "centred": bool(settings.get("centre")),
                "similarity": settings.get("similarity", "cosine"),
                "groups": [(title, members) for title, members in groups if members],
            }
        )
    return shown


def number(value: float | None, form: str) -> str:
    """A number in this form; a dash where there is none."""
    return ABSENT if value is None or not np.isfinite(value) else format(value, form)


def share(value: float | None) -> str:
    """A fraction in %."""
    return number(None if value is None else 100 * value, ".2f")


def _some(found: Examples, most: int) -> list[int]:
    """The positions of so many examples; of few as many right ones as wrong ones, where there are both."""
    right = found.probabilities.argmax(axis=1) == found.labels
    places = range(len(found.index))
    if len(places) <= most:
        return list(places)
    of = ([i for i in places if right[i]], [i for i in places if not right[i]])
    half = max(most // 2, most - min(map(len, of)))
    return sorted([*of[0][:half], *of[1][: most - len(of[0][:half])]])


def _ends(table: np.ndarray, largest: bool) -> list[str]:
    """First, best and last value of the mean over seeds."""
    known = np.isfinite(table).any(axis=0)
    mean = np.nanmean(table[:, known], axis=0)
    best = int(mean.argmax() if largest else mean.argmin())
    return [
        f"{mean[0]:.3f}",
        f"{mean[best]:.3f} (epoch {np.flatnonzero(known)[best] + 1})",
        f"{mean[-1]:.3f}",
    ]


def _bins(before: np.ndarray, scaled: np.ndarray | None) -> Rows:
    rows = []
    for b in range(BINS):
        row = [f"{100 * b / BINS:.0f}–{100 * (b + 1) / BINS:.0f}", f"{before[0, b]:.0f}"]
        row += [_share(before[2, b], before[0, b]), _share(before[1, b], before[0, b])]
        if scaled is not None:
            row += [f"{scaled[0, b]:.0f}", _share(scaled[1, b], scaled[0, b])]
        rows.append(row)
    return rows


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else ABSENT


def _shares(confusion: np.ndarray) -> np.ndarray:
    return confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)


def _wrong(matrix: np.ndarray) -> np.ndarray:
    return matrix * (1 - np.eye(len(matrix)))


def _totals(outcomes: np.ndarray, classes: int) -> np.ndarray:
    """Images of each true class."""
    return np.bincount(outcomes[:, 0], outcomes[:, 2], classes)


def _per_class(outcomes: np.ndarray, classes: int) -> np.ndarray:
    """The share of each class's images that are right, nan for a class without images."""
    images = _totals(outcomes, classes)
    right = _totals(outcomes[outcomes[:, 0] == outcomes[:, 1]], classes)
    return np.where(images > 0, right / np.maximum(images, 1), np.nan)


def _cells(shares: np.ndarray, worst: float) -> list[list[Shown]]:
    """Texts in % and strengths in 0..100: of right ones by share, of mistakes by the root of their share of `worst`."""
    return [
        [
            {
                "text": _short(100 * share) if share else "",
                "right": i == j,
                "strength": round(100 * (share if i == j else np.sqrt(share / worst))),
            }
            for j, share in enumerate(row)
        ]
        for i, row in enumerate(shares)
    ]


def _short(percent: float) -> str:
    return f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}"


def _pairs(outcomes: np.ndarray, names: Sequence[str]) -> Rows:
    """The most frequent mistakes: true class, predicted class, how many, and of the true class's images how many %."""
    totals = _totals(outcomes, len(names))
    wrong = outcomes[outcomes[:, 0] != outcomes[:, 1]]
    order = np.argsort(-wrong[:, 2], kind="stable")[:_MOST_PAIRS]
    return [
        [names[truth], names[taken_for], str(count), _share(count, totals[truth])]
        for truth, taken_for, count in wrong[order].tolist()
    ]


def _example(found: Examples, i: int, names: Sequence[str]) -> Shown:
    truth, probabilities = int(found.labels[i]), found.probabilities[i]
    prediction = int(probabilities.argmax())
    strongest = float(np.abs(found.maps[i]).max())
    return {
        "picture": pixels.picture(found.images[i]),
        "photograph": pixels.is_photograph(found.images[i]),
        "shape": "{1}/{0}".format(*found.images.shape[2:]),
        "small": max(found.images.shape[2:]) < pixels.PHOTOGRAPH,
        "index": int(found.index[i]),
        "called": found.called(i),
        "right": truth == prediction,
        "truth": names[truth],
        "prediction": names[prediction],
        "probability": f"{100 * probabilities[prediction]:.0f}",
        "maps": [
            {
                "picture": pixels.saliency(found.maps[i, k], strongest),
                "coarse": max(found.maps.shape[2:]) < pixels.PHOTOGRAPH // 2,
                "name": names[label],
                "probability": f"{100 * probabilities[label]:.0f}",
                "similarity": signed(found.similarity[i, k]),
                "truth": label == truth,
                "prediction": label == prediction,
            }
            for k, label in list(enumerate(found.classes[i].tolist()))[:_MOST_MAPS]
        ],
    }
