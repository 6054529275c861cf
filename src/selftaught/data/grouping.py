"""Pictures that belong together, such as those of one object, patient or shoot: no two parts share a group."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from selftaught.errors import InputError, shown

_SCALE = 16
"""Deviations count in sixteenths of an image, so that they are whole numbers: the same on every machine."""

_STARTS, _FEW = 20, 1000
"""Orders that are tried, of so many groups all for the best of them, of more until no class is on one side only."""


def pattern(by: str) -> re.Pattern[str]:
    """The regular expression that `split_by` is where it names no column; InputError where it is none."""
    try:
        return re.compile(by)
    except re.error as error:
        raise InputError(
            f"split_by {shown(by)!r} is neither a column of the data nor a regular expression ({error}): correct it"
        ) from None


def in_path(by: re.Pattern[str], path: str) -> str:
    """The group of a picture by its path: what the expression's first group matches, or else all that it matches.

    Raises:
        InputError: it does not match.

    >>> in_path(re.compile("p[0-9]+"), "cat/p07_2.jpg"), in_path(re.compile("([a-z]+)_"), "cat/p07_2.jpg")
    Traceback (most recent call last):
    selftaught.errors.InputError: split_by '([a-z]+)_' is no column and matches nothing in cat/p07_2.jpg: give a \
column, or a regular expression that matches the path of every image
    """
    found = by.search(path)
    group = found and (found[1] if by.groups else found[0])
    if not group:
        raise InputError(
            f"split_by {shown(by.pattern)!r} is no column and matches nothing in {shown(path)}: give a column, or a "
            "regular expression that matches the path of every image"
        )
    return group


def numbered(called: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Groups as int64 (N,), and their G names in the order of their numbers, which is the alphabet's.

    >>> numbered(["b", "a", "b"])
    (tensor([1, 0, 1]), ['a', 'b'])
    """
    names = sorted(set(called))
    number = {name: place for place, name in enumerate(names)}
    return torch.tensor([number[name] for name in called]), names


def apart(
    labels: Tensor, groups: Tensor, share: float, seed: int, on_both_sides: bool = True
) -> Tensor | None:
    """Positions, ascending, of whole groups that hold about this share of each class, and not all of any.

    Groups are gone through in random order, and each is taken or left as brings the classes closer to the share, rare
    ones counting as much as frequent ones, until nothing changes. Of several orders the one that comes closest counts.

    Args:
        labels: int64 (N,).
        groups: int64 (N,), see `numbered`.
        share: in (0, 1).
        seed: seeds the order.
        on_both_sides: whether each class must have images among those taken.

    Returns:
        int64; None where no division was found that leaves each class on the sides where it must be.

    >>> labels, groups = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 2, 3])
    >>> taken = apart(labels, groups, 0.5, seed=0)
    >>> labels[taken].tolist(), len(set(groups[taken].tolist()))
    ([0, 0, 1], 2)
    """
    search = _Search(labels, groups, share, on_both_sides)
    generator = torch.Generator().manual_seed(seed)
    best: tuple[int, list[bool]] | None = None
    for _ in range(_STARTS):
        found = search.settle(torch.randperm(len(search.members), generator=generator).tolist())
        if found is not None and (best is None or found[0] < best[0]):
            best = found
        if best is not None and len(search.members) > _FEW:
            break
    return None if best is None else torch.nonzero(torch.tensor(best[1])[groups]).flatten()


class _Search:
    """Which groups to take; everything is counted in whole numbers."""

    def __init__(self, labels: Tensor, groups: Tensor, share: float, on_both_sides: bool) -> None:
        count = int(groups.max()) + 1
        pairs, sizes = torch.stack([groups, labels]).unique(dim=1, return_counts=True)
        self.members: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        for group, label, size in zip(*pairs.tolist(), sizes.tolist(), strict=True):
            self.members[group].append((label, size))
        self.totals = labels.bincount().tolist()
        self.wanted = [round(_SCALE * share * total) for total in self.totals]
        self.weights = [len(labels) // max(total, 1) for total in self.totals]
        self.on_both_sides = on_both_sides

    def settle(self, order: list[int]) -> tuple[int, list[bool]] | None:
        """How far from what is wanted, and whether each group is taken; None where a class is missing on a side."""
        taken, of_class = [False] * len(order), [0] * len(self.totals)
        changed = True
        while changed:
            changed = False
            for group in order:
                sign = -1 if taken[group] else 1
                if self._gain(group, sign, of_class) > (0, 0):
                    taken[group], changed = not taken[group], True
                    for label, size in self.members[group]:
                        of_class[label] += sign * size
        if any(map(self._missing, range(len(of_class)), of_class)):
            return None
        return sum(map(self._distance, range(len(of_class)), of_class)), taken

    def _gain(self, group: int, sign: int, of_class: list[int]) -> tuple[int, int]:
        """By how much fewer classes are missing on a side, and by how much closer all are to what is wanted."""
        found, closer = 0, 0
        for label, size in self.members[group]:
            before, after = of_class[label], of_class[label] + sign * size
            found += self._missing(label, before) - self._missing(label, after)
            closer += self._distance(label, before) - self._distance(label, after)
        return found, closer

    def _missing(self, label: int, count: int) -> bool:
        total = self.totals[label]
        return bool(total) and (count == total or (self.on_both_sides and count == 0))

    def _distance(self, label: int, count: int) -> int:
        return self.weights[label] * (_SCALE * count - self.wanted[label]) ** 2
