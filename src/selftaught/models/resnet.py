"""ResNets of depth 6n+2 for small images, as in Section 4.2 of He et al. (CVPR 2016)."""

from torch import Tensor, nn

from selftaught.errors import InputError
from selftaught.models.architecture import Architecture, Spec, register_family
from selftaught.models.classifier import Classifier, he_init, stack

_WIDTHS = (16, 32, 64)
_LISTED = (8, 14, 20, 26, 32, 44, 56, 110)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; 1x1 convolution + BN on the shortcut where the shape changes.

    Input (B, in_channels, H, W), output (B, width, ceil(H / stride), ceil(W / stride)), not negative.
    """

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != width:
            projection = nn.Conv2d(in_channels, width, 1, stride=stride, bias=False)
            self.shortcut = stack({"conv": projection, "bn": nn.BatchNorm2d(width)})
        # A module of its own: one that is used twice cannot be told apart by GuidedBackprop's hooks.
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output; its last operation is the ReLU after the addition."""
        out = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(out)) + self.shortcut(x))


@register_family("resnet", *_LISTED)
def architecture(depth: int) -> Architecture:
    """The ResNet of the given depth, which must be 6n+2 with n >= 1; InputError otherwise."""
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        valid = ", ".join(f"resnet{number}" for number in _LISTED)
        raise InputError(f"there is no resnet{depth}: the depth must be 6n+2 with n >= 1 ({valid}, ...)")
    summary = f"CIFAR ResNet, 3 stages of {blocks} basic block{'s' * (blocks > 1)}, 16-32-64 channels"
    return Architecture(summary, build=lambda spec: _build(blocks, spec))


def _build(blocks: int, spec: Spec) -> Classifier:
    stem = {
        "conv": nn.Conv2d(spec.in_channels, _WIDTHS[0], 3, padding=1, bias=False),
        "bn": nn.BatchNorm2d(_WIDTHS[0]),
        "relu": nn.ReLU(inplace=True),
    }
    features: dict[str, nn.Module] = {"stem": stack(stem)}
    channels = _WIDTHS[0]
    for number, width in enumerate(_WIDTHS, start=1):
        stride = 1 if number == 1 else 2
        features[f"stage{number}"] = _stage(channels, width, blocks, stride, spec.dropout)
        channels = width
    head = {
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classifier": nn.Linear(channels, spec.num_classes),
    }
    model = Classifier(stack(features), stack(head))
    he_init(model)
    return model


def _stage(channels: int, width: int, blocks: int, stride: int, dropout: float) -> nn.Sequential:
    layers: dict[str, nn.Module] = {"block1": BasicBlock(channels, width, stride)}
    for number in range(2, blocks + 1):
        layers[f"block{number}"] = BasicBlock(width, width, stride=1)
    return stack(layers, dropout)
