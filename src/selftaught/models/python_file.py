"""Models of the user's own: ``path.py:function``."""

import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, redirect_stdout
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from selftaught.data.preparation import Preparation, taken_for_granted, usual
from selftaught.errors import InputError, unknown
from selftaught.models import declarations
from selftaught.models.architecture import Architecture, Spec, register_pattern
from selftaught.models.wrapped import reason, try_out


@register_pattern(r"(.+\.py):([A-Za-z_]\w*)")
class PythonFile(Architecture):
    """The model that `function` of the Python file at `path` (relative or with ~ as well) returns.

    The function is called with those of `num_classes`, `in_channels`, `image_size` (height, width) and `dropout` that
    it takes, and with `pretrained` if it has a parameter of this name: True, but False where the weights of a finished
    run are about to be loaded. The file may hold ``PREPARATION``, a `selftaught.data.preparation.Preparation`;
    ``FILES``, the names of files beside it or in installed packages that it reads; and ``PRETRAINED = True``. The
    fingerprint is that of the function's name, of this file and of its ``FILES``, so the file cannot import its
    neighbours.
    """

    runs_code = True

    def __init__(self, path: str, function: str) -> None:
        super().__init__(f"{function}() of {path}")
        self.path, self.function, self.located = path, function, f"{_location(path)}:{function}"

    def build(self, spec: Spec) -> nn.Module:
        """See `Architecture`."""
        name = f"{self.path}:{self.function}"
        build = _function(self.path, self.function, with_files=False) if not spec.pretrained else None
        if build is None or not _takes_pretrained(build):
            build = _function(self.path, self.function)
        arguments = _arguments(name, build, spec)
        try:
            with _printing_to_stderr():
                model = build(**arguments)
        except InputError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise InputError(f"{name}() fails{_line(error, self.path)}: {_reason(error)}") from None
        if not isinstance(model, nn.Module):
            raise InputError(f"{name}() returns {type(model).__name__}: it must return a torch.nn.Module")
        with _printing_to_stderr():
            remedy = "use another --image-size or mend its forward()"
            if spec.in_channels == 1:
                remedy += ", or have grey pictures made colour, PREPARATION = Preparation(channels=3)"
            try_out(name, model, spec, remedy)
        return model

    def preparation(self) -> Preparation:
        """See `Architecture`."""
        found = self._said()
        return usual(found) if self.pretrained() else found

    def fingerprint(self) -> str:
        """See the class."""
        content = _content(self.path)
        # Without FILES nothing is added: runs from before there were any keep their identity.
        whole = content + self.function.encode() + declarations.digests(self.path, content).encode()
        return hashlib.sha256(whole).hexdigest()

    def pretrained(self) -> bool:
        """See `Architecture`."""
        return declarations.pretrained(self.path, _content(self.path))

    def declared(self) -> bool:
        """See `Architecture`."""
        return declarations.declares_pretrained(self.path, _content(self.path))

    def source(self) -> bytes:
        """See `Architecture`."""
        return _content(self.path)

    def rebuilds(self) -> bool:
        """See `Architecture`."""
        return _takes_pretrained(_function(self.path, self.function, with_files=False))

    def notes(self) -> tuple[str, ...]:
        """What is taken for granted of a pretrained network's images."""
        note = taken_for_granted(self._said()) if self.pretrained() else None
        told = f"{self.path} does not say how its trained weights want their images: {note}; PREPARATION in it says"
        return () if note is None else (f"{told} otherwise",)

    def _said(self) -> Preparation:
        found = getattr(_module(self.path), "PREPARATION", Preparation())
        if not isinstance(found, Preparation):
            kind, known = type(found).__name__, "selftaught.data.preparation.Preparation"
            raise InputError(f"PREPARATION in {self.path} is a {kind}: make it a {known}")
        return found


@register_pattern(r"(?!hf:|timm:|torchvision:)(.+\.py)")
def _without_function(path: str) -> Architecture:
    raise InputError(f"unknown model {path!r}: name its function, FILE.py:FUNCTION, for example {path}:build")


def _location(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _content(path: str) -> bytes:
    try:
        if _location(path).exists() and not _location(path).is_file():
            raise InputError(f"model file {path} is not a regular file: name a Python file")
        return _location(path).read_bytes()
    except OSError as error:
        raise InputError(f"model file {path} cannot be read ({error.strerror}): check its path") from None


def _module(path: str, with_files: bool = True) -> ModuleType:
    content = _content(path)
    try:
        digests = declarations.digests(path, content)
    except InputError:
        if with_files:
            raise
        digests = "gone"
    return _run(path, content, _location(path), digests)


@lru_cache
def _run(path: str, content: bytes, location: Path, _digests: str) -> ModuleType:
    """The file as a module: run once, from the very bytes that are fingerprinted, with no cache beside it.

    It is run again where it lies elsewhere, or other files beside it, since it may read them while it is run.
    """
    name = f"selftaught_model_{hashlib.sha256(content).hexdigest()[:16]}"
    module = ModuleType(name)
    module.__file__ = str(location)  # by which it finds its FILES
    sys.modules[name] = module  # dataclasses and pickle look a class's module up by its name
    try:
        with _printing_to_stderr():
            exec(compile(content, path, "exec"), module.__dict__)
    except BaseException as error:  # a foreign file may raise anything
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise InputError(
            f"model file {path} fails{_line(error, path)}: {_reason(error)}{_hint(error)}"
        ) from None
    declarations.check(path, content, vars(module))
    return module


def _function(path: str, function: str, with_files: bool = True) -> Callable[..., Any]:
    own = vars(_module(path, with_files))
    if callable(own.get(function)):
        return own[function]
    public = [name for name, value in own.items() if callable(value) and not name.startswith("_")]
    raise unknown(f"function of {path}", function, public)


def _takes_pretrained(build: Callable[..., Any]) -> bool:
    return "pretrained" in inspect.signature(build).parameters


def _arguments(name: str, build: Callable[..., Any], spec: Spec) -> dict[str, Any]:
    """What `build` is called with: what it takes of what there is."""
    there_is = {
        "num_classes": spec.num_classes,
        "in_channels": spec.in_channels,
        "image_size": (spec.height, spec.width),
        "dropout": spec.dropout,
        "pretrained": spec.pretrained,
    }
    parameters = inspect.signature(build).parameters.values()
    for parameter in parameters:
        needed = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if needed and (parameter.name not in there_is or parameter.kind is parameter.POSITIONAL_ONLY):
            raise InputError(
                f"{name}() needs {parameter.name!r}, but is called with {', '.join(there_is)} by name: "
                "give it a default"
            )
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = {parameter.name for parameter in parameters}
    # Whoever takes anything did so before there was `pretrained`, and may hand it on to what does not take it.
    taken = {n: value for n, value in there_is.items() if n in named or (anything and n != "pretrained")}
    if spec.dropout and "dropout" not in taken:
        raise InputError(f"{name}() takes no dropout, which the method needs: give it a parameter 'dropout'")
    return taken


def _printing_to_stderr() -> AbstractContextManager[Any]:
    """What the file prints goes to stderr: stdout is for results, which other programs may read."""
    return redirect_stdout(sys.stderr)


def _line(error: BaseException, path: str) -> str:
    """Where in the file at `path`: its innermost line that was being run, or that cannot be parsed."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    if isinstance(error, SyntaxError) and error.filename == path:
        lines.append(error.lineno)
    return f" in line {lines[-1]}" if lines else ""


def _reason(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else reason(error)
    return f"{type(error).__name__}: {message}"


def _hint(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return " (a model file stands alone: put what it needs into it, or install it as a package)"
    return ""
