"""The command line: a thin shell that turns what goes wrong into one line and an exit code."""

import os
import sys

from selftaught.errors import SelftaughtError

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 a run failed, 2 wrong input, 130 interrupted and resumable."""
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    import typer

    from selftaught.cli.app import app

    try:
        code = app(arguments, prog_name="selftaught", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except SelftaughtError as error:
        return _refuse(str(error), WRONG_INPUT)
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not try to write the rest of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        # All files are written through `record.write`, so what is left are the standard streams and the machine.
        return _refuse(f"{error.strerror or error}{_about(error)}: make room, or write elsewhere", FAILED)
    except Exception as error:
        # The base class of typer's usage errors has moved between its versions; its interface has not.
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        return (
            _refuse(message, WRONG_INPUT) if message else WRONG_INPUT
        )  # without arguments the help was shown
    return code if isinstance(code, int) else DONE


def _about(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""


def _refuse(message: str, code: int) -> int:
    print("selftaught: error: " + " ".join(message.split()), file=sys.stderr)
    return code
