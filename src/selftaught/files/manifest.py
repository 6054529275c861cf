"""What was made of a study, and lies in its folder beside the trials: tables, pages, costs, each with its digest.

files.json holds the SHA-256 of each file by its name. A name is taken out before its file is written and put back
after it: of what a kill leaves half done nothing is said, rather than something wrong. Studies of older versions have
no such file; those of today have it from their beginning.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from selftaught.files import sealing
from selftaught.files.names import MANIFEST, TRIALS
from selftaught.files.reading import DamagedError, exists, read_bytes
from selftaught.files.writing import write as write_file

_REMEDY = "remove it, and the command of the study writes it again"


def write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write files of a folder, one after another; in that of a study with their digests.

    Raises:
        SelftaughtError: a file cannot be written.
    """
    if not (directory / TRIALS).is_dir():
        for name, content in files.items():
            write_file(directory / name, content)
        return
    try:
        before = read(directory)
    except DamagedError:
        before = {}
    others = {name: digest for name, digest in before.items() if name not in files}
    if others != before or not exists(directory / MANIFEST):
        _write(directory, others)
    for name, content in files.items():
        write_file(directory / name, content)
    _write(directory, others | {name: sealing.sha256(content, name) for name, content in files.items()})


def read(directory: Path) -> dict[str, str]:
    """The digests by name; none in a folder that has no such file.

    Raises:
        DamagedError: the file is not what was written.
    """
    path = directory / MANIFEST
    if not exists(path):
        return {}
    digests = sealing.read(path, ("files",), _REMEDY).get("files")
    if not isinstance(digests, dict) or not all(isinstance(value, str) for value in digests.values()):
        raise DamagedError(path, "it holds no digests", _REMEDY)
    if any(name in ("", ".", "..") or "/" in name or "\\" in name for name in digests):
        raise DamagedError(path, "it names files of other folders", _REMEDY)
    return digests


def content(directory: Path, name: str, most: int | None = None) -> bytes:
    """A file of the folder, which is what was written.

    Raises:
        DamagedError: it is not, or missing.
    """
    found = read_bytes(directory / name, most, _REMEDY)
    told = read(directory).get(name)
    if told is not None and sealing.sha256(found, name) != told:
        raise DamagedError(directory / name, "it is not what was written", _REMEDY)
    return found


def faults(directory: Path) -> Iterator[DamagedError]:
    """What is wrong with the files that have a digest."""
    try:
        names = list(read(directory))
    except DamagedError as fault:
        yield fault
        return
    for name in names:
        try:
            content(directory, name)
        except DamagedError as fault:
            yield fault


def _write(directory: Path, digests: Mapping[str, str]) -> None:
    write_file(directory / MANIFEST, sealing.seal({"files": dict(sorted(digests.items()))}))
