"""From YAML text to a checked object; whatever is wrong is told in one line with its place and the remedy."""

import reprlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from selftaught.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


_MOST = 2**18
"""Bytes of a recipe: fifty times what ours have, and a second's reading."""


class _Loader(yaml.SafeLoader):
    """YAML's plain values only: no key twice, of which one would be lost, and no aliases, which grow to any size."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            alias = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"the alias *{alias.anchor} stands in place of a value", alias.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        known: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break  # which the parent refuses
            if key in known:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is there twice", key_node.start_mark
                )
            known.add(key)
        return super().construct_mapping(node, deep)


def text(path: Path) -> str:
    """The content of a user's file; an `InputError` where it cannot be read."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a regular file: name a recipe's YAML file")
        if path.stat().st_size > _MOST:
            raise InputError(
                f"{path} has more than {_MOST:,} bytes, which no recipe has: name a recipe's YAML file"
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no file {path}: name a recipe's YAML file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no UTF-8 text: save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}): make it readable") from None


def mapping(content: str, where: str) -> dict[str, Any]:
    """The keys and values of a YAML text.

    >>> mapping("lr: 0.1", "my.yaml")
    {'lr': 0.1}
    >>> mapping("lr: 0.1\\nlr: 0.2", "my.yaml")
    Traceback (most recent call last):
    selftaught.errors.InputError: my.yaml, line 2: key 'lr' is there twice: correct it
    """
    try:
        values = yaml.load(content, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{where}{line}: {error.problem}: correct it") from None
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{where} is no YAML ({_line(error)}): correct it") from None
    if not isinstance(values, dict):
        raise InputError(f"{where} has no keys: write it as a YAML mapping")
    return values


def model(kind: type[Model], values: dict[str, Any], where: str) -> Model:
    """The values as a `kind`; the first of them that is refused is told.

    Raises:
        InputError: naming `where`, the key, and what it should be.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_problem(error)}") from None


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "value_error":  # raised by a validator of ours, one line with its remedy
        return f"in {place}: {first['ctx']['error']}" if place else str(first["ctx"]["error"])
    if first["type"] == "missing":
        return f"{place} is missing: add it"
    expected = first["msg"].replace("Input ", "").replace("tuple", "list").replace("dictionary", "mapping")
    return f"{place} is {reprlib.repr(first['input'])} but {expected}: correct it"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
