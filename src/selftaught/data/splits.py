"""Stratified choices of images: the same ones on every machine for one seed."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from selftaught.data import grouping
from selftaught.errors import InputError


class Parts(NamedTuple):
    """Positions of a source's images, int64 and ascending, in each part."""

    train: Tensor
    val: Tensor
    test: Tensor


def stratified(labels: Tensor, size: int, seed: int, spare: int = 0) -> Tensor:
    """Indices of `size` samples whose classes have the same shares as in `labels`, in ascending order.

    The shares are rounded by largest remainder, and every class keeps at least one sample. For one seed a
    smaller choice from the same labels lies (up to that rounding) inside a larger one.

    Args:
        labels: int64 (N,).
        size: from the number of distinct labels to N, less `spare` for each of them.
        seed: seeds the choice within each class.
        spare: how many samples of each class are left out at least; each has more than that.

    Returns:
        int64 (size,).

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

    Every class that has images has at least one on each side. With `groups`, int64 (N,), whole ones are set aside.

    Raises:
        InputError: a fraction outside (0, 1), a class with one image or in one group, or groups that cannot be divided.
    """
    if not 0.0 < fraction < 1.0:
        raise InputError(f"test_fraction must be above 0 and below 1, got {fraction}")
    counts = torch.bincount(labels, minlength=len(classes))
    if (counts == 1).any():
        alone = classes[int((counts == 1).nonzero()[0])]
        raise InputError(
            f"class {alone!r} has one image, which cannot both be trained and be tested with: add another or "
            "remove the class"
        )
    if groups is not None:
        return _set_groups_aside(labels, fraction, seed, classes, groups)
    present = int((counts > 0).sum())
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
    test = grouping.apart(labels, groups, fraction, seed)
    if test is None:
        raise InputError(
            "the groups of split_by cannot be divided so that every class is both trained and tested with: they are "
            "too few for classes that share them; add images of further groups, or try another --split-seed"
        )
    return complement(test, len(labels)), test


def choose(labels: Tensor, test: Tensor, size: int, seed: int) -> Tensor:
    """A stratified choice of `size` of the positions `test`, ascending.

    Raises:
        InputError: a size that is not from one image per class to all of them.
    """
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
    size, present = (
        len(labels) if train_size is None else train_size,
        int(torch.bincount(labels).count_nonzero()),
    )
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
        taken = grouping.apart(
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
