"""Deep mutual learning (Zhang et al., CVPR 2018)."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from selftaught import losses
from selftaught.methods.base import Method, Step, View, register


@register
class MutualLearning(Method):
    """CE(own) + weight · KL(peer‖own), plus the same of the peer, from one forward pass of each.

    Each network learns from the other's outputs as constants. Both are updated at once; the first is the result.
    """

    key = "dml"
    peers = 1
    recordable = True

    weight: float

    def __init__(self, model: nn.Module, *, peers: Sequence[nn.Module] = (), **others: Any) -> None:
        super().__init__(model, peers=peers, **others)
        [self.peer] = peers

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
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
