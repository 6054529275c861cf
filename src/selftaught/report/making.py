"""How a page's trials were made: data, settings, environment and a line for each trial, as plain values."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from selftaught.files.evidence import class_sizes
from selftaught.files.names import called
from selftaught.files.results import DataSummary, Record
from selftaught.report.columns import ABSENT
from selftaught.report.sections import number, share
from selftaught.report.table import Table

_MOST_CLASSES = 1000
"""More classes are not named one by one."""

_WORDS = {None: "none", True: "yes", False: "no"}

Shown = dict[str, Any]


def making(tables: Sequence[Table]) -> Shown:
    """Data, configuration, environment and trials of all tables; those of tables on held-out images are not listed."""
    every = list({run.config.trial_id: run for table in tables for run in table.records}.values())
    tested = [table for table in tables if table.recipe.judged_on == "test"]
    cells = {
        run.config.trial_id: (run, one)
        for table in tested
        for cell in table.cells.values()
        for run, one in zip(cell.records, cell.classes, strict=True)
    }
    records, found = [run for run, _ in cells.values()], [one for _, one in cells.values()]
    of_data: dict[str, list[Record]] = {}
    for run in every:
        of_data.setdefault(run.config.data, []).append(run)
    top5 = any(of.top5_accuracy is not None for of in found)
    return {
        "data": [(called(name), list(_data_facts(runs))) for name, runs in of_data.items()],
        "settings": _settings(records),
        "shared": _shared(
            [run.config.model_dump(mode="json") for run in every], ("method", "settings", "seed")
        ),
        "environment": _shared([dict(run.result.environment) for run in every], ()),
        "headers": [
            "method",
            "seed",
            "trial",
            "accuracy %",
            "balanced %",
            "macro F1 %",
            *(["top-5 %"] if top5 else []),
            "NLL",
            "ECE %",
            "temperature",
            "minutes",
            "images/s",
        ],
        "rows": [
            [
                run.config.method,
                str(run.config.seed),
                run.result.trial_id,
                f"{100 * run.result.accuracy:.2f}",
                share(of.balanced_accuracy),
                share(of.macro_f1),
                *([share(of.top5_accuracy)] if top5 else []),
                f"{run.result.nll:.3f}",
                f"{100 * run.result.ece:.2f}",
                number(run.result.temperature, ".2f"),
                f"{run.result.seconds / 60:.1f}",
                f"{run.result.images_per_second:,.0f}",
            ]
            for run, of in zip(records, found, strict=True)
        ],
    }


def _data_facts(records: Sequence[Record]) -> Iterable[tuple[str, str]]:
    sizes = class_sizes(records)
    config, data = records[0].config, records[0].result.data
    yield "data", config.data
    yield "fingerprint", _listed(run.config.data_fingerprint[:12] for run in records)
    more = f" and {len(data.classes) - _MOST_CLASSES:,} more" if len(data.classes) > _MOST_CLASSES else ""
    yield "classes", f"{len(data.classes)}: " + ", ".join(data.classes[:_MOST_CLASSES]) + more
    held_out = f", {data.val:,} more held out" if data.val else ", none held out"
    yield "training images", f"{data.train:,}{held_out}"
    parts = [run.result.data for run in records]
    yield "test images", f"{data.test:,}; {_listed(part.test_part for part in parts)}"
    if sizes is not None and sizes.min() < sizes.max():
        fewest, most = (f"{sizes[k]:,} ({data.classes[k]})" for k in (sizes.argmin(), sizes.argmax()))
        yield "test images per class", f"from {fewest} to {most}"
    yield "test images also in training", _listed(str(part.duplicates or "none") for part in parts)
    height, width = data.image_size
    yield (
        "input",
        f"{width} × {height} pixels, {'grey' if data.channels == 1 else 'colour'}, {_fitted(data)}",
    )
    if data.levels is not None:
        yield "grey values", "{:,g} to {:,g} of more than 8 bits became black to white".format(*data.levels)
    yield "resampling", data.resample
    yield "mean", _listed(_decimals(part.mean) for part in parts)
    yield "standard deviation", _listed(_decimals(part.std) for part in parts)


def _decimals(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _fitted(data: DataSummary) -> str:
    if data.crop is None:
        return "stretched to size"
    how, side = ("stretched", "each") if data.stretch else ("scaled", "the shorter")
    return f"{how} and cut out ({100 * data.crop:.0f} % of {side} side)"


def _settings(records: Sequence[Record]) -> Shown:
    """The methods' own settings side by side."""
    of = {run.config.method: run.config.settings for run in records}
    names = list(dict.fromkeys(name for settings in of.values() for name in settings))
    rows = [[name, *(_plain(settings.get(name, ABSENT)) for settings in of.values())] for name in names]
    return {"headers": ["setting", *of], "rows": rows}


def _shared(values: Sequence[Mapping[str, Any]], without: Sequence[str]) -> list[tuple[str, str]]:
    """Each name with its value, or with all of its values where the runs differ."""
    names = dict.fromkeys(name for one in values for name in one if name not in without)
    return [(name, _listed(_plain(one.get(name)) for one in values)) for name in names]


def _plain(value: Any) -> str:
    if isinstance(value, dict):  # the configuration of a teacher
        return f"{called(str(value.get('model')))} ({value.get('method')}, seed {value.get('seed')})"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return _WORDS.get(value, str(value)) if value is None or isinstance(value, bool) else str(value)


def _listed(values: Iterable[str]) -> str:
    """The distinct ones; a value may itself be several, as `environment.joined` puts them beside each other."""
    return "; ".join(dict.fromkeys(part for value in values for part in value.split("; ")))
