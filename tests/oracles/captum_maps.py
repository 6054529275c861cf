"""Reference maps: captum, one class after another, on a copy of the model."""

import copy
import warnings

import torch
from captum.attr import GuidedBackprop, InputXGradient, LayerGradCam, Saliency
from torch import Tensor, nn


class _Logits(nn.Module):
    """A copy of a model that returns plain logits, in eval mode."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = copy.deepcopy(model).eval()

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x)
        return getattr(out, "logits", out)


class _ChannelsFirst(nn.Module):
    """A token layer whose output captum sees as (B, D, N): for captum the channels are always axis 1.

    Tokens `first` to `last` only, those of the picture.
    """

    def __init__(self, layer: nn.Module, first: int, last: int | None) -> None:
        super().__init__()
        self.layer, self.seen, self.first, self.last = layer, nn.Identity(), first, last

    def forward(self, *args, **kwargs):
        out = self.layer(*args, **kwargs)
        tokens = out[0] if isinstance(out, tuple) else out
        last = tokens.shape[1] if self.last is None else self.last
        seen = self.seen(tokens[:, self.first : last].movedim(-1, 1)).movedim(1, -1)
        tokens = torch.cat([tokens[:, : self.first], seen, tokens[:, last:]], 1)
        return (tokens, *out[1:]) if isinstance(out, tuple) else tokens


def captum_maps(
    model, x, saliency, layer=None, channels_last=False, relu=False, classes=None, tokens=(0, None)
) -> Tensor:
    """(B, C, ...) maps of an eval-mode copy of `model`, by a captum call for each class."""
    reference = _Logits(model)
    classes = range(reference(x).shape[1]) if classes is None else classes
    x = x.clone().requires_grad_()
    if saliency == "grad-cam":
        target = reference.inner.get_submodule(layer)
        if channels_last:
            wrapped = _ChannelsFirst(target, *tokens)
            parent, _, name = layer.rpartition(".")
            setattr(reference.inner.get_submodule(parent), name, wrapped)
            target = wrapped.seen
        method = LayerGradCam(reference, target)
        maps = [method.attribute(x, target=k, relu_attributions=relu)[:, 0] for k in classes]
    else:
        method = {"grad": Saliency, "grad-input": InputXGradient, "guided-backprop": GuidedBackprop}[
            saliency
        ](reference)
        options = {"abs": False} if saliency == "grad" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            maps = [method.attribute(x, target=k, **options) for k in classes]
    return torch.stack(maps, dim=1).detach()


class _ConstantAffine(nn.Module):
    """What a train-mode BatchNorm did to one batch, its statistics held constant."""

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm, seen: Tensor) -> None:
        super().__init__()
        axes = [0, *range(2, seen.dim())]
        mean, var = seen.mean(axes, keepdim=True), seen.var(axes, correction=0, keepdim=True)
        shape = mean.shape
        scale = 1 / torch.sqrt(var + norm.eps)
        shift = -mean * scale
        if norm.affine:
            weight, bias = norm.weight.detach().view(shape), norm.bias.detach().view(shape)
            scale, shift = scale * weight, shift * weight + bias
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def with_frozen_statistics(model: nn.Module, x: Tensor) -> nn.Module:
    """design.md's train-mode reference: every BatchNorm replaced by the affine map that this batch saw."""
    model = copy.deepcopy(model).train()
    seen: dict[str, Tensor] = {}
    norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    for name, norm in norms.items():
        norm.register_forward_pre_hook(
            lambda _, args, name=name: seen.__setitem__(name, args[0].detach().clone())
        )
    with torch.no_grad():
        model(x)
    for name, norm in norms.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, _ConstantAffine(norm, seen[name]))
    return model


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest reference value."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float((found - expected).abs().max() / expected.abs().max())
