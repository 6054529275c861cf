"""Which images an epoch holds, and in which order."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def shuffle(labels: Tensor, _seed: int, _epoch: int, generator: torch.Generator) -> Tensor:
    """Every image once: int64 (N,)."""
    return torch.randperm(len(labels), generator=generator)


def balanced(labels: Tensor, seed: int, epoch: int, generator: torch.Generator) -> Tensor:
    """N images, of each class equally many but for one: int64 (N,).

    Those of a class are gone through, over the epochs, in one random order after another, so that none comes again
    before all others have come. Which classes have one more than others goes round.

    Args:
        labels: int64 (N,).
        seed: seeds the orders within the classes, which are those of all epochs.
        epoch: from 0.
        generator: the epoch's own; it mixes the classes.

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> labels[balanced(labels, 0, 0, torch.Generator().manual_seed(0))].bincount()
    tensor([3, 3])
    """
    labels = labels.cpu()
    classes = labels.unique().tolist()
    share, rest = divmod(len(labels), len(classes))
    chosen = []
    for place, label in enumerate(classes):
        members = torch.nonzero(labels == label).flatten()
        start, end = (e * share + _turns(e * rest, place, len(classes)) for e in (epoch, epoch + 1))
        rounds = range(start // len(members), -(-end // len(members)))
        orders = torch.cat([_permutation(len(members), seed, label, number) for number in rounds])
        first = rounds.start * len(members)
        chosen.append(members[orders[start - first : end - first]])
    drawn = torch.cat(chosen)
    return drawn[torch.randperm(len(drawn), generator=generator)]


def _turns(count: int, place: int, places: int) -> int:
    """How often a place has come up after `count` steps around all places."""
    return (count - place + places - 1) // places


def _permutation(count: int, *entropy: int) -> Tensor:
    return torch.randperm(count, generator=seeded(*entropy))


def seeded(*entropy: int) -> torch.Generator:
    """A generator of its own for a sequence of numbers; zeros at its end make no other sequence of it."""
    mixed = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0] >> np.uint64(1)))


SAMPLINGS: dict[str, Callable[[Tensor, int, int, torch.Generator], Tensor]] = {
    "shuffle": shuffle,
    "balanced": balanced,
}
"""By name."""
