"""CNN-6, CNN-8 and CNN-10 of Table 1: the plain CNNs of Mirzadeh et al. (TAKD, arXiv:1902.03393)."""

from typing import NamedTuple

from torch import nn

from selftaught.errors import InputError
from selftaught.models.architecture import Architecture, Spec, register_family
from selftaught.models.classifier import Classifier, he_init, stack


class _Plan(NamedTuple):
    """Widths of the convolutions, a tuple per stage (each ends in a 2x2 max-pool), and of the hidden layer."""

    stages: tuple[tuple[int, ...], ...]
    hidden: int | None


_PLANS = {
    6: _Plan(((16, 16), (32, 32), (64, 64)), hidden=None),
    8: _Plan(((16, 16), (32, 32), (64, 64), (128, 128)), hidden=64),
    10: _Plan(((32, 32), (64, 64), (128, 128), (256, 256, 256, 256)), hidden=128),
}


@register_family("cnn", *_PLANS)
def architecture(depth: int) -> Architecture:
    """The plain CNN with the given number of convolutions, 3x3 + BN + ReLU each; InputError where none is."""
    if depth not in _PLANS:
        raise InputError(f"there is no cnn{depth}: use one of {', '.join(f'cnn{known}' for known in _PLANS)}")
    plan = _PLANS[depth]
    widths = "-".join(str(stage[-1]) for stage in plan.stages)
    summary = f"plain CNN, {depth} convolutions ({widths} channels), {len(plan.stages)} max-pools"
    return Architecture(summary, build=lambda spec: _build(f"cnn{depth}", plan, spec))


def _build(name: str, plan: _Plan, spec: Spec) -> Classifier:
    smallest = 2 ** len(plan.stages)
    if min(spec.height, spec.width) < smallest:
        raise InputError(
            f"{name} halves its input {len(plan.stages)} times, images of {spec.height}x{spec.width} are too "
            f"small: the smallest image size that fits is {smallest}x{smallest}"
        )
    features: dict[str, nn.Module] = {}
    channels = spec.in_channels
    for number, widths in enumerate(plan.stages, start=1):
        features[f"stage{number}"] = _stage(channels, widths, spec.dropout)
        channels = widths[-1]
    inputs = channels * (spec.height // smallest) * (spec.width // smallest)
    model = Classifier(stack(features), _head(inputs, plan.hidden, spec.num_classes))
    he_init(model)
    return model


def _stage(channels: int, widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    layers: dict[str, nn.Module] = {}
    for number, width in enumerate(widths, start=1):
        # No bias: the normalisation that follows would subtract it again.
        layers[f"conv{number}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        layers[f"bn{number}"] = nn.BatchNorm2d(width)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        channels = width
    layers["pool"] = nn.MaxPool2d(2)
    return stack(layers, dropout)


def _head(inputs: int, hidden: int | None, num_classes: int) -> nn.Sequential:
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    if hidden:
        layers["hidden"] = nn.Linear(inputs, hidden)
        layers["relu"] = nn.ReLU(inplace=True)
    layers["classifier"] = nn.Linear(hidden or inputs, num_classes)
    return stack(layers)
