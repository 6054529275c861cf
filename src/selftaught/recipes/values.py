"""The values that a recipe is made of: texts, counts, printed numbers, settings that a search finds."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator

from selftaught import errors
from selftaught.errors import InputError

Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f]+$")]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Percent = Annotated[float, Field(ge=0, le=100)]

_VALUE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)(?:\s*±\s*([0-9]+(?:\.[0-9]+)?))?\s*")


class Strict(BaseModel):
    """Base of all: frozen, finite, and an unknown key is answered with the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for key in values:
                if key not in cls.model_fields:
                    raise errors.unknown("key", str(key), cls.model_fields)
        return values


class Value(Strict):
    """A printed mean in %, with its standard deviation where one is printed; in a file also ``90.26 ± 0.33``.

    `anchor` is False where the number contradicts the paper's own text or is plainly a slip: it is shown with a
    mark, and nothing is concluded from it.

    >>> Value.model_validate("90.26 ± 0.33")
    Value(mean=90.26, std=0.33, anchor=True)
    """

    mean: Percent
    std: Percent | None = None
    anchor: bool = True

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"mean": value}
        if isinstance(value, str):
            found = _VALUE.fullmatch(value)
            if not found:
                raise InputError(f"{value!r} is no printed value: write it like 90.26 ± 0.33 or 90.26")
            return {"mean": float(found[1]), "std": float(found[2]) if found[2] else None}
        return value


class Selected(Strict):
    """Stands for the value that the search recipe of this name found best for the group."""

    selected: Text


def _setting(value: Any) -> Any:
    if isinstance(value, dict):
        return Selected.model_validate(value)
    if isinstance(value, bool | int | float | str | Selected):
        return value
    raise InputError(f"{value!r} is no setting: give one value, or {{selected: NAME-OF-A-SEARCH}}")


Setting = Annotated[bool | int | float | str | Selected, PlainValidator(_setting)]
"""A method's setting: its value, or which search finds it."""
