"""The flags that several commands share, derived from the declarations of the settings."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_origin, get_type_hints

import typer

from selftaught.errors import InputError
from selftaught.files.config import SETTINGS
from selftaught.files.settings import (
    DATA,
    MACHINE,
    METHOD,
    METHOD_SETTINGS,
    SHORTHANDS,
    TEACHING,
    TRAINING,
    Declared,
)

_OUTPUT = "Output"


class Flags:
    """A group of flags, as a parameter of a command that is `grouped`."""

    @classmethod
    def parameters(cls) -> list[inspect.Parameter]:
        """The flags, as typer takes them."""
        raise NotImplementedError


class MachineOptions(Flags):
    """Settings as flags; those that the user left out stand for the protocol's default.

    Args:
        **flags: by the names of the settings; None for those left out.
    """

    kinds: ClassVar[tuple[str, ...]] = (MACHINE,)

    def __init__(self, **flags: Any) -> None:
        self._flags = flags

    @classmethod
    def parameters(cls) -> list[inspect.Parameter]:
        """One flag for every setting of these kinds, kind after kind."""
        return [_parameter(one) for kind in cls.kinds for one in _listed() if one.kind == kind]

    def given(self) -> dict[str, Any]:
        """What the user set, under the names that `selftaught.training.presets.resolve` takes."""
        given = {name: value for name, value in self._flags.items() if value is not None}
        if "milestones" in given:
            given["milestones"] = parse_milestones(given["milestones"])
        return given


class RunOptions(MachineOptions):
    """Everything that changes what is trained."""

    kinds = (TRAINING, METHOD, TEACHING, DATA, MACHINE)


def _listed() -> Iterable[Declared]:
    """The settings that have a flag, in the order in which they are told."""
    listed = [one for one in (*SETTINGS.values(), *METHOD_SETTINGS.values()) if one.help]
    for shorthand in SHORTHANDS.values():
        names = [one.name for one in listed]
        listed.insert(names.index(shorthand.before) if shorthand.before else len(names), shorthand)
    return listed


def _parameter(setting: Declared) -> inspect.Parameter:
    kind = str if get_origin(setting.type) in (Literal, tuple) else setting.type
    flag = _flag(setting.help, setting.kind, *filter(None, [setting.flag]), metavar=setting.metavar or None)
    return _keyword(setting.name, None, Annotated[kind | None, flag])


def _keyword(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _flag(help: str, panel: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar)


@dataclass(frozen=True)
class OutputOptions(Flags):
    """Where the result goes and what is said on the way."""

    out: Annotated[Path | None, _flag("Directory of the run or comparison.", _OUTPUT)] = None
    as_json: Annotated[bool, _flag("Print the result as JSON.", _OUTPUT, "--json")] = False
    keep_checkpoints: Annotated[
        bool,
        _flag("Keep the checkpoints of finished runs, which take much room.", _OUTPUT, "--keep-checkpoints"),
    ] = False
    quiet: Annotated[bool, _flag("No progress, only the result.", _OUTPUT, "--quiet", "-q")] = False

    @classmethod
    def parameters(cls) -> list[inspect.Parameter]:
        """One flag for every field."""
        hints = get_type_hints(cls, include_extras=True)
        return [_keyword(field.name, field.default, hints[field.name]) for field in fields(cls)]


def parse_milestones(text: str) -> list[int]:
    """Epoch numbers separated by commas or spaces; ``none`` for no milestones.

    >>> parse_milestones("80,120"), parse_milestones("none")
    ([80, 120], [])
    """
    if text.strip() == "none":
        return []
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise InputError(
            f"milestones {text!r} are not epoch numbers: write them as 80,120, or none"
        ) from None


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator: each parameter that is a group of flags becomes its flags."""
    parameters = inspect.signature(command).parameters.values()
    groups: dict[str, type[Flags]] = {
        p.name: p.annotation
        for p in parameters
        if isinstance(p.annotation, type) and issubclass(p.annotation, Flags)
    }

    def call(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{flag.name: values.pop(flag.name) for flag in group.parameters()})
        command(**values)

    own = [p for p in parameters if p.name not in groups]
    shared = [flag for group in groups.values() for flag in group.parameters()]
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in [*own, *shared]}
    return call
