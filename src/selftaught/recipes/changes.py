"""The settings of training and data that a recipe may give, derived from their declarations."""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from pydantic import create_model, model_validator

from selftaught import errors
from selftaught.errors import InputError
from selftaught.files.config import SETTINGS
from selftaught.files.protocols import NAMED
from selftaught.files.settings import SHORTHANDS, TRAINING
from selftaught.recipes.values import Share, Strict

_SHARES = {"milestones": tuple[float, ...], "warmup": Share}
"""What a recipe gives as fractions of the epochs."""

_ELSEWHERE = ("model", "weights", "seed")
"""What a recipe gives elsewhere, or a command."""

KEYS = (
    *(name for name, one in SETTINGS.items() if one.kind == TRAINING and name not in _ELSEWHERE),
    "warmup",
    "augment",
    "val_fraction",
)
"""The keys of a protocol."""

REQUIRED = (
    *(name for name in KEYS if name in SETTINGS and SETTINGS[name].default is ...),
    *_SHARES,
    "augment",
)
"""Those that the protocol of a recipe says whatever happens to the defaults of commands."""


_USUAL = ("optimizer", "schedule", "val_fraction")
"""Those for which it has a run's own defaults instead."""


def _fields(names: Iterable[str], default: Callable[[str], Any] = lambda name: None) -> dict[str, Any]:
    """Settings as fields of a model, with the types and ranges that are declared."""
    kinds: dict[str, Any] = {name: one.annotated for name, one in (SETTINGS | SHORTHANDS).items()} | _SHARES
    return {
        name: (kinds[name] | None if default(name) is None else kinds[name], default(name)) for name in names
    }


_Changes: Any = create_model("_Changes", __base__=Strict, **_fields(KEYS))


class Changes(_Changes):
    """What a group or a variant changes of its data's `Protocol`; None leaves it."""

    @model_validator(mode="after")
    def _increasing(self) -> "Changes":
        bounds = [0.0, *(self.milestones or ()), 1.0]
        if any(a >= b for a, b in pairwise(bounds)):
            raise InputError(
                f"milestones {list(self.milestones or ())} must be fractions of the epochs that increase "
                "between 0 and 1: correct them"
            )
        return self


_Protocol: Any = create_model(
    "_Protocol",
    __base__=Changes,
    **_fields(REQUIRED, lambda _: ...),
    **_fields(_USUAL, lambda name: SETTINGS[name].default),
)


class Protocol(_Protocol):
    """How the networks of one dataset are trained: SGD unless it says otherwise.

    `like` takes over a named protocol (`selftaught.files.protocols.NAMED`) but for what is said beside it. `milestones`
    and `warmup` (of the methods that begin with plain training) are fractions of the epochs; `augment` is a name in
    `selftaught.files.protocols.AUGMENT`; `val_fraction` is held out of the training part. What is left out is as the
    network is usually trained.
    """

    @model_validator(mode="before")
    @classmethod
    def _like(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "like" not in values:
            return values
        name = values["like"]
        if not isinstance(name, str) or name not in NAMED:
            raise errors.unknown("protocol", str(name), NAMED)
        return {**NAMED[name], **{key: value for key, value in values.items() if key != "like"}}

    def options(self, epochs: int) -> dict[str, Any]:
        """The options of `selftaught.training.presets.resolve` for so many epochs.

        Where there are two or more, neither the warm-up nor what follows is left without one.
        """
        warmup = min(max(1, round(self.warmup * epochs)), epochs - 1) if self.warmup else 0
        milestones = {round(share * epochs) for share in self.milestones}
        inside = tuple(sorted(m for m in milestones if 0 < m < epochs))
        given = self.model_dump(exclude_none=True)
        return given | {"epochs": epochs, "milestones": inside, "warmup": warmup}


_Budget: Any = create_model(
    "_Budget",
    __base__=Strict,
    **_fields(("train_size", "val_fraction", "test_size", "epochs", "batch_size")),
)


class DataBudget(_Budget):
    """What a budget changes of the runs on one dataset; None leaves the recipe's value, or all the images.

    `train_size` and `test_size` are numbers of images, drawn evenly from the classes; `val_fraction` of the former is
    held out.
    """
