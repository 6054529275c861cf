"""Accuracy and negative log-likelihood one sample at a time; ECE from torchmetrics."""

import math

from torchmetrics.functional.classification import multiclass_calibration_error


def accuracy(logits, labels):
    hits = [row.index(max(row)) == label for row, label in zip(logits.tolist(), labels.tolist(), strict=True)]
    return sum(hits) / len(hits)


def nll(logits, labels):
    terms = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        top = max(row)
        terms.append(top + math.log(sum(math.exp(value - top) for value in row)) - row[label])
    return sum(terms) / len(terms)


def ece(logits, labels, bins=15):
    return multiclass_calibration_error(logits, labels, logits.shape[1], n_bins=bins, norm="l1").item()
