"""The linear probe: multinomial logistic regression on the features of a network that is left as it is.

It is the row of a table that costs nothing, and where fine-tuning begins.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits
from torch import Tensor

from selftaught.data import splits

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
"""Inverse strengths of the penalty that are tried, scikit-learn's C, the strongest penalty first."""

UNTRIED = 3e-2
"""The one that is taken where there are too few images to hold any out."""

FOLDS = 5
"""Parts of the training images; each is held out once to choose the strength."""

SHARES = (0.25, 0.5)
"""Shares of the training images that a learning curve is made of, beside all of them."""

_ABSENT = 10.0
"""How far the logit of a class without an image lies below the lowest of the others."""


@dataclass(frozen=True)
class Probe:
    """A linear layer on features: weight (C, D) and bias (C,), float32, and the chosen inverse strength."""

    weight: Tensor
    bias: Tensor
    strength: float

    def __call__(self, features: Tensor) -> Tensor:
        """Logits (N, C) of features (N, D)."""
        return features @ self.weight.T + self.bias


def fit(
    features: Tensor, labels: Tensor, classes: int, balanced: bool = False, strength: float | None = None
) -> Probe:
    """The probe of features (N, D), float32, with labels (N,), int64 in 0..C-1.

    Features are scaled to unit variance first, and the scale is then folded into the weights.

    Args:
        features: of the training images.
        labels: theirs.
        classes: C; one that has no image gets a logit below all others.
        balanced: whether each class counts the same, whatever its number of images.
        strength: scikit-learn's C; None for that of `STRENGTHS` that is right on most held-out images.
    """
    x, mean, scale = _standardised(features)
    y = labels.numpy()
    with threadpool_limits(1):  # on matrices as small as these, threads wait for each other
        x, axes = _in_their_span(x)
        strength = strength or _strength(x, y, classes, balanced)
        [(weight, bias)] = _path(x, y, classes, balanced, [strength])
    weight = (weight if axes is None else weight @ axes) / scale
    bias = bias - weight @ mean
    return Probe(torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), strength)


def curve(
    features: Tensor, labels: Tensor, classes: int, balanced: bool = False
) -> Iterator[tuple[int, Probe]]:
    """The probes of a quarter and a half of the images, stratified, each after the number of its images."""
    present = len(labels.unique())
    for share in SHARES:
        size = round(share * len(labels))
        if size >= max(present, 2):
            chosen = splits.stratified(labels, size, seed=0)
            yield size, fit(features[chosen], labels[chosen], classes, balanced)


def _standardised(features: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = features.double().numpy()
    mean, scale = x.mean(0), x.std(0)
    # A feature that hardly ever says anything would be blown up by its own tiny scale.
    scale = np.maximum(scale, 1e-3 * scale.max() + 1e-12)
    return (x - mean) / scale, mean, scale


def _in_their_span(x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Features in the coordinates of the space that they span, and its axes (N, D); as they are if D is not above N.

    A rotation does not change the penalty, and no weight leaves the span: the solution is the same.
    """
    if len(x) >= x.shape[1]:
        return x, None
    left, scales, axes = np.linalg.svd(x, full_matrices=False)
    return left * scales, axes


def _strength(x: np.ndarray, y: np.ndarray, classes: int, balanced: bool) -> float:
    """The strength with the most right answers on held-out images; of equal ones that of the lower loss."""
    folds = min(FOLDS, int(np.bincount(y).max()))
    if folds < 2:
        return UNTRIED
    scores = np.zeros((len(STRENGTHS), 2))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        for kept, out in StratifiedKFold(folds, shuffle=True, random_state=0).split(x, y):
            path = _path(x[kept], y[kept], classes, balanced, STRENGTHS)
            scores += [_score(x[out] @ weight.T + bias, y[out], balanced) for weight, bias in path]
    return STRENGTHS[max(range(len(STRENGTHS)), key=lambda i: tuple(scores[i]))]


def _score(logits: np.ndarray, y: np.ndarray, balanced: bool) -> tuple[float, float]:
    """Right answers, and the log-likelihood; of each class alike if `balanced`."""
    weights = 1 / np.bincount(y)[y] if balanced else np.ones(len(y))
    shifted = logits - logits.max(1, keepdims=True)
    log_true = shifted[np.arange(len(y)), y] - np.log(np.exp(shifted).sum(1))
    return round(float(weights @ (logits.argmax(1) == y)), 6), float(weights @ log_true)


def _path(
    x: np.ndarray, y: np.ndarray, classes: int, balanced: bool, strengths: Sequence[float]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights (C, D) and biases (C,) for each strength, each search beginning where the one before ended."""
    if len(np.unique(y)) < 2:  # nothing to tell apart
        return [_complete(np.zeros((1, x.shape[1])), np.zeros(1), y, classes)] * len(strengths)
    model = LogisticRegression(
        warm_start=True, max_iter=500, class_weight="balanced" if balanced else None, tol=1e-4
    )
    found = []
    with warnings.catch_warnings():
        # Far enough for a start, and a held-out score that is a little lower is only that strength's own loss.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in strengths:
            model.set_params(C=strength).fit(x, y)
            found.append(_complete(model.coef_, model.intercept_, y, classes))
    return found


def _complete(
    weight: np.ndarray, bias: np.ndarray, y: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """One row per class: of two classes there is one for the difference of the logits, of absent classes none."""
    present = np.unique(y)
    if len(weight) < len(present):
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    whole, shift = np.zeros((classes, weight.shape[1])), np.full(classes, bias.min() - _ABSENT)
    whole[present], shift[present] = weight, bias
    return whole, shift
