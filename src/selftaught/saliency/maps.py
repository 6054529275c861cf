"""Maps that are made when they are wanted, for some samples of a batch at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# On a CPU few enough for its caches and enough for its threads (maps and cosines of 128 samples and 1000 classes: parts
# of 4 to 16 MB took the same time, 1 MB a third more). On a GPU only the memory counts.
_PART_BYTES = {"cpu": 2**22}
_PART_BYTES_ELSEWHERE = 2**28


def _as_they_are(maps: Tensor) -> Tensor:
    return maps


@dataclass(frozen=True)
class Maps:
    """The maps of a batch, not made yet.

    Attributes:
        make: from a slice of the batch to its maps (b, K, *spatial), detached and signed.
        batch: how many samples there are.
        sample_bytes: the size of one sample's maps.
        device: where they are made.
        finish: what is made of signed maps at last, perhaps in place.
    """

    make: Callable[[slice], Tensor]
    batch: int
    sample_bytes: int
    device: torch.device
    finish: Callable[[Tensor], Tensor] = _as_they_are

    @classmethod
    def made(cls, maps: Tensor) -> "Maps":
        """Maps (B, K, *spatial) that exist already."""
        return cls(maps.__getitem__, len(maps), maps[0].numel() * maps.element_size(), maps.device)

    def centred(self, classes: Sequence[int]) -> "Maps":
        """Of maps of all classes those of some classes, less the mean over all; a range stands for all of them."""

        def make(rows: slice) -> Tensor:
            every = self.make(rows)
            some = every if isinstance(classes, range) else every[:, list(classes)]
            return some - every.mean(1, keepdim=True)

        return replace(self, make=make)

    def parts(self) -> Iterator[slice]:
        """The batch in slices whose maps are few enough to be worked on in a cache."""
        room = _PART_BYTES.get(self.device.type, _PART_BYTES_ELSEWHERE)
        count = max(1, room // max(1, self.sample_bytes))
        for start in range(0, self.batch, count):
            yield slice(start, start + count)
