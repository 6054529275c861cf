"""Stratified choices of images: the same ones on every machine for one seed."""

import torch
from torch import Tensor


def stratified(labels: Tensor, size: int, seed: int) -> Tensor:
    """Indices of `size` samples whose classes have the same shares as in `labels`, in ascending order.

    The shares are rounded by largest remainder, and every class keeps at least one sample. For one seed a
    smaller choice from the same labels lies (up to that rounding) inside a larger one.

    Args:
        labels: int64 (N,).
        size: from the number of distinct labels to N.
        seed: seeds the choice within each class.

    Returns:
        int64 (size,).

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> labels[stratified(labels, 3, seed=0)].tolist()
    [0, 0, 1]
    """
    generator = torch.Generator().manual_seed(seed)
    counts = torch.bincount(labels).tolist()
    chosen = []
    for label, take in enumerate(_shares(counts, size)):
        members = torch.nonzero(labels == label).flatten()
        chosen.append(members[torch.randperm(counts[label], generator=generator)[:take]])
    return torch.cat(chosen).sort().values


def _shares(counts: list[int], size: int) -> list[int]:
    """`size` split in proportion to `counts`: at least 1 of each class that has any, and at most all."""
    exact = [count * size / sum(counts) for count in counts]
    shares = [max(int(share), min(count, 1)) for share, count in zip(exact, counts, strict=True)]
    while sum(shares) < size:
        open_to_more = [k for k, count in enumerate(counts) if shares[k] < count]
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
