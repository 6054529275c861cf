"""Image files: what lies in a folder, what of it can be used, and a collection made of labelled ones."""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image

from selftaught.data import pictures, splits
from selftaught.data.encoded import Collection, Part
from selftaught.data.parts import absent, check_classes, divide, ordered
from selftaught.errors import InputError, shown

# Pictures all the same, though not of a kind that is read: whoever has them wants to know.
_NOT_READ = frozenset(
    """
    .ai .arw .avif .cr2 .cr3 .dcm .dng .emf .eps .exr .hdr .heic .heics .heif .hif .jp2 .jxl .nef .orf .ps .psd .raf
    .raw .rw2 .svg .svgz .wmf .xcf
    """.split()  # noqa: SIM905  (easier to read than quotes)
)

# What cameras, programs for photographs and makers of data sets put beside pictures.
_BESIDE = frozenset(
    """
    .aae .bib .cfg .css .csv .db .doc .docx .gz .htm .html .info .ini .ipynb .js .json .jsonl .lnk .log .m .m4v .mat
    .md .mov .mp4 .npy .npz .odt .ods .pdf .pkl .pp3 .py .rar .rst .rtf .sh .tar .thm .toml .tsv .txt .url .xls .xlsx
    .xml .xmp .yaml .yml .zip
    """.split()  # noqa: SIM905  (easier to read than quotes)
)

_BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n": "PNG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"RIFF": "WebP",
}

# What operating systems leave in folders, beside hidden files.
_LITTER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found", "icon\r"}


@dataclass(frozen=True)
class Labelled:
    """An image file, its state on disk, its class, its part (train, test, validation), and its group, if it has one."""

    path: Path
    state: os.stat_result
    label: str
    part: str
    group: str | None = None


class Files:
    """Pictures that are files of their own."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int) -> bytes:
        """The file's content; InputError where it cannot be read (any more)."""
        try:
            return self._paths[index].read_bytes()
        except OSError as error:
            raise InputError(_unreadable(self._paths[index], error)) from error

    def name(self, index: int) -> str:
        """The file's path."""
        return shown(self._paths[index])


def is_image(name: str) -> bool:
    """Whether a file's suffix says that it is an image.

    >>> is_image("cat.JPG"), is_image("notes.txt"), is_image("cat")
    (True, False, False)
    """
    return os.path.splitext(name)[1].lower() in _suffixes()


def is_picture(path: Path) -> bool:
    """Whether a file is meant to be a picture, read or not: by its suffix, or else by its first bytes.

    Raises:
        InputError: it has to be looked into and cannot be read.
    """
    suffix = os.path.splitext(path.name)[1].lower()
    if is_image(path.name) or suffix in _NOT_READ:
        return True
    return suffix not in _BESIDE and _beginning(path) is not None


def is_plain_companion(name: str) -> bool:
    """Whether a file's suffix alone says that it lies beside pictures and is none.

    >>> is_plain_companion("1.xml"), is_plain_companion("1.heic"), is_plain_companion("1.part")
    (True, False, False)
    """
    return os.path.splitext(name)[1].lower() in _BESIDE


def _beginning(path: Path) -> str | None:
    """The format of a picture by its first bytes; None for any other file, and for what is no regular file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with open(path, "rb") as file:
            start = file.read(12)
    except OSError as error:
        raise InputError(_unreadable(path, error)) from error
    if start.startswith(b"RIFF") and not start.endswith(b"WEBP"):
        return None
    return next((kind for sign, kind in _BEGINNINGS.items() if start.startswith(sign)), None)


@lru_cache(maxsize=1)
def _suffixes() -> frozenset[str]:
    decoded = set(pictures.formats())
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in decoded)


def listing(folder: Path) -> tuple[list[Path], list[Path]]:
    """The sub-folders and the other entries of a folder, each in the order of names; no hidden ones, no litter.

    Raises:
        InputError: the folder cannot be read.
    """
    return scan(folder)[:2]


def scan(folder: Path) -> tuple[list[Path], list[Path], list[str]]:
    """As `listing`, and the names of the hidden entries and of the litter; those of folders end in a slash."""
    folders, others, passed = list[Path](), list[Path](), list[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith(".") or entry.name.lower() in _LITTER:
                    passed.append(entry.name + "/" * entry.is_dir())
                else:
                    (folders if entry.is_dir() else others).append(folder / entry.name)
    except OSError as error:
        raise InputError(_unreadable(Path(error.filename or folder), error)) from error
    return folders, others, passed


def walk(folder: Path, root: Path | None, above: Sequence[str] = ()) -> Iterator[Path]:
    """All visible files below a folder, in an order that does not depend on the file system.

    Links are followed, but not out of `root`, if there is one. `above` are the real paths that the walk came through.

    Raises:
        InputError: a link that leaves `root` or leads in a circle, a folder that cannot be read.
    """
    real_root = None if root is None else os.path.realpath(root)
    above = above or [*filter(None, [real_root]), os.path.realpath(folder)]
    folders, others = listing(folder)
    for path in others:
        if path.is_symlink():
            check_link(path, real_root)
        yield path
    for path in folders:
        real = check_link(path, real_root) if path.is_symlink() else os.path.join(above[-1], path.name)
        if real in above:
            raise InputError(f"{shown(path)} is a link that leads in a circle: remove it")
        yield from walk(path, root, [*above, real])


def check_link(path: Path, root: str | None) -> str:
    """The real path that a path leads to when its links are followed.

    Raises:
        InputError: it is not below the real path `root`, if there is one: a name must not reach what nobody offered.
    """
    real = os.path.realpath(path)
    if root is not None and not Path(real).is_relative_to(root):
        raise InputError(
            f"{shown(path)} is a link that leaves the folder {shown(root)}: put a copy in its place"
        )
    return real


def offered(folder: Path) -> str:
    """The real path of all that a folder offers to be read: itself, or, in the Hub's cache, its whole repository."""
    # There the files of a snapshot are links to blobs beside it.
    real = Path(os.path.realpath(folder))
    for inner in (real, *real.parents):
        if inner.parent.name == "snapshots" and (inner.parent.parent / "blobs").is_dir():
            return str(inner.parent.parent)
    return str(real)


def regular(path: Path) -> os.stat_result:
    """The state of a file that ends.

    Raises:
        InputError: it cannot be reached, or is a folder, a pipe or a device, which may never end.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(_unreadable(path, error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{shown(path)} is not a regular file: remove it")
    return found


def state(path: Path) -> os.stat_result:
    """The state of an image file; InputError where it is none by its suffix, no regular file, empty or out of reach."""
    if not is_image(path.name):
        raise InputError(_no_image(path))
    found = regular(path)
    if not found.st_size:
        raise InputError(f"{shown(path)} is empty (0 bytes): replace or remove it")
    return found


def _no_image(path: Path) -> str:
    suffix = os.path.splitext(path.name)[1].lower()
    if suffix in pictures.HEIC:
        return (
            f"{shown(path)} is not an image that can be read ({suffix}): {pictures.HEIC_ADVICE}, or remove it"
        )
    if suffix in _NOT_READ:
        return f"{shown(path)} is not an image that can be read ({suffix}): convert it to JPEG or PNG, or remove it"
    if kind := _beginning(path):
        return f"{shown(path)} is a {kind} picture without the suffix of one: rename it (.{kind.lower()}), or remove it"
    return f"{shown(path)} is not an image (by its suffix): remove it, or move it elsewhere"


def _unreadable(path: Path, error: OSError) -> str:
    gone = isinstance(error, FileNotFoundError | NotADirectoryError)
    remedy = "check its path" if gone else "make it readable, or remove it"
    return f"{shown(path)} cannot be read ({error.strerror or error}): {remedy}"


def collection(
    root: Path, labelled: Sequence[Labelled], where: str, notes: Sequence[str], split_by: str | None = None
) -> Collection:
    """Files below `root` as a collection; `where` is the source in messages, `split_by` that of `data.load`.

    Raises:
        InputError: there is no training part, only one class, a class that one of the parts lacks, or a single
            image of a class in a source that is not divided.
    """
    parts: dict[str, list[Labelled]] = {}
    if split_by is not None:
        labelled = _grouped(labelled, split_by, root, where)
    for row in labelled:
        parts.setdefault(row.part, []).append(row)
    train, test, more = divide(parts, where)
    classes = tuple(ordered({row.label for row in [*train, *(test or [])]}))
    code = {name: label for label, name in enumerate(classes)}

    def part(rows: list[Labelled]) -> Part:
        groups = [row.group for row in rows if row.group is not None]
        labels = torch.tensor([code[row.label] for row in rows])
        return Part(Files([row.path for row in rows]), labels, groups or None)

    learned, tested = part(train), part(test) if test else None
    tested_labels = tested.labels if tested else None
    check_classes(classes, learned.labels, tested_labels, where)
    if problems := absent(classes, learned.labels, tested_labels):
        raise InputError(f"{where}: {problems[0]}: add some, or remove the class from the other part")
    return Collection(classes, learned, tested, _key(root, [train, test or []]), notes=(*notes, *more))


def _grouped(labelled: Sequence[Labelled], split_by: str, root: Path, where: str) -> list[Labelled]:
    """With the group of each: by a column, or else by its path."""
    lacking = [row for row in labelled if row.group is None]
    if lacking and len(lacking) < len(labelled):
        raise InputError(f"{where}: not every table has the column {shown(split_by)!r}: add it to all")
    if not lacking:
        return list(labelled)
    by = splits.group_pattern(split_by)
    return [
        replace(row, group=splits.group_in_path(by, row.path.relative_to(root).as_posix()))
        for row in labelled
    ]


def _key(root: Path, parts: Sequence[Sequence[Labelled]]) -> str:
    """From names and states alone: reading every byte of a large folder at each start would take minutes."""
    content = hashlib.sha256()
    for rows in parts:
        content.update(f"{len(rows)} files;".encode())
        for row in rows:
            name = row.path.relative_to(root).as_posix()
            seen = row.state
            content.update(repr((name, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, row.label)).encode())
    return content.hexdigest()
