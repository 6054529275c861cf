"""Which part of a source is for training and which for testing, and whether its classes are fit for both."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from selftaught.errors import InputError

T = TypeVar("T")

PARTS = ("train", "test", "validation")

_NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}


def part_of(name: str) -> str | None:
    """The part that a folder, file or split of this name holds: train, test, validation; None for another name.

    >>> part_of("Training"), part_of("val"), part_of("cats")
    ('train', 'validation', None)
    """
    return _NAMES.get(name.lower())


def divide(parts: Mapping[str, T], where: str) -> tuple[T, T | None, tuple[str, ...]]:
    """The training part, the test part (None where there is no second part) and what to tell the user.

    Args:
        parts: by the names that `part_of` gives; a source that is not divided has "train" only.
        where: the source, for messages.

    Raises:
        InputError: there is no training part.
    """
    if "train" not in parts:
        raise InputError(f"{where} has no training part beside its {' and '.join(parts)} part: complete it")
    if "validation" not in parts:
        return parts["train"], parts.get("test"), ()
    if "test" not in parts:
        note = f"{where} has no test part of its own: its validation part serves as the test part"
        return parts["train"], parts["validation"], (note,)
    return parts["train"], parts["test"], (f"the validation part of {where} is not used",)


def check_classes(classes: Sequence[str], train: Tensor, test: Tensor | None, where: str) -> None:
    """Refuse what cannot be learned or divided.

    Args:
        classes: the C names.
        train: int64 (N,), the labels of the training part, or of everything where `test` is None.
        test: the labels of the test part.
        where: the source, for messages.

    Raises:
        InputError: there are fewer than two classes, two have the same name, or an undivided source has a single image
            of a class.
    """
    twice = next((name for index, name in enumerate(classes) if name in classes[:index]), None)
    if twice is not None:
        raise InputError(f"{where} has two classes that are called {twice!r}: rename one")
    if len(classes) < 2:
        found = f"one class only ({classes[0]!r})" if classes else "no classes"
        raise InputError(f"{where} has {found}: telling images apart takes at least two")
    if test is not None:
        return
    for name, count in zip(classes, torch.bincount(train, minlength=len(classes)).tolist(), strict=True):
        if count == 1:
            raise InputError(
                f"class {name!r} of {where} has only one image, which cannot be in both the training and the test "
                "part: add images, or remove the class"
            )


def absent(classes: Sequence[str], train: Tensor, test: Tensor | None) -> list[str]:
    """Which classes have no images in which part: "class 'cat' has no images in the test part".

    Args:
        classes: the C names.
        train: int64 (N,), the labels of the training part.
        test: those of the test part; None where there is none yet.
    """
    parts = {"training": train} if test is None else {"training": train, "test": test}
    return [
        f"class {classes[label]!r} has no images in the {part} part"
        for part, labels in parts.items()
        for label in torch.nonzero(torch.bincount(labels, minlength=len(classes)) == 0).flatten().tolist()
    ]
