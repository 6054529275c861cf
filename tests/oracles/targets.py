"""Soft targets as the paper writes them, one entry at a time, in NumPy float64."""

import numpy as np


def introspective(similarity, labels, alpha, rounding=0.0):
    """Eq. 6; similarities that are all -1 to `rounding` say nothing, from twice that on they are believed."""
    similarity = np.asarray(similarity, dtype=np.float64)
    batch, classes = similarity.shape
    q = np.zeros((batch, classes))
    for i in range(batch):
        c = labels[i]
        others = [k for k in range(classes) if k != c]
        total = sum(similarity[i, m] + 1 for m in others)
        largest = max(similarity[i, m] + 1 for m in others)
        believed = 1.0 if rounding == 0 else min(max((largest - rounding) / rounding, 0.0), 1.0)
        for k in others:
            even = 1 / len(others)
            share = even if total == 0 else (similarity[i, k] + 1) / total
            share = believed * share + (1 - believed) * even
            q[i, k] = (1 - alpha) * share
        q[i, c] = alpha
    return q


def smooth(labels, classes, alpha):
    return np.array(
        [[alpha if k == label else (1 - alpha) / (classes - 1) for k in range(classes)] for label in labels]
    )
