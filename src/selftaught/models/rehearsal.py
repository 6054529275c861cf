"""A foreign model's first forward pass, so that one that does not fit is refused before any training."""

import textwrap

import torch
from torch import Tensor, nn

from selftaught.errors import ExplanationError, InputError
from selftaught.models.registry import Spec
from selftaught.saliency.preserve import preserved_buffers, preserved_rng, refuse_foreign, unwrap


def check(name: str, model: nn.Module, spec: Spec, remedy: str) -> None:
    """Pass two zero images through `model` in train mode, its buffers and all random states left as found.

    Two, because a BatchNorm in train mode may refuse one.

    Raises:
        InputError: it fails, with the `remedy`, returns anything but float32 logits (B, C), cannot be explained, or
            has nothing to train.
    """
    try:
        refuse_foreign(unwrap(model))
    except ExplanationError as error:
        raise InputError(f"{name} returns a model that cannot be used here: {error}") from None
    model.train()
    x = torch.zeros(2, spec.in_channels, spec.height, spec.width)
    shape = (len(x), spec.num_classes)
    try:
        with torch.no_grad(), preserved_rng(x.device), preserved_buffers(model):
            logits = model(x)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a foreign model may raise anything
        size = f"{spec.in_channels}x{spec.height}x{spec.width}"
        raise InputError(f"{name} cannot take images of {size} ({reason(error)}): {remedy}") from None
    if not isinstance(logits, Tensor):
        raise InputError(
            f"{name} returns {type(logits).__name__}: it must return the logits, a tensor {shape}"
        )
    if tuple(logits.shape) != shape or logits.dtype != torch.float32:
        found = f"{str(logits.dtype).removeprefix('torch.')} {tuple(logits.shape)}"
        raise InputError(
            f"{name} returns {found} for {len(x)} images: it must return logits, float32 {shape}"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"{name} returns a model without a weight that can be trained: give it one")


def reason(error: BaseException) -> str:
    """What went wrong in one line of bounded length: other packages' messages run over many."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return textwrap.shorten(lines[0], 160, placeholder=" ...").rstrip(".:")
