"""Who may train in a folder: it is claimed for one configuration, and locked while a process trains in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from selftaught.errors import InputError
from selftaught.files.config import RunConfig
from selftaught.files.contents import remedy
from selftaught.files.names import CONFIG, LOCK
from selftaught.files.reading import DamagedError
from selftaught.files.record import config_content, read_config
from selftaught.files.writing import is_a_file, make_directory, write

CLAIM_SECONDS = 10.0
"""How long a directory's configuration waits for another process that has just begun there."""


def claim(directory: Path, config: RunConfig) -> None:
    """Make `directory` the run directory of `config`, or refuse it.

    Raises:
        InputError: it is a file, cannot be written, is another process's just now, holds another run (the differences
            are named), or holds something that is not a run.
    """
    make_directory(directory)
    existing = checked(directory)
    if existing is None:
        # Without the lock another process might take what is being written for what a kill left.
        with locked(directory, CLAIM_SECONDS):
            existing = read_config(directory)
            if existing is None:
                existing = config
                write(directory / CONFIG, config_content(config))
    check_same(directory, existing, config)


def checked(directory: Path) -> RunConfig | None:
    """The configuration of the run in `directory`, which is looked at but not touched; None where there is none.

    Raises:
        InputError: it is a file, or holds something that is not a run.
        DamagedError: the configuration is not what was written.
    """
    if directory.exists() and not directory.is_dir():
        raise is_a_file(directory)
    existing = read_config(directory)
    if existing is None and directory.exists():
        names = [path.name for path in directory.iterdir() if not path.name.startswith(".")]
        strangers = [name for name in names if name != CONFIG]  # which another process may just have written
        if strangers:
            raise InputError(f"{directory} is not empty and not a run ({strangers[0]}): choose another --out")
    return existing


def check_same(directory: Path, existing: RunConfig, config: RunConfig) -> None:
    """Refuse to take the run that is in `directory` for another one.

    Raises:
        InputError: naming the differences.
    """
    if existing.trial_id != config.trial_id:
        if directory.absolute().name == config.trial_id:
            raise DamagedError(directory / CONFIG, "it is that of another trial", remedy(directory))
        changes = "; ".join(existing.differences(config))
        raise InputError(f"{directory} holds another run ({changes}): choose another --out or remove it")


@contextmanager
def locked(directory: Path, patience: float = 0.0) -> Iterator[None]:
    """While inside, no other process trains in `directory`; the lock goes with the process that holds it.

    Args:
        directory: of the run; what a killed process was about to write there is removed.
        patience: seconds to wait for a process that holds it.

    Raises:
        InputError: another process holds it.
    """
    path = directory / LOCK
    # A lock is written to, and who put a link there might wish something else to be.
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise InputError(f"{path} is no lock but a link or a folder: remove it")
    lock = FileLock(path, timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"{directory} is being trained by another process: wait for it or stop it") from None
    except OSError as error:
        raise InputError(
            f"cannot lock {path} ({error.strerror}): it is another user's; remove it, or choose another --out"
        ) from None
    try:
        for left_by_a_kill in directory.glob(".*.tmp"):
            left_by_a_kill.unlink(missing_ok=True)
        yield
    finally:
        lock.release()
