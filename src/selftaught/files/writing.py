"""How files are written: a kill leaves the old content or the new one, never a half."""

import os
from pathlib import Path

from selftaught.errors import SelftaughtError


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
