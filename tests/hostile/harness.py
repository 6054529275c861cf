"""Commands called by the hundred, in children that may hang, die or eat memory without harm.

A child is a fork of this process, in which everything is imported; it works through its cases one after another, and
where one takes too long it is killed and another child goes on with the next case. Only what a command says, how it
ends and what it takes comes back.
"""

import io
import os
import pickle
import resource
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from selftaught import cli

for _found in iter_modules(cli.__path__, "selftaught.cli."):
    import_module(_found.name)  # once here, and not again in every child
for _module in ("lightning_fabric", "pandas", "pyarrow.parquet"):
    import_module(_module)

SECONDS = 60.0
"""Longer than any case takes on a busy machine: what takes longer hangs."""

MEMORY = 4 << 30
"""Bytes of resident memory that no command on a small input may exceed."""

_ADDRESSES = 10 << 30
"""Where a child's requests for memory are denied, for the sake of the machine."""

_FILE = 1 << 30
"""Bytes of a file that a child may write."""


@dataclass(frozen=True)
class Said:
    """How a command ended: `code` is None where it never did, `trace` what it should have caught."""

    command: tuple[str, ...]
    code: int | None
    out: str = ""
    err: str = ""
    trace: str = ""
    peak: int = 0
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """Everything that was printed."""
        return self.out + self.err


@dataclass
class Case:
    """What is done in a child: `prepare` in an empty folder, then commands (or functions) one after another.

    `facts` gets, after each command, what else is compared: files that it wrote, for example.
    """

    name: str
    prepare: Callable[[Path], None]
    commands: Sequence[Any]
    facts: Callable[[str, Said], dict[str, Any]] = field(default=lambda command, said: {})


@dataclass(frozen=True)
class Ended:
    """What came of a case: what each command said, and the facts. `fault`: it hung or its process died."""

    name: str
    said: tuple[Said, ...] = ()
    facts: tuple[dict[str, Any], ...] = ()
    fault: str = ""


def call(arguments: Sequence[str]) -> Said:
    """A command in this process, with what it printed as bytes of its own."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape", write_through=True) for _ in "oe")
    code, trace, start = None, "", time.monotonic()
    _forget_peak()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = cli._run(list(arguments))
        except SystemExit as end:
            trace = f"SystemExit({end.code!r}) is nobody's exit code"
        except BaseException:
            trace = traceback.format_exc()
    said = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)]  # type: ignore[attr-defined]
    return Said(tuple(arguments), code, *said, trace, _peak(), time.monotonic() - start)


def each(cases: Sequence[Case], folder: Path, seconds: float = SECONDS) -> Iterator[Ended]:
    """What comes of each case, in a folder of its own below `folder` that is removed afterwards."""
    waiting = list(enumerate(cases))
    while waiting:
        reading, child = _start(waiting, folder)
        while waiting:
            answer = _receive(reading, seconds)
            _, case = waiting.pop(0)
            if not isinstance(answer, str):
                yield answer
                continue
            os.kill(child, signal.SIGKILL)
            yield Ended(case.name, fault=answer)
            break
        os.close(reading)
        os.waitpid(child, 0)


def _start(waiting: Sequence[tuple[int, Case]], folder: Path) -> tuple[int, int]:
    """A child that works through the cases; the end of a pipe on which it answers, and its number."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child:
        os.close(writing)
        return reading, child
    code = 1
    try:
        os.close(reading)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for number, case in waiting:
            answer = pickle.dumps(_attend(case, folder / str(number)))
            os.write(writing, struct.pack("Q", len(answer)))
            for start in range(0, len(answer), 1 << 16):
                os.write(writing, answer[start : start + (1 << 16)])
        code = 0
    finally:
        os._exit(code)


def _attend(case: Case, folder: Path) -> Ended:
    folder.mkdir(parents=True)
    os.chdir(folder)
    case.prepare(folder)
    said, facts = [], []
    for command in case.commands:
        name = command if callable(command) else command[0]
        heard = command() if callable(command) else call(command)
        said.append(heard)
        facts.append(case.facts(getattr(name, "__name__", name), heard))
    os.chdir("/")
    _remove(folder)
    return Ended(case.name, tuple(said), tuple(facts))


def _remove(folder: Path) -> None:
    """Bytes, since a name need not be text."""
    for path, folders, files in os.walk(os.fsencode(folder), topdown=False):
        for name in files:
            os.unlink(os.path.join(path, name))
        for name in folders:
            whole = os.path.join(path, name)
            (os.unlink if os.path.islink(whole) else os.rmdir)(whole)
    os.rmdir(folder)


def _receive(reading: int, seconds: float) -> Any:
    """The next answer; a string says why there is none."""
    until, wanted, content = time.monotonic() + seconds, 8, b""
    length = None
    while len(content) < wanted:
        ready, _, _ = select.select([reading], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return f"hangs: nothing after {seconds:.0f} s"
        part = os.read(reading, min(wanted - len(content), 1 << 20))
        if not part:
            return "its process died"
        content += part
        if length is None and len(content) == 8:
            (length,) = struct.unpack("Q", content)
            wanted, content = length, b""
    return pickle.loads(content)  # of our own child


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The most resident memory since it was last forgotten, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def faults(ended: Ended) -> list[str]:
    """In what way a case breaks the promises that hold for every command, one line each."""
    found = [f"{ended.name}: {ended.fault}"] if ended.fault else []
    for said in ended.said:
        words = [ended.name, " ".join(map(ascii, said.command))]
        errors = [line for line in said.err.splitlines() if line.startswith("selftaught: error: ")]
        wrong = {
            "traceback": said.trace.strip().splitlines()[-1:] if said.trace else [],
            "traceback printed": ["yes"] if "Traceback (most recent" in said.text else [],
            "exit code": [str(said.code)] if not said.trace and said.code not in (0, 1, 2) else [],
            # A check names every fault on a line of its own, as its answer.
            "errors": [str(len(errors))]
            if said.code == 2 and said.command[0] != "check" and len(errors) != 1
            else [],
            "reached the limit of memory": [said.err.strip()] if "not enough memory" in said.err else [],
            "memory": [f"{said.peak >> 20} MB"] if said.peak > MEMORY else [],
            "terminal": [ascii(said.text[-200:])] if "\x1b" in said.text or "\x07" in said.text else [],
        }
        found += [": ".join([*words, kind, *what]) for kind, what in wrong.items() if what]
    return found
