"""What all benchmarks share: alternating measurements, peak memory, and pages of what was found.

A machine is never quiet: whatever else it does must meet all contestants alike. So they take turns on one process, each
is compared with its neighbours in time, and the median of those ratios is reported with the range that holds their
middle half.
"""

import argparse
import datetime
import gc
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from selftaught.training import memory
from selftaught.training.environment import describe, usable_cores

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "benchmarks"
LEAST_ROUNDS = 5

Contestant = Callable[[], "float | None"]


@dataclass(frozen=True)
class Timing:
    """One contestant.

    Attributes:
        seconds: the median time of a call.
        ratio: the median, over rounds, of its time over the base's in the same round.
        low: the first quartile of those ratios.
        high: their third quartile.
        rounds: how many there were.
    """

    seconds: float
    ratio: float
    low: float
    high: float
    rounds: int


class Comparison(Mapping[str, Timing]):
    """Contestants by name; `times` has the seconds of each in every round."""

    def __init__(self, times: Mapping[str, Sequence[float]], base: str) -> None:
        self.times, self.base = times, base
        self._timings = {name: _timing(seconds, times[base]) for name, seconds in times.items()}

    def __getitem__(self, name: str) -> Timing:
        return self._timings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._timings)

    def __len__(self) -> int:
        return len(self._timings)


def _timing(seconds: Sequence[float], base: Sequence[float]) -> Timing:
    ratios = [own / other for own, other in zip(seconds, base, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if ratios[1:] else 3 * ratios
    return Timing(statistics.median(seconds), middle, low, high, len(ratios))


def alternate(
    contestants: Mapping[str, Contestant], base: str, rounds: int, seconds: float, warm_up: int = 3
) -> Comparison:
    """Call the contestants in turn and compare each with `base`.

    Every round calls each of them once and begins with another one: who follows whom must not favour anyone.

    Args:
        contestants: calls by name; one that returns a number has measured itself (seconds, preparation not counted),
            any other is timed, until the device is done.
        base: the name of the one that the others are compared with.
        rounds: how many to measure.
        seconds: no further round begins after so many, warm-up not counted, once there are 5 (or `rounds`, if less).
        warm_up: calls of each that are not measured.
    """
    if base not in contestants:
        raise ValueError(f"{base!r} is not among the contestants {list(contestants)}")
    names = list(contestants)
    for name in names * warm_up:
        timed(contestants[name])
    times: dict[str, list[float]] = {name: [] for name in names}
    # Garbage is collected between rounds and at no one's expense.
    collects = gc.isenabled()
    begun = time.perf_counter()
    try:
        for index in range(rounds):
            if index >= LEAST_ROUNDS and time.perf_counter() - begun >= seconds:
                break
            gc.collect()
            gc.disable()
            first = index % len(names)
            for name in names[first:] + names[:first]:
                times[name].append(timed(contestants[name]))
    finally:
        if collects:
            gc.enable()
    return Comparison(times, base)


def timed(call: Contestant) -> float:
    """Seconds of a call, by its own measurement if it returns one."""
    synchronize()
    begun = time.perf_counter()
    own = call()
    synchronize()
    taken = time.perf_counter() - begun
    return own if isinstance(own, float) else taken


def synchronize() -> None:
    """Wait until a GPU that is in use is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak_memory(
    call: Callable[[], object],
    device: torch.device | str | None = None,
    prepare: Callable[[], object] = memory.nothing,
) -> int:
    """Bytes that torch has allocated at the peak of a call above those before it; on the GPU if one is in use.

    What `prepare`, called once before, leaves allocated counts, but not its own peak: see `selftaught.training.memory`.
    """
    used = "cuda" if torch.cuda.is_initialized() else "cpu"
    return memory.peak(call, used if device is None else device, prepare)


def environment() -> dict[str, Any]:
    """When and on what something was measured; nothing that names the machine or its user."""
    gpu = torch.cuda.is_available()
    about = describe(torch.device("cuda" if gpu else "cpu"))
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": about["processor"],
        "cores": usable_cores(),
        "threads": about["threads"],
        "ram_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": about["gpu"] if gpu else None,
        "torch": about["torch"],
        "python": about["python"],
        "platform": about["platform"],
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The revision that was measured, with a + where files differ from it; None outside of a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@dataclass(frozen=True)
class Table:
    """A heading, named columns, rows of as many cells (text, numbers, None), and a line below."""

    heading: str
    columns: list[str]
    rows: list[list[Any]]
    note: str = ""

    def markdown(self) -> str:
        """For people: numbers rounded and set right."""
        numeric = [
            all(row[i] is None or isinstance(row[i], (int, float)) for row in self.rows)
            for i in range(len(self.columns))
        ]
        lines = [self.columns, ["---:" if right else "---" for right in numeric]]
        lines += [[shown(cell) for cell in row] for row in self.rows]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"## {self.heading}\n\n{text}\n" + (f"\n{self.note}\n" if self.note else "")

    def plain(self) -> dict[str, Any]:
        """For programs: numbers as they were measured, a row a mapping from columns."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"heading": self.heading, "columns": self.columns, "rows": rows, "note": self.note}


@dataclass
class Page:
    """What a benchmark found, as `name.md` for people and `name.json` with every number."""

    name: str
    title: str
    intro: str
    tables: list[Table] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=environment)

    def table(
        self, heading: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = ""
    ) -> None:
        """Add a table; it is printed as well, so that a long run shows how far it is."""
        added = Table(heading, list(columns), [list(row) for row in rows], note)
        if any(len(row) != len(added.columns) for row in added.rows):
            raise ValueError(f"{heading!r}: every row needs {len(added.columns)} cells")
        self.tables.append(added)
        print(added.markdown(), flush=True)

    def write(self, folder: Path = PAGES) -> None:
        """Write both files into `folder`, which is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = [f"# {self.title}\n", f"{self.intro}\n", f"{_machine(self.environment)}\n"]
        parts += [table.markdown() for table in self.tables]
        (folder / f"{self.name}.md").write_text("\n".join(parts))
        plain = {
            "name": self.name,
            "title": self.title,
            "intro": self.intro,
            "environment": self.environment,
            "tables": [table.plain() for table in self.tables],
        }
        (folder / f"{self.name}.json").write_text(json.dumps(plain, indent=1) + "\n")


def _machine(about: Mapping[str, Any]) -> str:
    text = (
        "Measured on {date}: {cpu}, {cores} cores, {threads} threads, {ram_gb} GB, GPU: {gpu}; torch {torch}, "
        "Python {python}, {platform}; commit {commit}."
    )
    return text.format(**{key: "none" if value is None else value for key, value in about.items()})


def shown(cell: Any) -> str:
    """A cell for people.

    >>> [shown(x) for x in (1.0234, 3.14159, 27.182, 12345.6, 7, None, "text")]
    ['1.023', '3.14', '27.2', '12,346', '7', '–', 'text']
    """
    if cell is None:
        return "–"
    if not isinstance(cell, float):
        return str(cell).replace("|", "\\|")
    digits = next((digits for limit, digits in ((2, 3), (10, 2), (100, 1)) if abs(cell) < limit), 0)
    return f"{cell:,.{digits}f}"


def _folder(text: str) -> Path:
    """A folder, made if need be: whether it can be written must not turn out after everything was measured."""
    try:
        Path(text).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no folder that can be made: {error.strerror}"
        ) from None
    return Path(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time: give a positive number of seconds")
    return seconds


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device to a benchmark that runs on a GPU too."""
    parser.add_argument("--device", type=_device, default=torch.device("cpu"), help="cpu or cuda")


def _device(name: str) -> torch.device:
    if name not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{name!r} is no device: cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("there is no GPU here that torch can use: leave out --device")
    return torch.device(name)


def page_name(name: str, device: torch.device) -> str:
    """What a page is called: those of a GPU stand beside those of a CPU."""
    return f"{name}_gpu" if device.type == "cuda" else name


def arguments(description: str | None, seconds: float) -> argparse.ArgumentParser:
    """The flags of every benchmark, to which one may add its own.

    Args:
        description: its docstring.
        seconds: the default of --seconds, what one comparison may take.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds in all, to see that it runs")
    parser.add_argument("--out", type=_folder, default=PAGES, help="folder of the pages")
    parser.add_argument("--seconds", type=_seconds, default=seconds, help=f"per comparison ({seconds:g})")
    return parser
