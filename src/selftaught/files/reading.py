"""How files that may come from a stranger are read: no pipe, no link out of their folder, no more than is sensible."""

import os
import stat
from pathlib import Path

from selftaught.errors import InputError

MOST_TEXT = 2**26
"""Bytes that a JSON file of a run or a study may have: a thousand times what is usual."""


class DamagedError(InputError):
    """A file is not what was written; says which, what is wrong with it and what to do about it.

    Attributes:
        path: the file or folder.
        reason: what is wrong, in a few words.
        remedy: what to do.
    """

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        self.path, self.reason, self.remedy = path, " ".join(reason.split()), remedy
        super().__init__(f"{path} is damaged ({self.reason}): {remedy}")


def read_bytes(path: Path, most: int | None = None, remedy: str = "") -> bytes:
    """The content of a regular file.

    Args:
        path: the file.
        most: bytes beyond which it is refused unread.
        remedy: what to do where it is damaged; by default to remove it.

    Raises:
        DamagedError: it is missing, a folder, a pipe, a link out of its folder, or too large.
        InputError: it cannot be read.
    """
    remedy = remedy or "remove it"
    try:
        kind = path.stat()  # a pipe that somebody put there would keep us waiting for ever
        if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
            raise DamagedError(path, "it is a link out of its folder", remedy)
        if not stat.S_ISREG(kind.st_mode):
            what = "a folder" if stat.S_ISDIR(kind.st_mode) else "not a regular file"
            raise DamagedError(path, f"it is {what}", remedy)
        if most is not None and kind.st_size > most:
            raise DamagedError(path, f"it has {kind.st_size:,} bytes, more than {most:,}", remedy)
        return path.read_bytes()
    except FileNotFoundError:
        raise DamagedError(path, "it is missing", remedy) from None
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}): make it readable") from None


def exists(path: Path) -> bool:
    """Whether anything is called so: a folder, a pipe or a link to nowhere as well.

    Raises:
        InputError: the folder cannot be looked into.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"cannot look into {path.parent} ({error.strerror}): make it readable") from None
    return True


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a path, which looks as if it were inside a folder, leads out of it through a link."""
    return not Path(os.path.realpath(path)).is_relative_to(Path(os.path.realpath(folder)))
