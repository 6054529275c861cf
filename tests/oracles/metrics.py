"""Accuracy and NLL one sample at a time; ECE and top-k accuracy from torchmetrics, what counts classes alike from both
scikit-learn and torchmetrics."""

import math
import warnings

from sklearn.metrics import balanced_accuracy_score, f1_score
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)


def accuracy(logits, labels):
    hits = [row.index(max(row)) == label for row, label in zip(logits.tolist(), labels.tolist(), strict=True)]
    return sum(hits) / len(hits)


def nll(logits, labels):
    terms = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        top = max(row)
        terms.append(top + math.log(sum(math.exp(value - top) for value in row)) - row[label])
    return sum(terms) / len(terms)


def carried(similarities, labels):
    """Of Eq. 6: the share of nearly opposite maps, total variation from even shares, and the inverse Simpson index."""
    found = {"opposite": [], "moved": [], "classes": []}
    for row, label in zip(similarities.tolist(), labels.tolist(), strict=True):
        others = [value for k, value in enumerate(row) if k != label]
        total = sum(value + 1 for value in others)
        shares = [(value + 1) / total if total else 1 / len(others) for value in others]
        found["opposite"].append(sum(value <= -0.8 for value in others) / len(others))
        found["moved"].append(sum(max(share - 1 / len(others), 0) for share in shares))
        found["classes"].append(1 / sum(share**2 for share in shares))
    return found


def ece(logits, labels, bins=15):
    return multiclass_calibration_error(logits, labels, logits.shape[1], n_bins=bins, norm="l1").item()


def balanced_accuracy(logits, labels):
    """By scikit-learn and, where torchmetrics would not count a class that is only predicted, by torchmetrics."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that is predicted and not there
        found = [balanced_accuracy_score(labels.numpy(), logits.argmax(1).numpy())]
    if set(logits.argmax(1).tolist()) <= set(labels.tolist()):
        found.append(multiclass_accuracy(logits.double(), labels, logits.shape[1], average="macro").item())
    return found


def macro_f1(logits, labels):
    of_torchmetrics = multiclass_f1_score(logits.double(), labels, logits.shape[1], average="macro").item()
    return [f1_score(labels.numpy(), logits.argmax(1).numpy(), average="macro"), of_torchmetrics]


def top_accuracy(logits, labels, k):
    found = multiclass_accuracy(logits.double(), labels, logits.shape[1], average="micro", top_k=k)
    return [found.item()]
