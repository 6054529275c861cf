"""Maps that nothing can be learned from, all zero or not finite, and shortcuts that do not hold."""

from typing import Any

import torch
from torch import Tensor

from selftaught._notes import note
from selftaught.errors import DegenerateMapsError, ShortcutError
from selftaught.saliency.heads import not_finite

_POSSIBLE = 1e-6
"""What is less probable was no chance."""


def peak(maps: Tensor) -> Tensor:
    """The largest magnitude of all maps, a scalar, NaN if one of their values is; no copy of them is made."""
    low, high = maps.aminmax()
    return torch.maximum(-low, high)


class Watch:
    """Raises where every map of a batch is zero, or one is not finite.

    At once on a CPU. On CUDA the answer travels to the host by itself and is looked at when the next batch comes, or
    when `settle` asks for it: to wait for it would leave the GPU idle in every step. Of batches that a CUDA graph
    replays the least and the largest peak are kept on the GPU until `settle` asks, provided that a batch was looked at
    before the graph was recorded.
    """

    def __init__(self, saliency: str) -> None:
        self.saliency = saliency
        self._pending: tuple[Tensor, torch.cuda.Event] | None = None
        self._least: Tensor | None = None
        self._largest: Tensor | None = None
        self._recorded = False
        self._chance = 0.0
        self._tolerated = False

    def look(self, largest: Tensor, chance: float = 0.0) -> None:
        """Judge a batch by the `peak` of its maps, and on CUDA the batch before.

        Args:
            largest: the peak.
            chance: how probable it is that dropout dropped all that is explained. Where that may happen, one batch of
                maps that are all zero is told and not refused; a second one in a row is.

        Raises:
            DegenerateMapsError: the maps are all zero or not finite.
        """
        self._chance = chance
        if not largest.is_cuda:
            self._judge(float(largest))
        elif torch.cuda.is_current_stream_capturing():
            self._remember(largest)
        else:
            self.settle()
            if self._least is None:
                # Before a graph is recorded: what is made meanwhile is the graph's own, and lost between its replays.
                self._least, self._largest = torch.full_like(largest, torch.inf), torch.zeros_like(largest)
            host = torch.empty((), dtype=largest.dtype, pin_memory=True)
            host.copy_(largest, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record(torch.cuda.current_stream(largest.device))
            self._pending = host, arrived

    def settle(self) -> None:
        """Judge the batches now that were not judged yet: the last one, and those that a CUDA graph replayed.

        Raises:
            DegenerateMapsError: their maps were all zero or not finite.
        """
        if self._pending is not None:
            host, arrived = self._pending
            self._pending = None
            arrived.synchronize()
            self._judge(float(host))
        if self._recorded and self._least is not None and self._largest is not None:
            least, largest = torch.stack([self._least, self._largest]).tolist()
            self._least.fill_(torch.inf)
            self._largest.zero_()
            if least != torch.inf or largest != 0:  # else nothing was replayed since
                self._judge(least)
                self._judge(largest)

    def _remember(self, largest: Tensor) -> None:
        """Record that a peak is kept; NaN stays NaN."""
        if self._least is not None and self._largest is not None:
            self._recorded = True
            self._least.copy_(torch.minimum(self._least, largest))
            self._largest.copy_(torch.maximum(self._largest, largest))

    def _judge(self, largest: float) -> None:
        dropped = largest == 0 and self._chance > _POSSIBLE and not self._tolerated
        self._tolerated = dropped
        if dropped:
            note(
                f"every {self.saliency} map of a batch is zero, since dropout dropped all that is explained: its soft "
                "labels are even; lower the rate"
            )
        elif largest == 0:
            raise DegenerateMapsError(
                f"every {self.saliency} map is zero, no gradient reaches what is explained: choose another layer= or "
                "saliency=, or initialise the classifier with weights that are not zero"
            )
        if not largest < float("inf"):
            raise not_finite(self.saliency)

    def __getstate__(self) -> dict[str, Any]:
        # Events and what graphs write to belong to this process.
        return {**vars(self), "_pending": None, "_least": None, "_largest": None, "_recorded": False}


class Trust:
    """Says of every batch whether a shortcut holds for it.

    Of batches that a CUDA graph replays the largest error is kept on the GPU until `settle` asks, provided that a batch
    was looked at before the graph was recorded.
    """

    def __init__(self) -> None:
        self._worst: Tensor | None = None
        self._recorded = False

    def holds(self, error: Tensor, tolerance: float) -> bool:
        """Whether an error, a scalar, is within the tolerance, and not NaN; True while a CUDA graph is recorded."""
        if not error.is_cuda:
            return bool(error <= tolerance)
        if self._worst is None:
            # Before a graph is recorded: what is made meanwhile is the graph's own, and lost between its replays.
            self._worst = torch.zeros_like(error)
        if not torch.cuda.is_current_stream_capturing():
            return bool(error <= tolerance)
        self._recorded = True
        self._worst.copy_(torch.maximum(self._worst, error / tolerance))
        return True

    def settle(self) -> None:
        """Judge the batches that a CUDA graph replayed.

        Raises:
            ShortcutError: the shortcut did not hold for one of them.
        """
        if self._recorded and self._worst is not None:
            worst = float(self._worst)
            self._worst.zero_()
            if not worst <= 1:
                self._recorded = False
                raise ShortcutError(
                    "a shortcut to Grad-CAM's weights did not hold in recorded steps: take them again"
                )

    def __getstate__(self) -> dict[str, Any]:
        return {"_worst": None, "_recorded": False}  # what a graph writes to belongs to this process
