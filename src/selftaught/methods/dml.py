"""Deep mutual learning (Zhang et al., CVPR 2018)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch.nn.functional as F
from torch import Tensor, nn

from selftaught import losses
from selftaught._inputs import check_range
from selftaught.methods.base import Casting, Objective, Step, companion, register


@register
@dataclass
class MutualLearning(Objective):
    """CE(own) + weight · KL(peer‖own), plus the same of the peer, from one forward pass of each.

    Each network learns from the other's outputs as constants. Both are updated at once; the first is the result.
    """

    key = "dml"
    summary = "deep mutual learning: two networks at the same time, each learns from the other too"
    peers = 1
    recordable = True

    weight: float = 0.1
    peer: nn.Module = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_range("weight", self.weight, lambda weight: 0 <= weight < float("inf"), "at least 0")

    def companions(
        self, student: nn.Module, teacher: nn.Module | None, cast: Casting
    ) -> dict[str, nn.Module]:
        """The peer: the student's architecture with initial weights of its own."""
        return {"peer": cast.twin()}

    def bind(
        self,
        model: nn.Module,
        teacher: nn.Module | None = None,
        companions: Mapping[str, nn.Module] = MappingProxyType({}),
    ) -> None:
        """Take the model to be trained and its peer.

        Raises:
            InputError: there is no peer.
        """
        super().bind(model, teacher, companions)
        self.peer = companion(self, companions, "peer")

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One forward pass of each network, and the two terms of each."""
        own, other = self.model(x), self.peer(x)
        terms = {
            "ce": F.cross_entropy(own, y),
            "kl": losses.mutual(own, other),
            "peer_ce": F.cross_entropy(other, y),
            "peer_kl": losses.mutual(other, own),
        }
        loss = terms["ce"] + self.weight * terms["kl"] + terms["peer_ce"] + self.weight * terms["peer_kl"]
        return Step(loss, own.detach(), {name: term.detach() for name, term in terms.items()})
