"""What a model file says of itself in constants, which are read without running it.

A fingerprint decides whether a file may be run at all, so it cannot wait for what running the file would say.
"""

import ast
import importlib.util
import os
import re
import warnings
from pathlib import Path
from typing import Any

from selftaught.data.image_files import check_link
from selftaught.errors import InputError, shown
from selftaught.models import digest

_NOT_DECLARED = {"FILES": (), "PRETRAINED": False}
_EXAMPLES = {"FILES": 'FILES = ("weights.safetensors",)', "PRETRAINED": "PRETRAINED = True"}


def pretrained(path: str, content: bytes) -> bool:
    """``PRETRAINED``: whether the model of the file at `path`, with this content, starts from trained weights."""
    value = _written(path, content, "PRETRAINED")
    if not isinstance(value, bool):
        raise InputError(f"PRETRAINED in {path} is {value!r}: make it True or False")
    return value


def digests(path: str, content: bytes) -> str:
    """A line with the name and SHA-256 of each of the ``FILES``; "" without any.

    They lie beside the file at `path`, or, as ``PACKAGE:path/in/it``, in an installed package, which is not imported.

    Raises:
        InputError: ``FILES`` is no tuple of plain names, or one of them cannot be used.
    """
    names = _written(path, content, "FILES")
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"FILES in {path} is {names!r}: make it a tuple of file names, as in {_EXAMPLES['FILES']}"
        )
    folder = Path(path).expanduser().absolute().parent
    return "".join(f"{name!r} {_digest(path, folder, name)}\n" for name in names)


def declares_pretrained(path: str, content: bytes) -> bool:
    """Whether the file has a line for ``PRETRAINED``, whatever it says."""
    return _written(path, content, "PRETRAINED", absent=None) is not None


def check(path: str, content: bytes, values: dict[str, Any]) -> None:
    """Refuse a file that, when it was run, gave its declarations other `values` than are written in it."""
    for name, nothing in _NOT_DECLARED.items():
        value, written = values.get(name, nothing), _written(path, content, name)
        if type(value) is not type(written) or value != written:
            raise _not_written_out(path, name)


def _digest(path: str, folder: Path, name: str) -> str:
    inside, what, remedy = (
        name,
        "its own folder",
        "put it there, or give the model file that has it beside it",
    )
    if in_package := re.fullmatch(r"([A-Za-z_]\w*):(.+)", name):
        package, inside = in_package.groups()
        folder = _package(path, name, package)
        what, remedy = f"the package {package}", "name one that this release of the package has"
    plain = Path(inside)
    if plain.anchor or ".." in plain.parts or plain.as_posix() != inside:
        raise InputError(
            f"FILES in {path} names {name!r}: name files in {what} or below, by their path from there"
        )
    if not (folder / inside).is_file():
        raise InputError(
            f"FILES in {path} names {name!r}, but there is no such file in {shown(folder)}: {remedy}"
        )
    check_link(folder / inside, os.path.realpath(folder))
    try:
        return digest.of_file(folder / inside)
    except OSError as error:
        raise InputError(
            f"FILES in {path} names {name!r}, which cannot be read ({error.strerror}): make it readable"
        ) from None


def _package(path: str, name: str, package: str) -> Path:
    """The folder of an installed package, which is looked for but not imported."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # ValueError for __main__ and the like
        found = None
    folders = list(found.submodule_search_locations or ()) if found else []
    if not folders:
        raise InputError(
            f"FILES in {path} names {name!r}, but no package {package} is installed: install the one that the file "
            "belongs to"
        )
    return Path(folders[0])


def _written(path: str, content: bytes, name: str, absent: Any = ...) -> Any:
    """The value of the last top-level assignment to `name`; what stands for none where there is no such line."""
    value = _NOT_DECLARED[name] if absent is ... else absent
    for statement in _statements(content):
        match statement:
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.expr() as written):
                pass
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as written):
                pass
            case _:
                continue
        if target == name:
            try:
                value = ast.literal_eval(written)
            except Exception:  # several kinds, by what is not a literal
                raise _not_written_out(path, name) from None
    return value


def _statements(content: bytes) -> list[ast.stmt]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # running the file gives them too, with its name
            return ast.parse(content).body
    except Exception:  # running it says what is wrong, and where
        return []


def _not_written_out(path: str, name: str) -> InputError:
    return InputError(
        f"{name} in {path} must be readable without running the file: write it out at the top level, as in "
        f"{_EXAMPLES[name]}"
    )
