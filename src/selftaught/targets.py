"""Soft targets: from similarities (Eq. 6) or other weights, permuted (LE-Permut), and smoothed labels.

Rows sum to 1. Targets are constants: no gradient flows through them.
"""

import operator

import torch
from torch import Tensor

from selftaught._inputs import as_float, batch_and_classes, check_labels, check_range, draw_device
from selftaught.errors import InputError


def introspective(similarity: Tensor, labels: Tensor, alpha: float = 0.9) -> Tensor:
    """Eq. 6: alpha on the truth, the rest in proportion to how alike the explanations are, plus one.

    q_k = (1 - alpha) · (s_k + 1) / Σ_{m≠c} (s_m + 1) for k ≠ c, q_c = alpha. With two classes the rest has one place to
    go: this is label smoothing.

    Where every other class has similarity -1 to rounding the rest is spread evenly: what is left of s + 1 there is
    noise, not likeness. That is judged by the largest s_k + 1 of a row: up to `rounding` (4e-6 for float32) the shares
    are even, from twice that on they are exactly Eq. 6, and in between they go over from one to the other without a
    step.

    Args:
        similarity: (B, C), values in [-1, 1]; the column of the truth is not used.
        labels: (B,), int64.
        alpha: the target of the true class, in (0, 1].

    Returns:
        (B, C) in the similarity's dtype (float32 for half precision), detached.

    Raises:
        InputError: fewer than two classes, alpha out of range, labels of the wrong shape, dtype or range.

    >>> similarity = torch.tensor([[1.0, 0.5, -1.0, -0.5]])
    >>> introspective(similarity, torch.tensor([0]), alpha=0.6)
    tensor([[0.6000, 0.3000, 0.0000, 0.1000]])
    """
    batch_and_classes("similarity", similarity)
    weights = (as_float(similarity.detach()) + 1).clamp_min(0)
    return proportional(weights, labels, alpha, rounding(similarity.dtype))


def rounding(dtype: torch.dtype) -> float:
    """How far a similarity of -1 may lie from -1 because of rounding alone, for similarities of this dtype.

    Cosines of float32 maps that are each other's negative came out up to 6.5 eps away from -1, with 4 to 150,528
    elements a map; 32 eps leaves room for other orders of summation. Half precision is one rounding of a result in
    float32.

    >>> rounding(torch.float32) < 4e-6, rounding(torch.bfloat16)
    (True, 0.0078125)
    """
    return (1 if dtype in (torch.float16, torch.bfloat16) else 32) * torch.finfo(dtype).eps


def proportional(weights: Tensor, labels: Tensor, alpha: float = 0.9, noise: float = 0.0) -> Tensor:
    """Alpha on the truth, 1 - alpha on the other classes in proportion to their weights: q_k = (1 - alpha) w_k / Σ w_m.

    Where every other class has weight 0 the rest is spread evenly.

    Args:
        weights: (B, C), at least 0; the column of the truth is not used.
        labels: (B,), int64.
        alpha: the target of the true class, in (0, 1].
        noise: weights up to here may be nothing but rounding. Rows without a larger one are spread evenly, rows with
            one of twice that are in proportion, those in between in a mixture of both.

    Returns:
        (B, C) in the weights' dtype (float32 for half precision), detached.

    Raises:
        InputError: fewer than two classes, alpha out of range, labels of the wrong shape, dtype or range.

    >>> proportional(torch.tensor([[9.0, 3.0, 0.0, 1.0]]), torch.tensor([0]), alpha=0.6)
    tensor([[0.6000, 0.3000, 0.0000, 0.1000]])
    """
    batch, classes = batch_and_classes("weights", weights)
    _check(labels, batch, classes, alpha)
    truth = labels[:, None]
    weight = as_float(weights.detach()).scatter(1, truth, 0)
    total = weight.sum(1, keepdim=True)
    share = torch.where(total == 0, 1 / (classes - 1), weight / total)
    if noise:
        meant = (weight.amax(1, keepdim=True) / noise - 1).clamp(0, 1)
        share = torch.full_like(share, 1 / (classes - 1)).lerp(share, meant)
    return ((1 - alpha) * share).scatter(1, truth, alpha)


def permuted(targets: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """LE-Permut (Section 5.4): shuffle the entries other than the ground truth's, each row independently.

    Every permutation of the C - 1 entries is equally likely; the ground truth's entry stays in place.

    Args:
        targets: (B, C), floating point.
        labels: (B,), int64.
        generator: source of the permutations, on the targets' device or on the CPU; the global one if None.

    Returns:
        (B, C) in the dtype of `targets`.

    Raises:
        InputError: fewer than two classes, labels of the wrong shape, dtype or range.

    >>> permuted(torch.tensor([[0.2, 0.6, 0.2]]), torch.tensor([1]))
    tensor([[0.2000, 0.6000, 0.2000]])
    """
    batch, classes = batch_and_classes("targets", targets)
    _check(labels, batch, classes)
    others = torch.arange(classes - 1, device=targets.device).expand(batch, -1)
    others = others + (others >= labels[:, None])
    # 62 random bits, since ties among the keys would favour some permutations.
    device = draw_device(generator, targets)
    keys = torch.randint(2**62, (batch, classes - 1), generator=generator, device=device)
    shuffled = others.gather(1, keys.argsort(1).to(targets.device))
    return targets.scatter(1, others, targets.gather(1, shuffled))


def smooth(labels: Tensor, num_classes: int, alpha: float = 0.9, dtype: torch.dtype | None = None) -> Tensor:
    """Label smoothing in the paper's convention: alpha on the truth, 1 - alpha evenly on the other classes.

    `torch.nn.CrossEntropyLoss(label_smoothing=e)` spreads e over all classes, the truth included: the two agree for
    1 - alpha = e · (C - 1) / C.

    Args:
        labels: (B,), int64.
        num_classes: C, at least 2.
        alpha: the target of the true class, in (0, 1].
        dtype: of the result; torch's default if None.

    Returns:
        (B, C).

    Raises:
        InputError: fewer than two classes, alpha out of range, labels of the wrong shape, dtype or range.

    >>> smooth(torch.tensor([2]), num_classes=3, alpha=0.5)
    tensor([[0.2500, 0.2500, 0.5000]])
    """
    try:
        batch, classes = labels.numel(), operator.index(num_classes)
    except TypeError:
        raise InputError(f"num_classes must be an integer, not {num_classes!r}") from None
    _check(labels, batch, classes, alpha)
    rest = torch.full((batch, classes), (1 - alpha) / (classes - 1), dtype=dtype, device=labels.device)
    return rest.scatter_(1, labels[:, None], alpha)


def _check(labels: Tensor, batch: int, classes: int, alpha: float = 1.0) -> None:
    if classes < 2:
        raise InputError(f"soft targets need at least 2 classes, got {classes}")
    check_range("alpha", alpha, lambda share: 0 < share <= 1, "in (0, 1]")
    check_labels(labels, batch, classes)
