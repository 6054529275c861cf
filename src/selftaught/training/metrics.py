"""What is measured of a set of predictions: accuracies, F1, negative log-likelihood, calibration error, temperature.

And of soft labels: how much they say.

What is measured of predictions takes logits of shape (N, C), floating point, and int64 labels of shape (N,) on one
device, sums in float64, and raises `selftaught.errors.InputError` for other shapes, dtypes, labels out of range, or no
predictions at all.
"""

import math

import torch
from torch import Tensor

from selftaught import targets
from selftaught._inputs import as_float, batch_and_classes, check_labels
from selftaught.errors import InputError
from selftaught.files.results import OPPOSITE, TEMPERATURES


@torch.no_grad()
def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The fraction, in 0..1, of samples whose largest logit is the label's.

    >>> accuracy(torch.eye(4), torch.tensor([0, 1, 2, 0]))
    0.75
    """
    _check(logits, labels)
    return (logits.argmax(1) == labels).double().mean().item()


@torch.no_grad()
def nll(logits: Tensor, labels: Tensor) -> float:
    """The mean negative log-likelihood of the labels, in nats.

    >>> round(nll(torch.zeros(3, 2), torch.tensor([0, 1, 1])), 4)  # log 2
    0.6931
    """
    _check(logits, labels)
    return -logits.log_softmax(1, dtype=torch.float64).gather(1, labels[:, None]).mean().item()


@torch.no_grad()
def ece(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error (Guo et al., 2017): Σ_b n_b/N · |accuracy_b - confidence_b|, in 0..1.

    The bins and their edges are those of torchmetrics' `MulticlassCalibrationError(norm="l1")`: [b, b + 1) / bins of
    the confidence in float32, with a confidence of exactly 1 counted apart.

    Raises:
        InputError: also for fewer than one bin.

    >>> round(ece(torch.zeros(4, 2), torch.tensor([0, 0, 0, 1])), 4)  # 75 % right at a confidence of 50 %
    0.25
    """
    _check(logits, labels)
    if bins < 1:
        raise InputError(f"bins must be at least 1, got {bins}")
    return excess(logits, labels, bins).abs().sum().item() / len(labels)


def excess(logits: Tensor, labels: Tensor, bins: int = 15) -> Tensor:
    """Per bin of the confidence n_b · (accuracy_b - confidence_b), float64 (bins + 2,): what the ECE adds up.

    It is a sum over samples, so those of several batches can be added; and nothing is divided by an empty bin. For
    logits (S, N, C) and labels (S, N) it is (S, bins + 2), that of each of S batches.
    """
    confidence, prediction = as_float(logits).softmax(-1).max(-1)
    edges = torch.linspace(0, 1, bins + 1, device=logits.device)
    index = torch.bucketize(confidence.float(), edges, right=True)
    batches = labels.shape[:-1]
    sums = torch.zeros(*batches, bins + 2, dtype=torch.float64, device=logits.device)
    if batches:
        index += (bins + 2) * torch.arange(len(labels), device=index.device)[:, None]
    differences = (prediction == labels).double() - confidence.double()
    sums.view(-1).index_add_(0, index.flatten(), differences.flatten())
    return sums


@torch.no_grad()
def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T in `TEMPERATURES` by which logits must be divided for the least NLL (Guo et al., 2017).

    To be fitted on images that the model was not trained on, and used on others.

    >>> sure = torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, 0.0], [9.0, 0.0]])
    >>> 5 < fit_temperature(sure, torch.tensor([0, 1, 0, 1])) < 9  # far too sure: one of four is wrong
    True
    """
    from scipy.optimize import minimize_scalar  # which takes longer to import than most commands need

    _check(logits, labels)
    double = logits.double()
    found = minimize_scalar(
        lambda log_t: nll(double / math.exp(log_t), labels),
        bounds=(math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1])),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return math.exp(found.x)


@torch.no_grad()
def per_class_accuracy(logits: Tensor, labels: Tensor) -> tuple[float | None, ...]:
    """For each of the C classes the fraction of its samples that are right, None where it has no sample.

    >>> per_class_accuracy(torch.eye(3), torch.tensor([0, 1, 1]))
    (1.0, 0.5, None)
    """
    _check(logits, labels)
    classes = logits.shape[1]
    counts = torch.bincount(labels, minlength=classes).tolist()
    right = torch.bincount(labels[logits.argmax(1) == labels], minlength=classes).tolist()
    return tuple(r / n if n else None for r, n in zip(right, counts, strict=True))


def per_class_images(labels: Tensor, classes: int) -> tuple[int, ...]:
    """How many samples each of so many classes has.

    >>> per_class_images(torch.tensor([0, 1, 1]), 3)
    (1, 2, 0)
    """
    return tuple(torch.bincount(labels, minlength=classes).tolist())


@torch.no_grad()
def balanced_accuracy(logits: Tensor, labels: Tensor) -> float:
    """The mean of the classes' accuracies, in 0..1: a rare class counts as much as a frequent one.

    Classes without samples are left out, as scikit-learn's `balanced_accuracy_score` does.

    >>> balanced_accuracy(torch.eye(3), torch.tensor([0, 1, 1]))
    0.75
    """
    found = [value for value in per_class_accuracy(logits, labels) if value is not None]
    return sum(found) / len(found)


@torch.no_grad()
def macro_f1(logits: Tensor, labels: Tensor) -> float:
    """The mean over the classes of F1 = 2·right / (predicted + true), in 0..1.

    As in scikit-learn's `f1_score(average="macro")` a class that is neither predicted nor true is left out; one that is
    predicted and has no sample counts with 0.

    >>> round(macro_f1(torch.eye(3), torch.tensor([0, 1, 1])), 4)  # 1, 2/3 and 0
    0.5556
    """
    _check(logits, labels)
    classes, predicted = logits.shape[1], logits.argmax(1)
    true, taken = (torch.bincount(of, minlength=classes) for of in (labels, predicted))
    right = torch.bincount(labels[predicted == labels], minlength=classes)
    either = true + taken > 0
    return (2 * right[either].double() / (true + taken)[either]).mean().item()


@torch.no_grad()
def top_accuracy(logits: Tensor, labels: Tensor, k: int = 5) -> float:
    """The fraction, in 0..1, of samples whose label is among the k largest logits, ties as `torch.topk` breaks them.

    Raises:
        InputError: also for a k below 1 or above the number of classes.

    >>> top_accuracy(torch.eye(3), torch.tensor([0, 1, 0]), k=2)  # of equal logits topk takes the first
    1.0
    """
    _check(logits, labels)
    if not 1 <= k <= logits.shape[1]:
        raise InputError(f"k must be a number of classes, 1 to {logits.shape[1]}, got {k}")
    return (logits.topk(k, dim=1).indices == labels[:, None]).any(1).double().mean().item()


def moved(soft: Tensor, labels: Tensor) -> Tensor:
    """How much of the probability of soft labels (N, C) lies elsewhere than in even ones: (N,), in their dtype.

    Half the sum of the absolute differences over the wrong classes: the total variation.

    >>> moved(torch.tensor([[0.9, 0.1, 0.0], [0.9, 0.05, 0.05]]), torch.tensor([0, 0]))
    tensor([0.0500, 0.0000])
    """
    others = _of_others(soft, labels)
    even = others.sum(1, keepdim=True) / (soft.shape[1] - 1)
    # What some have too much others have too little; the true class, with nothing here, counts as one of these.
    return (others - even).clamp_min(0).sum(1)


def spread(soft: Tensor, labels: Tensor) -> Tensor:
    """Among how many wrong classes the rest of soft labels (N, C) would be shared if evenly: (N,), 1 to C - 1.

    The inverse Simpson index, 1 / Σ share².

    >>> spread(torch.tensor([[0.9, 0.1, 0.0], [0.9, 0.05, 0.05]]), torch.tensor([0, 0])).round(decimals=4)
    tensor([1., 2.])
    """
    others = _of_others(soft, labels)
    return (others.sum(1) / torch.linalg.vector_norm(others, dim=1)).square()


def carried(similarities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What soft labels say that Eq. 6 makes of similarities (N, C), by the names of `record.SoftLabels`: (N,) each."""
    half = targets.introspective(similarities, labels, alpha=0.5)
    opposite = similarities <= OPPOSITE
    of_truth = opposite.gather(1, labels[:, None]).squeeze(1)
    return {
        "opposite": (opposite.sum(1) - of_truth.long()).double() / (similarities.shape[1] - 1),
        "moved": moved(half, labels) / 0.5,
        "classes": spread(half, labels),
    }


def _of_others(soft: Tensor, labels: Tensor) -> Tensor:
    return soft.scatter(1, labels[:, None], 0)


def _check(logits: Tensor, labels: Tensor) -> None:
    batch, classes = batch_and_classes("logits", logits)
    if not batch:
        raise InputError("there are no predictions to measure: logits has no rows")
    check_labels(labels, batch, classes)
