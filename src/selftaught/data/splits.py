"""Which images are trained and tested with: stratified choices, the same ones on every machine for one seed.

Pictures that belong together, such as those of one object, patient or shoot, are in a group: no two parts share one.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from selftaught.errors import InputError, shown


class Parts(NamedTuple):
    """Positions of a source's images, int64 and ascending, in each part."""

    train: Tensor
    val: Tensor
    test: Tensor


def stratified(labels: Tensor, size: int, seed: int, spare: int = 0) -> Tensor:
    """Indices of `size` samples, int64 and ascending, whose classes have the same shares as in `labels`, int64 (N,).

    The shares are rounded by largest remainder; of every class at least one sample is chosen and `spare` are left out.
    For one seed a smaller choice from the same labels lies (up to that rounding) inside a larger one.

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> labels[stratified(labels, 3, seed=0)].tolist()
    [0, 0, 1]
    """
    if size == len(labels):
        return torch.arange(size)
    generator = torch.Generator().manual_seed(seed)
    counts = torch.bincount(labels).tolist()
    chosen = []
    for label, take in enumerate(_shares(counts, size, spare)):
        members = torch.nonzero(labels == label).flatten()
        chosen.append(members[torch.randperm(counts[label], generator=generator)[:take]])
    return torch.cat(chosen).sort().values


def _shares(counts: list[int], size: int, spare: int) -> list[int]:
    """`size` split in proportion to `counts`: of each class that has any, at least 1 and at most all but `spare`."""
    exact = [count * size / sum(counts) for count in counts]
    most = [max(count - spare, 0) for count in counts]
    shares = [min(max(int(share), 1), top) for share, top in zip(exact, most, strict=True)]
    while sum(shares) < size:
        open_to_more = [k for k, top in enumerate(most) if shares[k] < top]
        shares[max(open_to_more, key=lambda k: exact[k] - shares[k])] += 1
    while sum(shares) > size:
        reducible = [k for k, share in enumerate(shares) if share > 1]
        shares[max(reducible, key=lambda k: shares[k] - exact[k])] -= 1
    return shares


def complement(indices: Tensor, total: int) -> Tensor:
    """The indices 0..total-1 that are not among `indices`, in ascending order."""
    left = torch.ones(total, dtype=torch.bool)
    left[indices] = False
    return torch.nonzero(left).flatten()


def set_aside(
    labels: Tensor, fraction: float, seed: int, classes: Sequence[str], groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Positions of the images to train with and of a stratified `fraction` to test with, both ascending.

    Every class that has images, which are two or more, has at least one on each side. With `groups`, int64 (N,), whole
    ones are set aside.

    Raises:
        InputError: a fraction outside (0, 1), a class in one group, or groups that cannot be divided.
    """
    if not 0.0 < fraction < 1.0:
        raise InputError(f"test_fraction must be above 0 and below 1, got {fraction}")
    if groups is not None:
        return _set_groups_aside(labels, fraction, seed, classes, groups)
    present = int(labels.bincount().count_nonzero())
    size = min(max(round(len(labels) * (1 - fraction)), present), len(labels) - present)
    kept = stratified(labels, size, seed, spare=1)
    return kept, complement(kept, len(labels))


def _set_groups_aside(
    labels: Tensor, fraction: float, seed: int, classes: Sequence[str], groups: Tensor
) -> tuple[Tensor, Tensor]:
    of_class = torch.stack([labels, groups]).unique(dim=1)[0].bincount(minlength=len(classes))
    if (of_class == 1).any():
        alone = classes[int((of_class == 1).nonzero()[0])]
        raise InputError(
            f"all images of class {alone!r} are of one group of split_by, which cannot both be trained and be tested "
            "with: add images of another group, remove the class, or split by something else"
        )
    test = whole_groups(labels, groups, fraction, seed)
    if test is None:
        raise InputError(
            "the groups of split_by cannot be divided so that every class is both trained and tested with: they are "
            "too few for classes that share them; add images of further groups, or try another --split-seed"
        )
    return complement(test, len(labels)), test


def choose(labels: Tensor, test: Tensor, size: int, seed: int) -> Tensor:
    """A stratified choice of `size` of the positions `test`, ascending; InputError for fewer than one per class."""
    present = int(torch.bincount(labels[test]).count_nonzero())
    if not present <= size <= len(test):
        raise InputError(
            f"test_size must be from {present} (one image per class) to {len(test)}, all there are to test with, "
            f"got {size}"
        )
    return test[stratified(labels[test], size, seed)]


def hold_out(
    labels: Tensor,
    train_size: int | None,
    val_fraction: float,
    seed: int,
    num_classes: int,
    groups: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Positions of the training and of the validation images among `labels`, both ascending.

    Args:
        labels: int64 (N,), of all that may be trained with.
        train_size: how many of them to use, a stratified choice; None for all.
        val_fraction: share in [0, 1) of those held out, stratified.
        seed: seeds both choices.
        num_classes: C.
        groups: int64 (N,); whole ones are held out, as far as their images are used.

    Raises:
        InputError: a value out of range, or a hold-out that would leave a class empty.
    """
    if not 0.0 <= val_fraction < 1.0:
        raise InputError(f"val_fraction must be in [0, 1), got {val_fraction}")
    size = len(labels) if train_size is None else train_size
    present = int(torch.bincount(labels).count_nonzero())
    if train_size is not None and not num_classes <= size <= len(labels):
        raise InputError(
            f"train_size must be from {num_classes} (one image per class) to {len(labels)}, all there are to "
            f"train with, got {size}"
        )
    used = stratified(labels, size, seed)
    held_out = round(size * val_fraction)
    if val_fraction and not 0 < held_out <= size - present:
        raise InputError(
            f"val_fraction {val_fraction} of {size} images holds out {held_out}: it must hold out at least 1 and "
            f"leave at least {present}, one per class"
        )
    if groups is not None and held_out:
        taken = whole_groups(
            labels[used], groups[used].unique(return_inverse=True)[1], val_fraction, seed, on_both_sides=False
        )
        if taken is None or not len(taken):
            raise InputError(
                f"val_fraction {val_fraction} of {size} images holds out no whole group of split_by: raise it, set it "
                "to 0, or split by something finer"
            )
        return used[complement(taken, size)], used[taken]
    kept = stratified(labels[used], size - held_out, seed)
    return used[kept], used[complement(kept, size)]


_SCALE = 16
"""Deviations count in sixteenths of an image, so that they are whole numbers: the same on every machine."""

_ORDERS, _FEW_GROUPS = 20, 1000
"""Orders that are tried, of so many groups all for the best of them, of more until no class is on one side only."""


def group_pattern(by: str) -> re.Pattern[str]:
    """The regular expression that `split_by` is where it names no column; InputError where it is none."""
    try:
        return re.compile(by)
    except re.error as error:
        raise InputError(
            f"split_by {shown(by)!r} is neither a column of the data nor a regular expression ({error}): correct it"
        ) from None


def group_in_path(by: re.Pattern[str], path: str) -> str:
    """The group of a picture by its path: what the expression's first group matches, or else all that it matches.

    Raises:
        InputError: it does not match.

    >>> group_in_path(re.compile("p[0-9]+"), "cat/p07_2.jpg"), group_in_path(re.compile("([a-z]+)_"), "cat/p07_2.jpg")
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


def numbered_groups(called: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Groups as int64 (N,), and their G names in the order of their numbers, which is the alphabet's.

    >>> numbered_groups(["b", "a", "b"])
    (tensor([1, 0, 1]), ['a', 'b'])
    """
    names = sorted(set(called))
    number = {name: place for place, name in enumerate(names)}
    return torch.tensor([number[name] for name in called]), names


def whole_groups(
    labels: Tensor, groups: Tensor, share: float, seed: int, on_both_sides: bool = True
) -> Tensor | None:
    """Positions, ascending, of whole groups that hold about this share of each class, and not all of any.

    Groups are gone through in random order, and each is taken or left as brings the classes closer to the share, rare
    ones counting as much as frequent ones, until nothing changes. Of several orders the one that comes closest counts.

    Args:
        labels: int64 (N,).
        groups: int64 (N,), see `numbered_groups`.
        share: in (0, 1).
        seed: seeds the order.
        on_both_sides: whether each class must have images among those taken; None is returned if that was not found.

    >>> labels, groups = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 2, 3])
    >>> taken = whole_groups(labels, groups, 0.5, seed=0)
    >>> labels[taken].tolist(), len(set(groups[taken].tolist()))
    ([0, 0, 1], 2)
    """
    search = _GroupSearch(labels, groups, share, on_both_sides)
    generator = torch.Generator().manual_seed(seed)
    best: tuple[int, list[bool]] | None = None
    for _ in range(_ORDERS):
        found = search.settle(torch.randperm(len(search.members), generator=generator).tolist())
        if found is not None and (best is None or found[0] < best[0]):
            best = found
        if best is not None and len(search.members) > _FEW_GROUPS:
            break
    return None if best is None else torch.nonzero(torch.tensor(best[1])[groups]).flatten()


class _GroupSearch:
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
