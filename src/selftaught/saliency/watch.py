"""Maps that nothing can be learned from: all zero, or not finite."""

from typing import Any

import torch
from torch import Tensor

from selftaught.errors import DegenerateMapsError
from selftaught.saliency.heads import not_finite


def peak(maps: Tensor) -> Tensor:
    """The largest magnitude of all maps, a scalar, NaN if one of their values is; no copy of them is made."""
    low, high = maps.aminmax()
    return torch.maximum(-low, high)


class Watch:
    """Raises where every map of a batch is zero, or one is not finite.

    At once on a CPU. On CUDA the answer travels to the host by itself and is looked at when the next batch comes, or
    when `settle` asks for it: to wait for it would leave the GPU idle in every step. While a CUDA graph is recorded
    nothing is looked at.
    """

    def __init__(self, saliency: str) -> None:
        self.saliency = saliency
        self._pending: tuple[Tensor, torch.cuda.Event] | None = None

    def look(self, largest: Tensor) -> None:
        """Judge a batch by the `peak` of its maps, and on CUDA the batch before.

        Raises:
            DegenerateMapsError: the maps are all zero or not finite.
        """
        if not largest.is_cuda:
            self._judge(float(largest))
        elif not torch.cuda.is_current_stream_capturing():
            self.settle()
            host = torch.empty((), dtype=largest.dtype, pin_memory=True)
            host.copy_(largest, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record(torch.cuda.current_stream(largest.device))
            self._pending = host, arrived

    def settle(self) -> None:
        """Judge the last batch now, if it was not judged yet.

        Raises:
            DegenerateMapsError: its maps were all zero or not finite.
        """
        if self._pending is not None:
            host, arrived = self._pending
            self._pending = None
            arrived.synchronize()
            self._judge(float(host))

    def _judge(self, largest: float) -> None:
        if largest == 0:
            raise DegenerateMapsError(
                f"every {self.saliency} map is zero, no gradient reaches what is explained: choose another layer= or "
                "saliency=, or initialise the classifier with weights that are not zero"
            )
        if not largest < float("inf"):
            raise not_finite(self.saliency)

    def __getstate__(self) -> dict[str, Any]:
        # An event belongs to this process.
        return {**vars(self), "_pending": None}
