"""Heads of random networks: what makes logits (B, C) of maps (B, channels, *spatial) or of tokens so transposed."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.saliency.odd_trunks import ACTIVATIONS, Sometimes, good, never


@dataclass(frozen=True)
class Room:
    """What a head is made for.

    Attributes:
        draw: the seed's random numbers.
        channels: of what the trunk makes.
        positions: how many there are.
        classes: how many logits.
        before: channels of what each stage of the trunk makes, the last one too; empty for tokens.
    """

    draw: random.Random
    channels: int
    positions: int
    classes: int
    before: list[int]


def mean(a: Tensor) -> Tensor:
    return a.flatten(2).mean(2)


class Pooled(nn.Module):
    """A pooling, a function of the pooled features, a classifier."""

    def __init__(self, pool: Callable[[Tensor], Tensor], after: nn.Module) -> None:
        super().__init__()
        self.pool, self.after = pool, after

    def forward(self, a: Tensor, made: list[Tensor]) -> Tensor:
        return self.after(self.pool(a))


class Layers(nn.Module):
    """Pooling and flattening by modules, as in a Sequential."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, a: Tensor, made: list[Tensor]) -> Tensor:
        return self.parts(a.flatten(2))


class GeM(nn.Module):
    """Generalised mean (Radenović et al., 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(3.0))

    def forward(self, a: Tensor) -> Tensor:
        return a.flatten(2).clamp(min=1e-3).pow(self.p).mean(2).pow(1 / self.p)


class AttentionPool(nn.Module):
    """softmax(Linear(channels, 1)(f)) weighs the positions; the softmax is a module, or the scores are gated."""

    def __init__(self, channels: int, style: str) -> None:
        super().__init__()
        self.score = never(nn.Linear(channels, 1), "attention scores")
        self.style = style
        if style == "module":
            self.softmax = never(nn.Softmax(1), "attention weights")
        if style == "gated":
            self.score = never(nn.Linear(4, 1), "attention scores")
            self.tanh = nn.Sequential(nn.Linear(channels, 4), nn.Tanh())
            self.gate = nn.Sequential(nn.Linear(channels, 4), nn.Sigmoid())
            for part in [*self.tanh.modules(), *self.gate.modules()]:
                never(part, "a gate of attention")

    def forward(self, a: Tensor) -> Tensor:
        f = a.flatten(2).mT
        scores = self.score(self.tanh(f) * self.gate(f)) if self.style == "gated" else self.score(f)
        weights = self.softmax(scores) if self.style == "module" else torch.softmax(scores, 1)
        return (weights * f).sum(1)


class QueryPool(nn.Module):
    """A learned token asks all positions; what it is told is one token (B, 1, channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, channels))
        self.attention = never(nn.MultiheadAttention(channels, 1, batch_first=True), "one token")
        self.norm = never(nn.LayerNorm(channels), "one token")

    def forward(self, a: Tensor) -> Tensor:
        f = a.flatten(2).mT
        token = self.norm(self.attention(self.query.expand(len(f), -1, -1), f, f, need_weights=False)[0])
        return token[:, 0]


class Cosine(nn.Module):
    """A classifier by the angle to each class's weights."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, features))

    def forward(self, f: Tensor) -> Tensor:
        return 8 * F.linear(F.normalize(f, dim=1), F.normalize(self.weight, dim=1))


class Prototypes(nn.Module):
    """A classifier by the squared distance to each class's prototype."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(classes, features))

    def forward(self, f: Tensor) -> Tensor:
        return -(f[:, None] - self.centres).square().sum(2)


class Experts(nn.Module):
    """A gate mixes several classifiers."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.gate = never(nn.Linear(features, 3), "a gate")
        self.experts = nn.ModuleList(nn.Linear(features, classes) for _ in range(3))

    def forward(self, f: Tensor) -> Tensor:
        weights = torch.softmax(self.gate(f), 1)
        return torch.stack([expert(f) for expert in self.experts], 2).mul(weights[:, None]).sum(2)


class Switched(nn.Module):
    """A buffer decides what the features go through."""

    def __init__(self, features: int, style: str) -> None:
        super().__init__()
        self.register_buffer("gate", torch.zeros(()))
        self.style = style

    def forward(self, f: Tensor) -> Tensor:
        if self.style == "mixed":
            return f + self.gate * torch.tanh(3 * f)
        return torch.tanh(3 * f) if bool(self.gate) else f


class BySample(nn.Module):
    """Some samples are treated otherwise than the rest: those whose features are large."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, f: Tensor) -> Tensor:
        large = f.abs().amax(1, keepdim=True) > self.limit
        return torch.where(large, f.sign() * f.abs().sqrt() * self.limit**0.5, f)


class Concatenated(nn.Module):
    """Mean and maximum side by side."""

    def forward(self, a: Tensor) -> Tensor:
        a = a.flatten(2)
        return torch.cat([a.mean(2), a.amax(2)], 1)


class Covariance(nn.Module):
    """Second-order pooling: the mean product of every two channels."""

    def forward(self, a: Tensor) -> Tensor:
        a = a.flatten(2)
        return (a @ a.mT / a.shape[2]).flatten(1)


class MultiScale(nn.Module):
    """The pooled features of all stages side by side."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.classifier = nn.Linear(sum(room.before), room.classes)

    def forward(self, a: Tensor, made: list[Tensor]) -> Tensor:
        return self.classifier(torch.cat([mean(m) for m in made], 1))


class TwoWays(nn.Module):
    """The logits of two heads are added: of the mean, and of the flattened maps or of their maxima."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.one = nn.Linear(room.channels, room.classes)
        self.flat = room.draw.random() < 0.5
        self.other = nn.Linear(room.channels * (room.positions if self.flat else 1), room.classes)

    def forward(self, a: Tensor, made: list[Tensor]) -> Tensor:
        other = a.flatten(1) if self.flat else a.flatten(2).amax(2)
        return self.one(mean(a)).add_(self.other(other))


class TwoBranches(nn.Module):
    """Two convolutions side by side, each pooled on its own; concatenated or added."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.left, self.right = (nn.Conv1d(room.channels, 4, 1) for _ in range(2))
        for part in (self.left, self.right):
            never(part, "one branch of several")
        self.added = room.draw.random() < 0.5
        self.classifier = nn.Linear(4 if self.added else 8, room.classes)

    def forward(self, a: Tensor, made: list[Tensor]) -> Tensor:
        left, right = (F.relu(part(a.flatten(2))).mean(2) for part in (self.left, self.right))
        return self.classifier(left + right if self.added else torch.cat([left, right], 1))


class ClassMaps(nn.Module):
    """A map for each class is made, and pooled."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.maps = good(nn.Conv1d(room.channels, room.classes, 1))

    def forward(self, a: Tensor, made: list[Tensor]) -> Tensor:
        return self.maps(a.flatten(2)).mean(2)


class OneChannel(nn.Module):
    """All channels become one, which is flattened."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.squeeze = never(nn.Conv1d(room.channels, 1, 1), "one channel")
        self.act = never(nn.ReLU(), "one channel")
        self.classifier = nn.Linear(room.positions, room.classes)

    def forward(self, a: Tensor, made: list[Tensor]) -> Tensor:
        return self.classifier(self.act(self.squeeze(a.flatten(2))).flatten(1))


class Gate(nn.Module):
    """Positions are gated by one channel before they are pooled."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.score = never(nn.Conv1d(room.channels, 1, 1), "a gate of one channel")
        self.sigmoid = never(nn.Sigmoid(), "a gate of one channel")
        self.classifier = nn.Linear(room.channels, room.classes)

    def forward(self, a: Tensor, made: list[Tensor]) -> Tensor:
        a = a.flatten(2)
        return self.classifier((a * self.sigmoid(self.score(a))).mean(2))


class Auxiliary(nn.Module):
    """Beside the logits come those of an auxiliary classifier of the first stage, in train mode."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.auxiliary = nn.Linear((room.before or [room.channels])[0], room.classes)
        self.classifier = nn.Linear(room.channels, room.classes)

    def forward(self, a: Tensor, made: list[Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        logits = self.classifier(mean(a))
        return (logits, self.auxiliary(mean(made[0]))) if self.training else logits


class Recurrent(nn.Module):
    """A GRU reads the positions; its last state is classified."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.read = nn.GRU(room.channels, 6, batch_first=True)
        self.classifier = nn.Linear(6, room.classes)

    def forward(self, a: Tensor, made: list[Tensor]) -> Tensor:
        return self.classifier(self.read(a.flatten(2).mT)[1][0])


class Tied(nn.Module):
    """One weight classifies the mean and the maximum."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.of_mean, self.of_maximum = _linear(room), _linear(room)
        self.of_maximum.weight = self.of_mean.weight

    def forward(self, a: Tensor, made: list[Tensor]) -> Tensor:
        return self.of_mean(mean(a)) + self.of_maximum(a.flatten(2).amax(2))


def _linear(room: Room, features: int | None = None) -> nn.Linear:
    return nn.Linear(room.channels if features is None else features, room.classes)


def _hidden(room: Room, features: int | None = None) -> nn.Module:
    act = room.draw.choice(ACTIVATIONS)()
    features = room.channels if features is None else features
    return nn.Sequential(nn.Linear(features, 7), act, nn.Linear(7, room.classes))


def _coarse(room: Room) -> nn.Module:
    return Layers(nn.AdaptiveAvgPool1d(2), nn.Flatten(), _linear(room, 2 * room.channels))


def _normalised(room: Room) -> nn.Module:
    norm = room.draw.choice([nn.LayerNorm, nn.LayerNorm, nn.BatchNorm1d])(room.channels)
    return Pooled(mean, nn.Sequential(norm, _linear(room)))


def _activated(room: Room) -> nn.Module:
    limit = room.draw.choice([0.1, 0.5])
    acts = [nn.Hardtanh(-limit, limit), nn.SiLU(), nn.ReLU(), nn.ReLU6(), nn.Softplus(), BySample(limit)]
    act = room.draw.choice(acts)
    if room.draw.random() < 0.5:
        return Layers(nn.AdaptiveAvgPool1d(1), nn.Flatten(), act, _linear(room))
    return Pooled(mean, nn.Sequential(act, _linear(room)))


def _dropped(room: Room) -> nn.Module:
    return Pooled(mean, nn.Sequential(nn.Dropout(room.draw.choice([0.0, 0.3, 0.6])), _linear(room)))


def _deep_dropped(room: Room) -> nn.Module:
    rate = room.draw.choice([0.0, 0.4])
    return Pooled(
        mean,
        nn.Sequential(nn.Linear(room.channels, 7), nn.ReLU(), nn.Dropout(rate), nn.Linear(7, room.classes)),
    )


def _flattened(room: Room) -> nn.Module:
    after = [_linear, _hidden][room.draw.random() < 0.4]
    return Pooled(lambda a: a.flatten(1), after(room, room.channels * room.positions))


def _saturated_flat(room: Room) -> nn.Module:
    features, limit = 2 * room.channels, room.draw.choice([0.5, 1.0, 2.0])
    return Layers(nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Hardtanh(-limit, limit), _linear(room, features))


def _maximum(room: Room) -> nn.Module:
    if room.draw.random() < 0.5:
        return Layers(nn.AdaptiveMaxPool1d(1), nn.Flatten(), _linear(room))
    return Pooled(lambda a: a.flatten(2).amax(2), _linear(room))


def _sum(room: Room) -> nn.Module:
    return Pooled(lambda a: a.flatten(2).sum(2), _linear(room))


def _deviation(room: Room) -> nn.Module:
    def pool(a: Tensor) -> Tensor:
        a = a.flatten(2)
        return torch.cat([a.mean(2), (a.var(2) + 1e-2).sqrt()], 1)

    return Pooled(pool, _linear(room, 2 * room.channels))


def _log_sum(room: Room) -> nn.Module:
    return Pooled(lambda a: a.flatten(2).logsumexp(2), _linear(room))


def _largest(room: Room) -> nn.Module:
    def pool(a: Tensor) -> Tensor:
        a = a.flatten(2)
        return a.topk(min(3, a.shape[2]), dim=2).values.mean(2)

    return Pooled(pool, _linear(room))


def _gem(room: Room) -> nn.Module:
    return Pooled(GeM(), _linear(room))


def _attention(style: str) -> Callable[[Room], nn.Module]:
    return lambda room: Pooled(AttentionPool(room.channels, style), _linear(room))


def _query(room: Room) -> nn.Module:
    return Pooled(QueryPool(room.channels), _linear(room))


def _cosine(room: Room) -> nn.Module:
    return Pooled(mean, Cosine(room.channels, room.classes))


def _prototypes(room: Room) -> nn.Module:
    return Pooled(mean, Prototypes(room.channels, room.classes))


def _experts(room: Room) -> nn.Module:
    return Pooled(mean, Experts(room.channels, room.classes))


def _switched(room: Room) -> nn.Module:
    style = room.draw.choice(["mixed", "either"])
    return Pooled(mean, nn.Sequential(Switched(room.channels, style), _linear(room)))


def _sometimes(room: Room) -> nn.Module:
    part = nn.Linear(room.channels, room.channels)
    return Pooled(mean, nn.Sequential(Sometimes(part, 0.5, room.draw.random() < 0.3), _linear(room)))


def _concatenated(room: Room) -> nn.Module:
    return Pooled(Concatenated(), _linear(room, 2 * room.channels))


def _covariance(room: Room) -> nn.Module:
    return Pooled(Covariance(), _linear(room, room.channels**2))


def _multi_scale(room: Room) -> nn.Module:
    return MultiScale(room) if len(room.before) > 1 else _concatenated(room)


def _reparametrised(room: Room) -> nn.Module:
    change = room.draw.choice([parametrizations.weight_norm, parametrizations.spectral_norm])
    return Pooled(mean, change(_linear(room)))


def _without_bias(room: Room) -> nn.Module:
    return Pooled(mean, nn.Linear(room.channels, room.classes, bias=False))


def _identity_dropout(room: Room) -> nn.Module:
    """Layers that do nothing in eval mode, between the pooling and the classifier."""
    parts = [nn.Flatten(), nn.Identity(), nn.Dropout(0.2), _linear(room)]
    return Layers(nn.AdaptiveAvgPool1d(1), *parts)


HEADS: dict[str, Callable[[Room], nn.Module]] = {
    "mean": lambda room: Pooled(mean, _linear(room)),
    "layers": lambda room: Layers(nn.AdaptiveAvgPool1d(1), nn.Flatten(), _linear(room)),
    "no bias": _without_bias,
    "identities": _identity_dropout,
    "maximum": _maximum,
    "sum": _sum,
    "GeM": _gem,
    "flattened": _flattened,
    "coarse": _coarse,
    "saturated": _saturated_flat,
    "normalised": _normalised,
    "hidden": lambda room: Pooled(mean, _hidden(room)),
    "activated": _activated,
    "dropped": _dropped,
    "hidden dropped": _deep_dropped,
    "deviation": _deviation,
    "log-sum": _log_sum,
    "largest": _largest,
    "attention": _attention("function"),
    "attention module": _attention("module"),
    "gated attention": _attention("gated"),
    "query": _query,
    "gate": Gate,
    "cosine": _cosine,
    "prototypes": _prototypes,
    "experts": _experts,
    "switched": _switched,
    "sometimes": _sometimes,
    "concatenated": _concatenated,
    "covariance": _covariance,
    "multi-scale": _multi_scale,
    "two ways": TwoWays,
    "two branches": TwoBranches,
    "class maps": ClassMaps,
    "one channel": OneChannel,
    "auxiliary": Auxiliary,
    "recurrent": Recurrent,
    "tied": Tied,
    "bottleneck": lambda room: Pooled(mean, nn.Sequential(nn.Linear(room.channels, 2), _linear(room, 2))),
    "reparametrised": _reparametrised,
}
