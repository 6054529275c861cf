"""Networks to measure: the library's by their names, and larger ones of plain torch."""

from collections import OrderedDict

from torch import Tensor, nn

from selftaught import models

PLAIN = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
"""Blocks per stage of He et al.'s ResNets for ImageNet, here with the 3×3 stem that people give them on CIFAR."""


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        same = stride == 1 and channels == width
        projection = nn.Conv2d(channels, width, 1, stride, bias=False)
        self.shortcut = nn.Identity() if same else nn.Sequential(projection, nn.BatchNorm2d(width))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.shortcut(x))


class PlainResNet(nn.Module):
    """Stages of 64, 128, 256 and 512 channels: 11 million parameters with two blocks in each."""

    def __init__(self, blocks: tuple[int, ...], classes: int, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        stages: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
        width = 64
        for number, count in enumerate(blocks, start=1):
            before, width = width, 32 * 2**number
            stage: list[nn.Module] = [Block(before, width, 1 if number == 1 else 2)]
            stage += [Block(width, width, 1) for _ in range(count - 1)]
            stages[f"stage{number}"] = nn.Sequential(*stage, *([nn.Dropout(dropout)] if dropout else []))
        self.features = nn.Sequential(stages)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def create(name: str, classes: int, channels: int, size: int, dropout: float = 0.0) -> nn.Module:
    """A network with random weights: resnet18 and resnet34 of plain torch, any other of the library."""
    if name in PLAIN:
        return PlainResNet(PLAIN[name], classes, channels, dropout)
    return models.create(name, classes, channels, size, dropout=dropout)
