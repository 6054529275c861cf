"""Explanations that are kept: a sample's similarities change slowly, so a share of the batches may do without.

What is kept are the similarities of Eq. 6 by the sample's id, not the soft labels made of them, so that alpha may
change and LE-Permut permutes anew in every step.
"""

from typing import Any

import torch
from torch import Tensor, nn

from selftaught.errors import InputError


class SimilarityTable:
    """The similarities (C,) that each sample was given last, by its id; float32, N · C · 4 bytes.

    Grows with the largest id that it is given. The rows lie on the device of what is written; which of them are known
    is kept on the CPU, so that asking makes no GPU wait as long as the ids are there too.

    >>> table = SimilarityTable()
    >>> table.write(torch.tensor([2, 0]), torch.tensor([[1.0, 0.5], [-1.0, 1.0]]))
    >>> table.rows(torch.tensor([2]))
    tensor([[1.0000, 0.5000]])
    >>> table.rows(torch.tensor([0, 1])) is None
    True
    """

    def __init__(self) -> None:
        self._values = torch.empty(0, 0)
        self._known = torch.zeros(0, dtype=torch.bool)

    def rows(self, index: Tensor, device: torch.device | None = None) -> Tensor | None:
        """What was written last for these samples: (B, C), float32, a copy; None where one of them has no row yet.

        Args:
            index: int64 (B,).
            device: where they are wanted, and where the table moves if it is elsewhere; by default where it is.

        Raises:
            InputError: `index` is no ids.
        """
        ids, largest = _checked(index)
        if largest >= len(self._known) or not self._known[ids].all():
            return None
        if device is not None:
            self._values = self._values.to(device)
        return self._values[index.to(self._values.device, non_blocking=True)]

    def write(self, index: Tensor, similarity: Tensor) -> None:
        """Keep `similarity` (B, C) as the rows of the samples `index`, int64 (B,).

        Of an id that is there twice one of its rows is kept.

        Raises:
            InputError: shapes that do not belong together, another number of classes than before, negative ids, or
                ids so large that there is no memory for as many rows.
        """
        ids, largest = _checked(index)
        if similarity.dim() != 2 or len(similarity) != len(ids):
            raise InputError(
                f"similarity must be of shape ({len(ids)}, classes) for {len(ids)} ids, not {tuple(similarity.shape)}"
            )
        classes = similarity.shape[1]
        if len(self._known) and self._values.shape[1] != classes:
            raise InputError(
                f"the table has similarities to {self._values.shape[1]} classes, not {classes}: use a new one"
            )
        self._values = self._values.to(similarity.device)
        self._make_room(largest + 1, classes)
        self._values[index.to(similarity.device, non_blocking=True)] = similarity.detach().float()
        self._known[ids] = True

    def state(self) -> dict[str, Tensor]:
        """`values`, float32 (N, C), and `known`, bool (N,), with N - 1 the largest id that is known: a copy."""
        used = int(self._known.nonzero().max()) + 1 if self._known.any() else 0
        return {"values": self._values[:used].clone(), "known": self._known[:used].clone()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a `state`."""
        self._values, self._known = state["values"].clone(), state["known"].cpu().clone()

    def _make_room(self, count: int, classes: int) -> None:
        """Rows for at least `count` ids; some more where it grows, since the next id may be one larger."""
        before = len(self._known)
        if count <= before:
            return
        size = max(count, before + before // 4)
        try:
            values = self._values.new_zeros(size, classes)
            known = torch.zeros(size, dtype=torch.bool)
        except RuntimeError:
            raise InputError(
                f"index goes up to {count - 1}, but there is no memory for a table of {count} x {classes} "
                "similarities: number the samples 0, 1, 2, ..."
            ) from None
        if before:
            values[:before], known[:before] = self._values, self._known
        self._values, self._known = values, known


class Amortised(nn.Module):
    """Which batches are explained, and what the others are given.

    Call number t, from 0, is one to explain if floor((t + 1) · r) > floor(t · r), up to rounding: a share r of the
    calls, evenly spread. So is every call with a sample that was never explained. A module so that a loss that has it
    as a part saves it in its `state_dict`; it has no parameters, no buffers, and nothing of it is cast or moved with
    the loss.

    Args:
        share: r, in [0.01, 1].

    >>> amortised = Amortised(0.5)
    >>> index, explained = torch.tensor([0, 1]), []
    >>> for call in range(6):
    ...     if amortised.recall(index) is None:
    ...         amortised.table.write(index, torch.ones(2, 3))
    ...         explained.append(call)
    >>> explained
    [0, 1, 3, 5]
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.calls = 0
        self.table = SimilarityTable()

    def recall(self, index: Tensor, device: torch.device | None = None) -> Tensor | None:
        """What these samples were given last, float32 (B, C) on `device`; None where they are to be explained.

        Counts the call.

        Raises:
            InputError: `index` is no ids.
        """
        if int((self.calls + 1) * self.share) > int(self.calls * self.share):
            _checked(index)  # a refused call does not count
            known = None
        else:
            known = self.table.rows(index, device)
        self.calls += 1
        return known

    def get_extra_state(self) -> dict[str, Any]:
        """The table and the number of calls, as tensors."""
        return {"calls": torch.tensor(self.calls), **self.table.state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go back to such a state."""
        self.calls = int(state["calls"])
        self.table.restore({name: state[name] for name in ("values", "known")})


def _checked(index: Tensor) -> tuple[Tensor, int]:
    """The ids on the CPU, int64 (B,) and none negative, and the largest of them."""
    if not isinstance(index, Tensor) or index.dtype != torch.int64 or index.dim() != 1 or not len(index):
        found = (
            f"{index.dtype} of shape {tuple(index.shape)}"
            if isinstance(index, Tensor)
            else type(index).__name__
        )
        raise InputError(f"index must be the samples' ids, an int64 tensor of shape (batch,), not {found}")
    ids = index.cpu()
    smallest, largest = (int(bound) for bound in ids.aminmax())
    if smallest < 0:
        raise InputError(f"index must not be negative, but holds {smallest}: number the samples from 0")
    return ids, largest
