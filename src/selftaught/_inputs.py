"""What the functions of the method ask of their tensors: one place for the checks and the precision."""

from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor

from selftaught.errors import InputError


def as_float(x: Tensor) -> Tensor:
    """`x` in float32 where it is half precision, else in its own dtype: sums of halves lose the small terms."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def batch_and_classes(name: str, scores: Tensor) -> tuple[int, int]:
    """The two sizes of a floating-point tensor of shape (B, C).

    Raises:
        InputError: `scores` has another number of axes or is not floating point.
    """
    if scores.dim() != 2 or not scores.is_floating_point():
        raise InputError(
            f"{name} must be floating point of shape (batch, classes), got {scores.dtype} of shape "
            f"{tuple(scores.shape)}"
        )
    return scores.shape[0], scores.shape[1]


def check_range(name: str, value: float, allowed: Callable[[float], bool], text: str) -> None:
    """Refuse a setting that is no number or out of range.

    Raises:
        InputError: naming the setting, its range and the value.
    """
    if not isinstance(value, Real) or isinstance(value, bool) or not allowed(float(value)):
        raise InputError(f"{name} must be {text}, not {value!r}")


def check_labels(labels: Tensor, batch: int, classes: int) -> None:
    """Check that `labels` are class indices for `batch` samples.

    The range is looked at on the CPU only: elsewhere it would cost a synchronisation per step, and the gather
    that follows fails by itself.

    Raises:
        InputError: another shape or dtype than int64 of shape (B,), or a label outside 0..C-1.
    """
    if not isinstance(labels, Tensor):
        raise InputError(f"labels must be an int64 tensor of class indices, not {type(labels).__name__}")
    if labels.dtype != torch.int64 or labels.shape != (batch,):
        raise InputError(
            f"labels must be int64 class indices of shape ({batch},), got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if labels.device.type == "cpu" and batch and not torch.compiler.is_compiling():
        low, high = (int(bound) for bound in labels.aminmax())
        if low < 0 or high >= classes:
            raise InputError(f"labels must lie in 0..{classes - 1} for {classes} classes, got {low}..{high}")


def check_same_shape(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Check that two tensors have one shape, since broadcasting would hide the mistake.

    Raises:
        InputError: the shapes differ.
    """
    if x.shape != other.shape:
        raise InputError(
            f"{name} and {other_name} must have the same shape, got {tuple(x.shape)} and {tuple(other.shape)}"
        )


def draw_device(generator: torch.Generator | None, like: Tensor) -> torch.device:
    """Where random numbers for `like` are drawn: with the generator, which may stay on the CPU."""
    return like.device if generator is None else generator.device
