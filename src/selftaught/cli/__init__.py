"""The command line: a thin shell that turns what goes wrong into one line and an exit code."""

import errno
import os
import sys

from selftaught import _streams
from selftaught.errors import InputError, SelftaughtError, shown

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 some of the trials failed, 2 it could not be done, 130 interrupted.

    2 comes with one line that says what to change: input, a learning rate that diverged, a disk that is full. What was
    interrupted, or has trials that failed, goes on where it was when the command is given again.
    """
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    try:
        _streams.prepare()
        _refuse_copies()
        code = _call(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except SelftaughtError as error:
        return _refuse(str(error), WRONG_INPUT)
    except Exception as error:
        if _is_out_of_memory(error):
            return _refuse(_OUT_OF_MEMORY, FAILED)
        if not isinstance(error, OSError):
            raise
        if error.filename is None:
            # Most likely of the standard output, and what it did not take now would fail again.
            _streams.discard_output()
        return _refuse(_complaint(error), WRONG_INPUT)


def _call(arguments: list[str]) -> int:
    # Here, and not above: importing takes long enough for Ctrl-C to come in between.
    import typer

    from selftaught.cli import busy
    from selftaught.cli.app import app

    try:
        with busy.shown(quiet=not {"-q", "--quiet"}.isdisjoint(arguments)):
            code = app(arguments, prog_name="selftaught", standalone_mode=False)
    except typer.Abort as error:
        if isinstance(error.__cause__, EOFError):  # which Typer takes for the end of what a user types
            raise error.__cause__ from None
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


_LAUNCHERS = {
    "WORLD_SIZE": "torchrun or accelerate launch",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpiexec",
    "SLURM_STEP_NUM_TASKS": "srun",
}
"""Who starts a command several times, by the variable that says to each copy how many there are."""


def _refuse_copies() -> None:
    """Refuse to be one of several copies: each would do all of the work, in the same folder.

    Raises:
        InputError: a launcher of distributed programs has started more than one.
    """
    for variable, launcher in _LAUNCHERS.items():
        count = os.environ.get(variable, "1")
        if count.isdecimal() and int(count) > 1:
            raise InputError(
                f"{launcher} has started {count} copies of this command ({variable}={count}), which would all do the "
                "same: start it once, without a launcher; compare and reproduce spread trials over cores and GPUs "
                "themselves (--jobs)"
            )


_OUT_OF_MEMORY = (
    "there is not enough memory: close other programs, or use smaller images (--image-size), smaller batches "
    "(--batch-size) or fewer trials at once (--jobs 1)"
)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, NumPy, the system or torch (which only says so in words) had no memory to give."""
    words = ("can't allocate memory", "out of memory", "cannot allocate memory")
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and any(part in str(error).lower() for part in words))
    )


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


def _refuse(message: str, code: int) -> int:
    complain(message)
    return code


def complain(message: str) -> None:
    """Say on stderr, in one line, what went wrong."""
    print("selftaught: error: " + shown(" ".join(message.split())), file=sys.stderr)
