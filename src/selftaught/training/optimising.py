"""The optimiser of a run: what is trained at which rate, what decays, and how the rate changes."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from selftaught.files.config import RunConfig

OPTIMIZERS: dict[str, Callable[[Any, RunConfig, bool | None], torch.optim.Optimizer]] = {
    "sgd": lambda groups, config, fused: torch.optim.SGD(
        groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=fused
    ),
    "adamw": lambda groups, config, fused: torch.optim.AdamW(
        groups, lr=config.lr, weight_decay=config.weight_decay, fused=fused
    ),
}


def optimizer(
    config: RunConfig, module: nn.Module, backbone: Iterable[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """The optimiser that trains all parameters of a module.

    Args:
        config: says which optimiser, and its settings.
        module: a method, with the networks that it trains, or a network.
        backbone: the parameters below the classifier, whose rate is multiplied by `RunConfig.backbone_factor`.
    """
    parameters = list(module.parameters())
    groups = parameter_groups(config, parameters, backbone)
    fused = _fused(parameters, config)
    made = OPTIMIZERS[config.optimizer](groups, config, fused)
    if fused and config.momentum:
        # Torch's fused SGD wants a momentum of all parameters or of none, and those that the warm-up of hint and fsp
        # leaves alone would have none when the others have theirs. From zero it becomes the first gradient as well.
        for parameter in parameters:
            made.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return made


def parameter_groups(
    config: RunConfig, parameters: Sequence[nn.Parameter], backbone: Iterable[nn.Parameter] = ()
) -> list[dict[str, Any]]:
    """The parameters in groups of one rate and one weight decay, in the order of their first members.

    Without `RunConfig.decay_norms` vectors do not decay: they are the biases of layers and the scales and shifts of
    normalisations.
    """
    below = {id(parameter) for parameter in backbone}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        rate = config.lr * (config.backbone_factor if id(parameter) in below else 1.0)
        decays = config.decay_norms or parameter.ndim > 1
        groups.setdefault((rate, config.weight_decay if decays else 0.0), []).append(parameter)
    return [
        {"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()
    ]


def lr_factor(config: RunConfig, step: int, steps: int) -> float:
    """What the learning rates are multiplied by in optimiser step `step` (from 0), `steps` making an epoch.

    In the first `RunConfig.ramp` of all steps the factor of the schedule is itself multiplied by a number that rises
    linearly to 1.
    """
    total = config.epochs * steps
    rising = min(1.0, (step + 1) / max(1.0, config.ramp * total))
    if config.schedule == "cosine":
        return rising * 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0)))
    return rising * 0.1 ** sum(step >= milestone * steps for milestone in config.milestones)


def _fused(parameters: Sequence[nn.Parameter], config: RunConfig) -> bool | None:
    """Whether an update is one pass over the memory, which on a CPU is what it costs; None where torch decides.

    Torch's fused CPU kernels walk through a parameter and its gradient side by side in memory without a look at their
    strides. Autograd lays a gradient out as its parameter if that has no gaps: these layouts are known to have none.
    """
    layouts = (torch.contiguous_format, torch.channels_last)
    dense = all(
        p.is_floating_point() and any(p.is_contiguous(memory_format=layout) for layout in layouts)
        for p in parameters
    )
    return True if config.device == "cpu" and dense else None
