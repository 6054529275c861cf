"""The command line: a thin shell that turns what goes wrong into one line and an exit code."""

import os
import sys
from contextlib import suppress
from io import TextIOWrapper, UnsupportedOperation

from selftaught.errors import SelftaughtError, shown

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 some of the trials failed, 2 it could not be done, 130 interrupted.

    2 comes with one line that says what to change: input, a learning rate that diverged, a disk that is full. What was
    interrupted, or has trials that failed, goes on where it was when the command is given again.
    """
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    try:
        _replace_closed_streams()
        _allow_any_text()
        code = _call(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except SelftaughtError as error:
        return _refuse(str(error), WRONG_INPUT)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        _discard_output()
        return DONE
    except OSError as error:
        if error.filename is None:
            # Most likely of the standard output, and what it did not take now would fail again.
            _discard_output()
        return _refuse(_complaint(error), WRONG_INPUT)


def _call(arguments: list[str]) -> int:
    # Here, and not above: importing takes long enough for Ctrl-C to come in between.
    import typer

    from selftaught.cli.app import app

    try:
        code = app(arguments, prog_name="selftaught", standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:
        # The base class of typer's usage errors has moved between its versions; its interface has not.
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        if not message:  # without arguments the help was shown
            return WRONG_INPUT
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "selftaught"
        return _refuse(f"{message.rstrip('.')} (see {command} --help)", WRONG_INPUT)
    return code if isinstance(code, int) else DONE


_REMEDIES = {
    FileNotFoundError: "check its path",
    NotADirectoryError: "check its path",
    IsADirectoryError: "name a file",
    PermissionError: "make it accessible, or name another",
}


def _complaint(error: OSError) -> str:
    """What to say of an error that nobody foresaw where it arose: files are the user's to mend."""
    reason = error.strerror or str(error)
    if error.filename is None:
        return f"{reason}: make room, or write the output elsewhere"
    for kind, remedy in _REMEDIES.items():
        if isinstance(error, kind):
            return f"cannot use {error.filename} ({reason}): {remedy}"
    return f"cannot use {error.filename} ({reason}): make room, or use another place"


def _replace_closed_streams() -> None:
    """Started with a stream closed (`>&-`), Python has None in its place, and the next file would be given its number.

    What goes to stdout then fails when it is written, not before; nobody misses what goes to stderr.
    """
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _allow_any_text() -> None:
    """Names of files may hold bytes that are no text, and a terminal need not know every sign: that is no error."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """The interpreter must not try at its end to write what stdout still holds."""
    with suppress(UnsupportedOperation):  # it need not be a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(message: str, code: int) -> int:
    complain(message)
    return code


def complain(message: str) -> None:
    """Say on stderr, in one line, what went wrong."""
    print("selftaught: error: " + shown(" ".join(message.split())), file=sys.stderr)
