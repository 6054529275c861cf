"""Which part of a source is for training and which for testing, and whether its classes are fit for both."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

import torch
from torch import Tensor

from selftaught.errors import InputError, listed

T = TypeVar("T")

PARTS = ("train", "test", "validation")

UNLABELLED = "unlabelled"
"""What is meant for prediction, not for learning: Kaggle's ``seg_pred``."""

_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "validation"),
}

_UNLABELLED = {"pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled"}

_GENERIC = frozenset(
    """
    data dataset datasets set sets image images img imgs picture pictures pic pics photo photos sample samples
    split splits subset partition part folder dir file files of my the new original
    """.split()  # noqa: SIM905  (easier to read than quotes)
)
"""Words that say nothing of what is in a folder."""

# `trainset` and `testdata` are two words.
_COMPOUND = re.compile(rf"(?<![a-z])({'|'.join(_NAMES)})(set|data|dataset|images|imgs|img)(?![a-z])")


def words(name: str) -> list[str]:
    """The words of a name in small letters, without its numbers.

    >>> words("01_TrainImages.v2"), words("testset")
    (['train', 'images', 'v'], ['test', 'set'])
    """
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return re.findall(r"[^\W\d_]+", _COMPOUND.sub(r"\1 \2", name))


def is_generic(name: str) -> bool:
    """Whether a name says nothing of what it is the name of: images, dataset, my_data.

    >>> is_generic("my_data"), is_generic("cats")
    (True, False)
    """
    found = words(name)
    return bool(found) and set(found) <= _GENERIC


def part_of(name: str) -> str | None:
    """The part that a folder, file or split of this name alone holds: train, test, validation; None for another name.

    >>> part_of("Training"), part_of("01_val_data"), part_of("cats"), part_of("test_tube")
    ('train', 'validation', None, None)
    """
    part, frame = named_part(name)
    return part if frame == _PLAIN and part != UNLABELLED else None


def division(names: Iterable[str]) -> list[dict[str, str]]:
    """Which of several names that stand side by side name parts, as groups of names with the part of each.

    A name that says nothing but its part (test, train_data) does. One that says more does only if another one
    says the same of another part: seg_train and seg_test, but not test_tube, nor training_shoe beside it. A part is
    train, test, validation or `UNLABELLED`. More than one group means that the names contradict each other.

    >>> division(["seg_train", "seg_test", "cats"])
    [{'seg_train': 'train', 'seg_test': 'test'}]
    >>> division(["test_tube", "training_shoe"])
    []
    """
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        part, frame = named_part(name)
        if part:
            groups.setdefault(frame, {})[name] = part
    return [
        group
        for frame, group in groups.items()
        if set(group.values()) != {UNLABELLED} and (frame == _PLAIN or len(set(group.values())) > 1)
    ]


_PLAIN = ("*",)


def named_part(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The part that one of the words of a name says, and the others that say something, with a star in its place.

    The part is train, test, validation or `UNLABELLED`; None where no word says one, or two differ.

    >>> named_part("pets_test-00000-of-00001"), named_part("pets")
    (('test', ('pets', '*')), (None, ('pets',)))
    """
    part, frame = None, list[str]()
    for word in words(name):
        named = UNLABELLED if word in _UNLABELLED else _NAMES.get(word)
        if named and part and named != part:
            return None, ()
        if named and not part:
            frame.append("*")
        elif not named and word not in _GENERIC:
            frame.append(word)
        part = part or named
    return part, tuple(frame)


def divide(parts: Mapping[str, T], where: str) -> tuple[T, T | None, tuple[str, ...]]:
    """The training part of the source `where`, the test part (None where there is no second one), and what to tell.

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
    """Refuse the source `where` if it cannot be learned or divided; labels are int64 (N,), `test` of its test part.

    Raises:
        InputError: there are fewer than two classes, two have the same name, or an undivided source has a single image
            of a class.
    """
    if twice := [name for name, count in Counter(classes).items() if count > 1]:
        raise InputError(f"{where} has two classes that are called {twice[0]!r}: rename one")
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
    """Which classes have no images in which part: "class 'cat' has no images in the test part". Many are one line."""
    lines, forms = [], dict[str, list[str]]()
    for name in classes:
        forms.setdefault(_form(name), []).append(name)
    for part, labels in {"training": train, "test": test}.items():
        if labels is None:
            continue
        counts = torch.bincount(labels, minlength=len(classes)).tolist()
        names = [name for name, count in zip(classes, counts, strict=True) if not count]
        if len(names) > 3:
            twin = next(filter(None, (_twin(name, forms) for name in names)), "")
            shortened = listed([repr(name) for name in names])
            lines.append(f"{len(names):,} classes have no images in the {part} part: {shortened}{twin}")
        else:
            lines += [
                f"class {name!r} has no images in the {part} part{_twin(name, forms)}" for name in names
            ]
    return lines


def _twin(name: str, forms: Mapping[str, Sequence[str]]) -> str:
    """What to add about a class that another one may be, written in another way: Dress, dress; 1, 01."""
    others = [other for other in forms[_form(name)] if other != name]
    return f" (if {name!r} and {others[0]!r} are one class, write both alike)" if others else ""


def _form(name: str) -> str:
    """A name without capitals, without what separates words and without leading zeros."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\s_-]+", "", name.casefold()))


def ordered(names: Iterable[str]) -> list[str]:
    """Names of classes in their order: of their value where all are numbers, else of their characters.

    >>> ordered(["10", "9", "08"]), ordered(["b", "10", "9"])
    (['08', '9', '10'], ['10', '9', 'b'])
    """
    names = list(names)
    if all(_NUMBER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (Decimal(name), name))
    return sorted(names)


_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
