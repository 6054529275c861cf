"""Trunks of random networks: what makes maps or tokens of an input, with what is known of each by construction."""

import math
import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_DROP_CHANNELS = {1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}

ACTIVATIONS: list[Callable[[], nn.Module]] = [
    nn.ReLU,
    lambda: nn.ReLU(inplace=True),
    nn.GELU,
    nn.SiLU,
    lambda: nn.SiLU(inplace=True),
    nn.Tanh,
    nn.LeakyReLU,
    nn.Hardswish,
    nn.ELU,
    nn.PReLU,
]


def never(module: nn.Module, reason: str) -> nn.Module:
    """Mark what Grad-CAM may not be taken from: attention, gates, one channel, one position, one branch of several."""
    module.never = reason
    return module


def good(module: nn.Module, channel_dim: int = 1) -> nn.Module:
    """Mark what Grad-CAM may be taken from, with all inside it that is not marked otherwise."""
    module.good = True
    module.channel_dim = channel_dim
    return module


def conv(dim: int, inside: int, outside: int, size: int = 3, **options) -> nn.Module:
    return _CONV[dim](inside, outside, size, padding=size // 2, **options)


def batch_norm(dim: int, channels: int) -> nn.Module:
    return _BATCH_NORM[dim](channels)


def norm(draw: random.Random, dim: int, channels: int) -> nn.Module:
    batch = _BATCH_NORM[dim]
    make = draw.choice(
        [
            lambda: batch(channels),
            lambda: batch(channels),
            lambda: batch(channels, affine=False),
            lambda: batch(channels, track_running_stats=False),
            lambda: nn.GroupNorm(2, channels),
            lambda: nn.GroupNorm(1, channels),
            lambda: _INSTANCE_NORM[dim](channels, affine=True),
            nn.Identity,
        ]
    )
    return make()


class Residual(nn.Module):
    """A block whose sum is made in place or not, with one activation called twice."""

    def __init__(self, draw: random.Random, dim: int, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv(dim, channels, channels), norm(draw, dim, channels)
        self.conv2, self.norm2 = conv(dim, channels, channels), norm(draw, dim, channels)
        self.act = draw.choice(ACTIVATIONS)()
        self.in_place, self.last = draw.random() < 0.4, draw.random() < 0.7

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        out = out.add_(x) if self.in_place and not isinstance(self.norm2, nn.Identity) else out + x
        return self.act(out) if self.last else out


class ChannelGate(nn.Module):
    """Squeeze and excitation (Hu et al., 2018)."""

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool1d(1)
        self.fc1 = never(_CONV[dim](channels, 3, 1), "one position")
        self.fc2 = never(_CONV[dim](3, channels, 1), "one position")
        self.gate = never(nn.Sigmoid(), "a gate")
        never(self.squeeze, "one position")

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x.flatten(2)).view(*x.shape[:2], *[1] * (x.dim() - 2))
        return x * self.gate(self.fc2(F.relu(self.fc1(squeezed))))


class SpatialGate(nn.Module):
    """Each position is multiplied by a number of its own, which one channel makes."""

    def __init__(self, dim: int, channels: int, every: bool) -> None:
        super().__init__()
        reason = "a gate" if every else "a gate of one channel"
        self.score = never(conv(dim, channels, channels if every else 1, 1), reason)
        self.gate = never(nn.Sigmoid(), reason)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.score(x))


class Branches(nn.Module):
    """Inception: branches side by side."""

    def __init__(self, draw: random.Random, dim: int, inside: int, outside: int) -> None:
        super().__init__()
        half = outside // 2
        self.narrow = conv(dim, inside, half, 1)
        self.wide = nn.Sequential(conv(dim, inside, half, 3), draw.choice(ACTIVATIONS)())
        for branch in (self.narrow, self.wide, *self.wide):
            never(branch, "one branch of several")

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.narrow(x), self.wide(x)], 1)


class Dense(nn.Module):
    """What comes in goes out beside what was made of it."""

    def __init__(self, dim: int, inside: int, outside: int) -> None:
        super().__init__()
        self.new = never(conv(dim, inside, outside - inside), "one branch of several")

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.new(F.relu(x))], 1)


class Twice(nn.Module):
    """One convolution, one norm and one activation, run twice."""

    def __init__(self, draw: random.Random, dim: int, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = conv(dim, channels, channels), norm(draw, dim, channels)
        self.act = draw.choice(ACTIVATIONS)()

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = self.act(self.norm(self.conv(x)))
        return x


class Sometimes(nn.Module):
    """Stochastic depth: in train mode the part is left out of some samples."""

    def __init__(self, part: nn.Module, rate: float, numpyish: bool = False) -> None:
        super().__init__()
        self.part, self.rate, self.whole_batch = part, rate, numpyish

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x + self.part(x)
        if self.whole_batch:
            return x if random.random() < self.rate else x + self.part(x)
        keep = torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device, dtype=x.dtype) >= self.rate
        return x + self.part(x) * keep / (1 - self.rate)


class Checkpointed(nn.Module):
    """A part whose activations are not kept but made again in the backward pass."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.part, x, use_reentrant=False)


class Convolutional(nn.Module):
    """Stages of different kinds over 1 to 3 spatial axes; `forward` returns what each of them made.

    Attributes:
        widths: channels of what each stage makes.
        last_good: the last stage with several positions and channels.
    """

    def __init__(self, draw: random.Random, dim: int, inside: int, size: int, shrink: str) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.kinds, self.widths = [], []
        self.shared = draw.choice(ACTIVATIONS)() if draw.random() < 0.35 else None
        width, sizes = inside, []
        for index in range(draw.choice([1, 2, 2, 3])):
            wider = draw.choice([4, 6, 8]) if index == 0 else width + draw.choice([0, 2, 4])
            kind = draw.choice(_STAGES) if index else "plain"
            stage, halves = _stage(draw, kind, dim, width, wider, size, self.shared)
            width, size = wider, size // 2 if halves else size
            self.stages.append(stage)
            self.kinds.append(kind)
            self.widths.append(width)
            sizes.append(size)
        if shrink == "one position":
            last = nn.Sequential(_CONV[dim](width, width, size), nn.ReLU())
            for part in last.modules():
                never(part, "one position")
            self.stages.append(last)
        if shrink == "one channel":
            last = nn.Sequential(_CONV[dim](width, 1, 1), draw.choice([nn.Identity, nn.ReLU, nn.Tanh])())
            for part in last.modules():
                never(part, "one channel")
            self.stages.append(last)
        if shrink != "none":
            self.kinds.append(shrink)
            self.widths.append(1 if shrink == "one channel" else width)
            sizes.append(1 if shrink == "one position" else size)
        self.sizes = sizes
        self.dim = dim
        self.last_good = len(self.stages) - 1 - (shrink != "none")
        good(self.stages[self.last_good])

    def forward(self, x: Tensor) -> list[Tensor]:
        made = []
        for stage in self.stages:
            x = stage(x)
            made.append(x)
        return made


_STAGES = [
    *["plain", "plain", "residual", "channel gate", "spatial gate", "full gate", "branches", "dense"],
    *["twice", "sometimes", "checkpointed", "shared", "in place", "dropped"],
]


def _stage(
    draw: random.Random, kind: str, dim: int, inside: int, outside: int, size: int, shared: nn.Module | None
) -> tuple[nn.Module, bool]:
    """A stage, and whether it halves the size."""
    if kind == "dense" and outside == inside:
        kind = "plain"
    halves = size >= 6 and draw.random() < 0.6
    act = shared if shared is not None and draw.random() < 0.6 else draw.choice(ACTIVATIONS)()
    entry = [conv(dim, inside, outside), norm(draw, dim, outside), act]
    if kind == "plain":
        parts = entry
    elif kind == "dense":
        parts = [Dense(dim, inside, outside)]
    elif kind == "branches":
        parts = [Branches(draw, dim, inside, outside)]
    elif kind == "in place":
        parts = [*entry[:2], InPlace(), nn.ReLU(inplace=True)]
    elif kind == "dropped":
        drop = draw.choice([nn.Dropout, _DROP_CHANNELS[dim]])
        parts = [*entry, drop(0.3)]
    elif kind == "shared":
        parts = [*entry, nn.Sequential(conv(dim, outside, outside), act)]
    else:
        own = {
            "residual": lambda: Residual(draw, dim, outside),
            "channel gate": lambda: ChannelGate(dim, outside),
            "spatial gate": lambda: SpatialGate(dim, outside, every=False),
            "full gate": lambda: SpatialGate(dim, outside, every=True),
            "twice": lambda: Twice(draw, dim, outside),
            "sometimes": lambda: Sometimes(conv(dim, outside, outside), 0.4, draw.random() < 0.3),
            "checkpointed": lambda: Checkpointed(nn.Sequential(conv(dim, outside, outside), nn.Tanh())),
        }[kind]()
        parts = [*entry, own]
    if halves:
        parts.insert(draw.choice([0, len(parts)]), draw.choice([_MAX_POOL, _AVERAGE_POOL])[dim](2))
    return nn.Sequential(*parts), halves


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * 1).mul_(1.5).add_(0.1)


class Attention(nn.Module):
    """Self-attention whose weights are what a module returns."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.softmax = never(nn.Softmax(-1), "attention weights")
        self.drop = never(nn.Dropout(0.1), "attention weights")
        never(self.qkv, "queries, keys and values side by side")

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        q, k, v = self.qkv(x).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = self.drop(self.softmax(q @ k.mT / math.sqrt(q.shape[-1])))
        return self.out((weights @ v).transpose(1, 2).reshape(batch, count, width))


class Torch(nn.Module):
    """torch's own attention, which returns a tuple."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class Block(nn.Module):
    """A transformer's block, normalised before or after its parts; its output may come in a tuple."""

    def __init__(self, draw: random.Random, width: int) -> None:
        super().__init__()
        self.before = draw.random() < 0.7
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = draw.choice([Attention, Torch])(width, 2)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(draw.choice([0.0, 0.2]))

    def forward(self, x: Tensor) -> Tensor:
        if self.before:
            x = x + self.drop(self.attention(self.norm1(x)))
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.drop(self.attention(x)))
        return self.norm2(x + self.mlp(x))


class Mixer(nn.Module):
    """A block of an MLP-Mixer (Tolstikhin et al., 2021)."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across = nn.Sequential(nn.Linear(count, count), nn.GELU(), nn.Linear(count, count))
        self.along = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        for part in self.across.modules():
            part.unclear = True  # a linear layer along the tokens: which axis is the channels'?

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.norm1(x).mT).mT
        return x + self.along(self.norm2(x))


class Tokens(nn.Module):
    """Patches of an image or a series as tokens, with class, distillation and register tokens before them.

    Attributes:
        extra: how many tokens stand before the picture's: class tokens first, then registers.
        grid: the shape of the picture.
    """

    def __init__(
        self, draw: random.Random, dim: int, inside: int, size: int, classes: int, kind: str, alone: bool
    ) -> None:
        super().__init__()
        patch = 2 if dim < 3 else size // 2
        self.width, self.kind = draw.choice([6, 8, 12]), kind
        self.embed = _CONV[dim](inside, self.width, patch, patch)
        self.grid = (size // patch,) * dim
        count = math.prod(self.grid)
        self.class_tokens = classes
        registers = draw.choice([0, 0, 3]) if kind == "transformer" else 0
        self.extra = classes + registers
        self.tokens = nn.Parameter(torch.randn(1, self.extra, self.width)) if self.extra else None
        self.position = nn.Parameter(0.5 * torch.randn(1, count + self.extra, self.width))
        depth = draw.choice([1, 2])
        if kind == "mixer":
            blocks = [Mixer(self.width, count) for _ in range(depth)]
        elif kind == "recurrent":
            blocks = [nn.GRU(self.width, self.width // 2, batch_first=True, bidirectional=True)]
        else:
            blocks = [Block(draw, self.width) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.start = nn.Dropout(draw.choice([0.0, 0.1]))
        self.start.channel_dim = -1
        for block in self.blocks:
            block.channel_dim = -1
        self.channel_dim = -1
        self.embed.channel_dim = 1
        self._mark(depth, alone)

    def _mark(self, depth: int, alone: bool) -> None:
        """Where only class tokens are read, of the last block all that follows its attention shows nothing else."""
        last = self.blocks[-1]
        if not alone:
            good(last, -1)
            self.returns_good = True  # the last block's very output
            return
        if depth > 1:
            good(self.blocks[-2], -1)
        elif not last.before:
            good(self.start, -1)
        if last.before:
            good(last.norm1, -1)
        else:
            never(last.norm1, "class tokens alone are read")
        for part in (last.attention, last.drop, last.norm2, last.mlp):
            for inner in part.modules():
                never(inner, "class tokens alone are read")
        last.never = self.never = "class tokens alone are read"

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).mT
        if self.tokens is not None:
            x = torch.cat([self.tokens.expand(len(x), -1, -1), x], 1)
        x = self.start(x + self.position)
        for block in self.blocks:
            x = block(x)
            x = x[0] if isinstance(x, tuple) else x
        return x


class LastAxis(nn.Module):
    """Channels on the last axis (B, H, W, C) all the way: linear layers, depthwise convolutions and LayerNorm."""

    def __init__(self, draw: random.Random, dim: int, inside: int, size: int) -> None:
        super().__init__()
        self.width = draw.choice([6, 8, 10])  # 8 is as wide as an image is large
        self.embed = nn.Linear(inside, self.width)
        self.embed.channel_dim = -1
        self.blocks = nn.ModuleList(LastAxisBlock(dim, self.width) for _ in range(draw.choice([1, 2])))
        for block in self.blocks:
            block.channel_dim = -1
        self.channel_dim, self.returns_good = -1, True
        good(self.blocks[-1], -1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.movedim(1, -1))
        for block in self.blocks:
            x = block(x)
        return x


class LastAxisBlock(nn.Module):
    """As in ConvNeXt (Liu et al., 2022)."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.depthwise = conv(dim, width, width, 3, groups=width)
        self.depthwise.channel_dim = 1
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.scale = nn.Parameter(0.5 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.depthwise(x.movedim(-1, 1)).movedim(1, -1))
        return x + self.scale * self.down(F.gelu(self.up(out)))
