"""The report: one HTML file that needs no network, made from the records of runs alone."""

import base64
import datetime
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import selftaught
from selftaught.files import record
from selftaught.files.evidence import class_sizes, gather
from selftaught.files.names import called
from selftaught.files.results import Record
from selftaught.report import render, sections, svg, words
from selftaught.report.tables import MACRO_F1, Table, tabulate

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Characters that HTML does not allow; names on disk may hold them."""


def write(
    records: Sequence[Record],
    out: Path,
    methods: Sequence[str] | None = None,
    costs: Mapping[str, float] = {},
    commands: Sequence[Sequence[str]] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the report of finished runs to the file `out`.

    Args:
        records: finished runs on the same data that differ in method and seed.
        out: the file; its folder exists. It is replaced in one step.
        methods: the order in which methods are shown; by default that of the records.
        costs: the time of a step relative to plain training, by method.
        commands: the arguments of the commands that made the runs, to be shown.
        notes: what the reader should know first, such as trials that are missing.

    Raises:
        InputError: no records, records that cannot be compared, or a damaged file.
        SelftaughtError: the file cannot be written.
    """
    record.write(out, html(records, methods, costs, commands, notes).encode())


@np.errstate(all="ignore")  # records may hold numbers of any size
def html(
    records: Sequence[Record],
    methods: Sequence[str] | None = None,
    costs: Mapping[str, float] = {},
    commands: Sequence[Sequence[str]] = (),
    notes: Sequence[str] = (),
) -> str:
    """The report as a text.

    Args:
        records: as for `write`.
        methods: as for `write`.
        costs: as for `write`.
        commands: as for `write`.
        notes: as for `write`.
    """
    methods = list(dict.fromkeys(methods or (run.config.method for run in records)))
    table = tabulate(records, methods, costs, notes)
    shown = [row.method for row in table.rows]
    styles = _styles(shown, table.baseline)
    evidence = [gather(m, [run for run in records if run.config.method == m]) for m in shown]
    ordered = [run for item in evidence for run in item.records]
    sizes = class_sizes(ordered)
    context = {
        "title": _title(ordered[0], shown),
        "table": _comparison(table, len(notes)),
        "headline": words.headline(table),
        "findings": list(words.findings(table)),
        "notes": list(notes),
        "remarks": list(table.remarks),
        "cautions": list(words.cautions(table, ordered, sizes)),
        "keys": [(method, svg.key(styles[method])) for method in shown],
        "trials": sections.trials(evidence, table, styles),
        "learning": sections.learning(evidence, table, styles),
        "curves": sections.curves(evidence, styles),
        "reliability": sections.reliability(evidence, table, styles),
        "classes": sections.classes(evidence, styles),
        "confusions": sections.confusions(evidence),
        "examples": sections.examples(evidence),
        "making": sections.making(ordered, sizes),
        "commands": [shlex.join(command) for command in commands],
        "styles": range(svg.STYLES),
        "tabs": max(len(shown), 4),
        "version": selftaught.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    return CONTROL.sub("\ufffd", environment().get_template("report.html").render(context))


def _styles(methods: Sequence[str], baseline: str) -> dict[str, int]:
    """The baseline is neutral (0), the others have colours in their order, beginning again after the last."""
    others = [method for method in methods if method != baseline]
    return {baseline: 0} | {method: 1 + i % (svg.STYLES - 1) for i, method in enumerate(others)}


def _title(first: Record, methods: Sequence[str]) -> dict[str, str]:
    return {
        "data": called(first.config.data),
        "model": called(first.config.model),
        "methods": ", ".join(methods),
    }


def _comparison(table: Table, notes: int) -> dict[str, Any]:
    texts = {"md": render.markdown(table), "csv": render.as_csv(table)}
    headers = render.headers(table, page=True)
    caption = table.caption[notes:]  # the notes stand above already
    return {
        # Where room is short a title takes two lines, but a sign stays beside its word.
        "headers": [
            re.sub(" %|(?<=×) ", lambda at: at[0].replace(" ", "\N{NO-BREAK SPACE}"), title)
            for title in headers
        ],
        "rows": [render.cells(row, table, page=True) for row in table.rows],
        "wide": table.uneven or table.has_probe,
        "verdict": headers.index(render.VERDICT),
        "caption": caption if table.uneven else (*caption, MACRO_F1),
        "files": {
            end: f"data:text/{'markdown' if end == 'md' else end};charset=utf-8;base64,"
            + base64.b64encode(text.encode(errors="replace")).decode()
            for end, text in texts.items()
        },
    }


def environment() -> Any:
    """The templates of pages, which escape whatever they are given."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("selftaught.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
