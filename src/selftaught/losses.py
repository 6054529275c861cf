"""Every loss of the paper as a pure function of tensors.

Shapes: B batch, C classes; labels are int64 of shape (B,). Losses are scalars, means over the batch unless said,
in the dtype of their inputs (float32 for half precision). Teachers, peers and soft targets are constants: no
gradient flows into them.

Shapes that do not fit raise `selftaught.errors.InputError`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught._inputs import (
    as_float,
    batch_and_classes,
    check_labels,
    check_range,
    check_same_shape,
    draw_device,
)
from selftaught.errors import InputError
from selftaught.targets import permuted


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with soft targets: mean over the batch of -Σ_k q_k log p_k.

    Args:
        logits: (B, C).
        targets: (B, C), rows sum to 1.

    >>> soft_cross_entropy(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]]))  # log 2
    tensor(0.6931)
    """
    batch_and_classes("logits", logits)
    check_same_shape("logits", logits, "targets", targets)
    return -(targets.detach() * as_float(logits).log_softmax(1)).sum(1).mean()


def confidence_penalty(logits: Tensor, labels: Tensor, strength: float) -> Tensor:
    """CP of Pereyra et al. (2017): cross-entropy - strength · H(p), the entropy in nats.

    Args:
        logits: (B, C).
        labels: (B,), int64.
        strength: weight of the entropy; the paper's best is 0.5.

    >>> confidence_penalty(torch.zeros(1, 2), torch.tensor([0]), strength=1.0)
    tensor(0.)
    """
    check_labels(labels, *batch_and_classes("logits", logits))
    check_range(
        "strength", strength, lambda value: 0 <= value < float("inf"), "a finite number of at least 0"
    )
    log_p = as_float(logits).log_softmax(1)
    entropy = -(log_p.exp() * log_p).sum(1).mean()
    return F.nll_loss(log_p, labels) - strength * entropy


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KD of Hinton et al. (2015), Eq. 4: T² · KL(teacher‖student), both softened by the temperature T.

    T² keeps the size of the gradient independent of T. Mean over the batch, sum over the classes.

    Args:
        student: (B, C) logits.
        teacher: (B, C) logits, detached.
        temperature: T > 0.

    >>> distillation(torch.zeros(1, 2), torch.tensor([[0.0, 200.0]]), temperature=1.0)
    tensor(0.6931)
    """
    _check_pair("student", student, "teacher", teacher)
    return _softened_kl(student, teacher, temperature)


def permuted_dark_knowledge(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """DKPP (Section 3): `distillation` after the teacher's non-argmax outputs are permuted within each row.

    Permuting the logits or the softened probabilities is the same: softmax does not mix the order.

    Args:
        student: (B, C) logits.
        teacher: (B, C) logits, detached.
        temperature: T > 0.
        generator: source of the permutations, on the teacher's device or on the CPU; the global one if None.
    """
    _check_pair("student", student, "teacher", teacher)
    return _softened_kl(student, permuted(teacher, teacher.argmax(1), generator), temperature)


def confidence_weighted(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    permute: bool = False,
    random: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """CWTM (Eq. 5): Σ_i w_i · CE_i, w_i = q_max,i / Σ_j q_max,j, the teacher's confidences at T = 1.

    The weights sum to 1 over the batch, so this is a weighted mean of the samples' cross-entropies.

    Args:
        student: (B, C) logits.
        teacher: (B, C) logits, detached.
        labels: (B,), int64.
        permute: CWTM-Permut: the confidences are permuted among the samples of the batch.
        random: CWTM-Random: confidences drawn uniformly from [low, high) instead of the teacher's.
        generator: source of the randomness, on the student's device or on the CPU; the global one if None.

    Raises:
        InputError: also for `permute` together with `random`, and for bounds that are not 0 <= low < high <= 1.

    >>> student, labels = torch.zeros(3, 2), torch.tensor([0, 1, 1])
    >>> confidence_weighted(student, torch.randn(3, 2), labels)
    tensor(0.6931)
    """
    _check_pair("student", student, "teacher", teacher)
    if random is not None:
        _check_bounds(random, permute)
        return weighted_cross_entropy(student, labels, random_confidence(student, *random, generator))
    confidence = as_float(teacher.detach()).softmax(1).amax(1)
    if permute:
        order = torch.randperm(len(teacher), generator=generator, device=draw_device(generator, student))
        confidence = confidence[order.to(student.device)]
    return weighted_cross_entropy(student, labels, confidence)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, confidence: Tensor) -> Tensor:
    """Eq. 5's loss for any confidences: Σ_i w_i · CE_i, w_i = confidence_i / Σ_j confidence_j.

    Args:
        logits: (B, C).
        labels: (B,), int64.
        confidence: (B,), at least 0 and not all 0, detached.

    >>> logits, labels = torch.tensor([[0.0, 0.0], [80.0, 0.0]]), torch.tensor([0, 0])
    >>> weighted_cross_entropy(logits, labels, torch.tensor([0.25, 0.75]))  # a quarter of log 2
    tensor(0.1733)
    """
    check_labels(labels, *batch_and_classes("logits", logits))
    check_same_shape("labels", labels, "confidence", confidence)
    weight = confidence.detach() / confidence.detach().sum()
    return (weight * F.cross_entropy(as_float(logits), labels, reduction="none")).sum()


def random_confidence(
    logits: Tensor, low: float, high: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """CWTM-Random's confidences (Section 3): one per sample, uniform in [low, high), no teacher asked.

    Args:
        logits: (B, C), for their batch, dtype and device.
        low: the paper's β, 0.5 there.
        high: above `low`, at most 1.
        generator: source of the randomness, on the logits' device or on the CPU; the global one if None.

    Returns:
        (B,), in the dtype of the logits (float32 for half precision).

    >>> random_confidence(torch.zeros(100, 2), 0.5).min() >= 0.5
    tensor(True)
    """
    _check_bounds((low, high))
    dtype, device = as_float(logits[:0]).dtype, draw_device(generator, logits)
    uniform = torch.rand(len(logits), generator=generator, device=device, dtype=dtype)
    return (low + (high - low) * uniform).to(logits.device)


def mutual(logits: Tensor, peer: Tensor) -> Tensor:
    """DML of Zhang et al. (2018): KL(peer‖own), mean over the batch.

    Args:
        logits: (B, C), the network's own.
        peer: (B, C) logits of the peer, detached.

    >>> mutual(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor(0.)
    """
    _check_pair("logits", logits, "peer", peer)
    return _softened_kl(logits, peer, temperature=1.0)


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Hint of FitNets (Romero et al., 2015): mean squared error over all elements, without FitNets' factor ½.

    Args:
        student: features of any shape, after the regressor where the widths differ.
        teacher: features of the same shape, detached.
    """
    check_same_shape("student", student, "teacher", teacher)
    return F.mse_loss(as_float(student), as_float(teacher.detach()))


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """AT of Zagoruyko and Komodakis (2017), p = 2: mean squared difference of the two attention maps.

    An attention map is the channel-mean of the squared features, flattened and scaled to unit L2 norm. One block per
    call; add up the blocks.

    Args:
        student: (B, K, H, W) features.
        teacher: (B, K', H, W) features, detached; the number of channels may differ.
    """
    _check_features(student=student, teacher=teacher)
    own, other = _attention_map(student), _attention_map(teacher.detach())
    check_same_shape("the student's attention map", own, "the teacher's", other)
    return F.mse_loss(own, other)


def flow(s1: Tensor, s2: Tensor, t1: Tensor, t2: Tensor) -> Tensor:
    """FSP of Yim et al. (2017): mean squared difference of the student's and the teacher's Gram matrices.

    The Gram matrix of two blocks is Σ_hw F1[i, h, w] · F2[j, h, w] / (H · W), the larger map max-pooled to the size of
    the smaller. Student and teacher may differ in height and width but not in their numbers of channels.

    Args:
        s1: (B, K1, H, W) features of the student's first block.
        s2: (B, K2, H', W') features of its second block.
        t1: features of the teacher's first block, with K1 channels, detached.
        t2: features of the teacher's second block, with K2 channels, detached.
    """
    _check_features(s1=s1, s2=s2, t1=t1, t2=t2)
    own, other = _gram(s1, s2), _gram(t1.detach(), t2.detach())
    check_same_shape("the student's Gram matrices", own, "the teacher's", other)
    return F.mse_loss(own, other)


def _softened_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    check_range(
        "temperature", temperature, lambda value: 0 < value < float("inf"), "a finite number greater than 0"
    )
    log_p = (as_float(student) / temperature).log_softmax(1)
    q = (as_float(teacher.detach()) / temperature).softmax(1)
    # The default reduction, "mean", would divide by the classes too.
    return temperature**2 * F.kl_div(log_p, q, reduction="batchmean")


def _attention_map(features: Tensor) -> Tensor:
    return F.normalize(as_float(features).square().mean(1).flatten(1))


def _gram(first: Tensor, second: Tensor) -> Tensor:
    """(B, K1, K2): the FSP matrix of two blocks, in float32 also under autocast."""
    height, width = (min(sizes) for sizes in zip(first.shape[2:], second.shape[2:], strict=True))
    a, b = (_max_pooled(as_float(x), (height, width)).flatten(2) for x in (first, second))
    with torch.autocast(first.device.type, enabled=False):
        return a @ b.mT / (height * width)


def _max_pooled(features: Tensor, size: tuple[int, int]) -> Tensor:
    return features if features.shape[2:] == size else F.adaptive_max_pool2d(features, size)


def _check_pair(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    batch_and_classes(name, x)
    check_same_shape(name, x, other_name, other)


def _check_features(**features: Tensor) -> None:
    for name, x in features.items():
        if x.dim() != 4:
            raise InputError(
                f"{name} must be features of shape (batch, channels, height, width), got {tuple(x.shape)}"
            )


def _check_bounds(bounds: tuple[float, float], permute: bool = False) -> None:
    low, high = bounds
    if permute:
        raise InputError("permute and random exclude each other: random confidences have no order to permute")
    if not 0 <= low < high <= 1:
        raise InputError(f"random must be bounds 0 <= low < high <= 1, got {bounds}")
