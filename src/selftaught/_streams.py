"""Standard streams that take whatever is written to them, also where nobody reads it any more."""

import os
import sys
import warnings
from contextlib import suppress
from io import BufferedWriter, FileIO, TextIOWrapper, UnsupportedOperation
from pathlib import Path
from typing import Any

from selftaught.errors import Note


def prepare() -> None:
    """Make stdout and stderr take any text and mind no reader that has gone, as `| head -1` does.

    Done here and not where the error would be caught: Typer and Rich catch it first, and end with exit code 1.
    """
    _replace_closed()
    sys.stdout, sys.stderr = _forgiving(sys.stdout), _forgiving(sys.stderr)
    plain_warnings()


def discard_output() -> None:
    """The interpreter must not try at its end to write what stdout still holds."""
    with suppress(UnsupportedOperation):  # it need not be a file
        _to_nowhere(sys.stdout.fileno())


def plain_warnings() -> None:
    """Our own warnings are for who typed a command: a line without the code that it came from."""
    warnings.formatwarning = _plainly


def _plainly(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    # Where a command is started is no line of anybody's program, which a note of ours would point to.
    if issubclass(category, Note) or Path(filename).is_relative_to(Path(__file__).parent):
        return f"selftaught: note: {' '.join(str(message).split())}\n"
    return _as_python_does(message, category, filename, lineno, line)


_as_python_does = warnings.formatwarning


class _Forgiving(FileIO):
    """Where the reader has gone: whoever read our output has seen enough, and the work itself goes on."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream.fileno(), "w", closefd=False)
        self.below = stream  # which closes the file when nobody holds it

    def write(self, data: Any, /) -> int:
        """As much as is taken, which is everything once nobody reads."""
        try:
            return super().write(data)
        except BrokenPipeError:
            _to_nowhere(self.fileno())  # for good, also for what C code and processes started later write
            return memoryview(data).nbytes


def _forgiving(stream: Any) -> Any:
    """The stream with a `_Forgiving` file below it, if it is one that Python opened for a process."""
    if not isinstance(stream, TextIOWrapper):
        return stream
    raw = getattr(stream.buffer, "raw", stream.buffer)  # it is unbuffered where Python was started with -u
    if type(raw) is not FileIO:
        return stream
    with suppress(OSError):
        stream.flush()
    return TextIOWrapper(
        BufferedWriter(_Forgiving(stream)),
        encoding=stream.encoding,
        # Names of files may hold bytes that are no text, and a terminal need not know every sign: that is no error.
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _replace_closed() -> None:
    """Started with a stream closed (`>&-`), Python has None in its place, and the next file would be given its number.

    What goes to stdout then fails when it is written, not before; nobody misses what goes to stderr. Processes that
    are started later take these over.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # the lowest number that is free: this one
    sys.stdout = os.fdopen(1, "w") if sys.stdout is None else sys.stdout
    sys.stderr = os.fdopen(2, "w") if sys.stderr is None else sys.stderr


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
