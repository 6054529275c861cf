"""A report on what lies in directories: comparisons, also unfinished ones, and single runs."""

import textwrap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from selftaught.errors import InputError
from selftaught.files import integrity, manifest, record
from selftaught.files import study_folder as folder
from selftaught.files.catalogue import PROBE
from selftaught.files.reading import DamagedError, exists
from selftaught.files.results import Record
from selftaught.report import build
from selftaught.report.markdown import begins_table as begins_markdown
from selftaught.report.plain import begins_table as begins_csv

_GENERATOR = b'<meta name="generator" content="selftaught'
"""What a page of a report holds near its beginning."""

_LONGEST_ERROR = 300
"""Characters of an error that are shown; errors that nobody foresaw can be pages long."""


class _Absent(NamedTuple):
    """A trial that is not finished, by its directory's name where not even its method is known."""

    method: str
    seed: int | None = None
    error: str | None = None


@dataclass
class Found:
    """What a report is made of.

    Attributes:
        records: the finished trials.
        methods: their methods, in the order asked for when they were trained.
        costs: the time of a step relative to plain training, by method.
        commands: the commands that made them, where they are known.
        notes: what is missing, a line each.
        missing: of each method the seeds that are not finished, a line each.
    """

    records: list[Record] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)
    commands: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: dict[str, list[str]] = field(default_factory=dict)


def read(directories: Sequence[Path]) -> Found:
    """The finished trials in directories, each of which is a comparison or a run.

    Raises:
        InputError: no directory, one that is neither, a run that is not finished, a damaged file, or no finished
            trial at all.
    """
    if not directories:
        raise InputError("there is nothing to report on: name a comparison's directory or run directories")
    found = Found()
    for directory in map(Path, directories):
        if (directory / folder.TRIALS).is_dir():
            _refuse_reproduction(directory)
            _add_comparison(found, directory)
        elif exists(directory / record.CONFIG) or record.read_config(directory) is not None:
            _add_run(found, directory)
        else:
            what = (
                f"has neither {folder.TRIALS}/ nor {record.CONFIG}"
                if directory.is_dir()
                else "is not a directory"
            )
            raise InputError(f"{directory} {what}: name the directory of a comparison or of a run")
    found.records = list({run.result.trial_id: run for run in found.records}.values())
    if not found.records:
        raise InputError(f"no trial in {directories[0]} is finished: the command that started it resumes it")
    others = sorted((run.config.method for run in found.records), key=_place)
    methods = dict.fromkeys([*found.methods, *others])
    found.methods = sorted(methods, key=lambda method: method == PROBE)
    # Names on disk may hold bytes that are no text, which cannot be printed.
    found.notes = [note.encode(errors="replace").decode() for note in found.notes]
    return found


def _place(method: str) -> tuple[bool, bool, str]:
    """Where a method stands that nobody gave a place: plain training first, the linear probe last."""
    return method == PROBE, method != "ce", method


def write(directories: Sequence[Path], out: Path) -> list[Path]:
    """Write the report on `directories` to the file `out`, its table as Markdown and CSV beside it.

    Returns:
        The three files.

    Raises:
        InputError: as for `read` and `selftaught.report.table.tabulate`, or `out` is no name for an HTML file, a
            directory, or would replace a file that is not part of a report.
        SelftaughtError: a file cannot be written.
    """
    out = Path(out)
    files = [out, out.with_suffix(".md"), out.with_suffix(".csv")]
    _check_writable(files)
    found = read(directories)
    table = build.comparison(found.records, found.methods, found.costs, found.notes, found.missing)
    texts = (
        build.html([table], (), build.About(commands=tuple(found.commands))),
        build.markdown(table),
        build.as_csv(table),
    )
    record.make_directory(out.parent)
    contents = (text.encode(errors="replace") for text in texts)
    manifest.write(out.parent, dict(zip((path.name for path in files), contents, strict=True)))
    return files


def _add_run(found: Found, directory: Path) -> None:
    found.records.append(record.read(directory))
    try:
        found.commands += record.read_commands(directory)
    except DamagedError as error:
        found.notes.append(_left_out(error, directory.absolute().name, "the command of the run is"))


def _left_out(error: DamagedError, name: str, what: str) -> str:
    return f"{error.path.name} of {name} is damaged ({error.reason}): {what} left out."


def _refuse_reproduction(directory: Path) -> None:
    graph = None
    with suppress(InputError):  # damaged: it says nothing of a comparison's trials
        graph = folder.read_graph(directory)
    if graph is not None and graph.budget:
        raise InputError(
            f"{directory} is a reproduction: its own command, selftaught reproduce ... --budget {graph.budget} "
            f"--out {directory}, makes its tables and page again"
        )


def _add_comparison(found: Found, directory: Path) -> None:
    name = directory.absolute().name
    described, trials = folder.read_study(directory), folder.compared(directory)
    if described is None and exists(directory / folder.GRAPH):
        found.notes.append(
            f"{folder.STUDY} of {name} is damaged (it is missing): this report is about all trials in {folder.TRIALS}/."
        )
    if described is not None:
        found.methods += described.methods
        found.commands += [start.command for start in described.starts]
    finished = [trial for trial in trials if record.is_finished(trial)]
    for trial in trials:
        integrity.check_unfinished(trial)
    known = {m.trial_id: _Absent(m.method, m.seed, m.error) for m in described.missing} if described else {}
    absent = [known.get(trial.name) or _from_config(trial) for trial in trials if trial not in finished]
    for one in absent:
        if one.seed is not None:
            found.missing.setdefault(one.method, []).append(f"seed {one.seed}")
    found.notes += _about_absent(absent, f"{len(trials)} trials of {name}")
    records = [record.read(trial) for trial in finished]
    found.records += records
    costs: dict[str, float] = {}
    try:
        costs = folder.read_costs(directory)
    except DamagedError as error:
        found.notes.append(_left_out(error, name, "the time of a step is"))
    for run in records:
        trial_id = run.result.trial_id  # as it was recorded: a newer version may name the trial differently
        if trial_id in costs:
            found.costs.setdefault(run.config.method, costs[trial_id])


def _from_config(trial: Path) -> _Absent:
    """A trial that study.json does not name, by its own files."""
    try:
        config = record.read_config(trial)
    except InputError:  # damaged, but all that is wanted here is a name
        config = None
    return _Absent(config.method, config.seed) if config else _Absent(trial.name)


def _about_absent(absent: Sequence[_Absent], whole: str) -> list[str]:
    """What the reader must know of trials that are not in the tables: `whole` says what they are missing from."""
    unfinished = [trial for trial in absent if trial.error is None]
    failed = [trial for trial in absent if trial.error is not None]
    notes = []
    if unfinished:
        notes.append(
            f"{len(unfinished)} of {whole} are not finished: {_named(unfinished)}. This report is about the others. "
            "The command that started the comparison resumes it."
        )
    if failed:
        notes.append(
            f"{len(failed)} of {whole} failed and are left out: {_named(failed)}. Averages over the trials that are "
            "left are too good if it was the bad ones that failed (survivorship bias): a method whose trials fail is "
            "not shown to be better by those that did not. The command that started the comparison tries them again."
        )
    return notes


def _named(trials: Sequence[_Absent]) -> str:
    """Methods, seeds and errors; trials of a method that failed alike are named together."""
    alike: dict[tuple[str, str | None], list[str]] = {}
    for method, seed, error in trials:
        alike.setdefault((method, error), []).extend([] if seed is None else [str(seed)])
    return "; ".join(
        " ".join(method.split())
        + (f" seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}" if seeds else "")
        + (f" ({textwrap.shorten(error, _LONGEST_ERROR, placeholder=' …')})" if error else "")
        for (method, error), seeds in alike.items()
    )


def _check_writable(files: Sequence[Path]) -> None:
    out = files[0]
    if out.is_dir():
        raise InputError(f"{out} is a directory: name a file in it, such as {out / 'report.html'}")
    if out.suffix != ".html":
        raise InputError(f"{out} is no name for an HTML file: call it {out.with_suffix('.html').name}")
    if out.parent.exists() and not out.parent.is_dir():
        raise InputError(f"{out.parent} is a file: choose another place for {out.name}")
    for path in files:
        if path.exists() and not _is_ours(path):
            raise InputError(f"{path} exists and is not part of a report: choose another name for {out.name}")


def _is_ours(path: Path) -> bool:
    """Whether a file is one that `write` made; others are not overwritten."""
    try:
        with path.open("rb") as file:
            begin = file.read(2000)
    except OSError as error:
        raise InputError(f"cannot replace {path}: {error.strerror}") from None
    if path.suffix == ".html":
        return _GENERATOR in begin
    begins = begins_csv if path.suffix == ".csv" else begins_markdown
    return begins(begin.decode(errors="replace"))
