"""How files are written: a kill leaves the old content or the new one, never a half."""

import os
import tempfile
from pathlib import Path

from selftaught.errors import InputError, SelftaughtError


def write(path: Path, content: bytes) -> None:
    """Replace a file in one step: whoever reads it, also after a kill, sees the old or the new content.

    Raises:
        SelftaughtError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SelftaughtError(f"cannot write {path}: {error.strerror}") from error


def make_directory(directory: Path) -> None:
    """Create a directory that can be written to, or raise an `InputError` that says why not."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except FileExistsError:
        raise is_a_file(directory) from None
    except OSError as error:
        raise InputError(f"cannot write to {directory}: {error.strerror}; choose another --out") from None


def is_a_file(directory: Path) -> InputError:
    """The error for a file where a directory was to be."""
    return InputError(f"{directory} is a file: --out must name a directory")
