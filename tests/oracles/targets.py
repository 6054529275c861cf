"""Soft targets as the paper writes them, one entry at a time, in NumPy float64."""

import numpy as np


def introspective(similarity, labels, alpha):
    """Eq. 6."""
    similarity = np.asarray(similarity, dtype=np.float64)
    batch, classes = similarity.shape
    q = np.zeros((batch, classes))
    for i in range(batch):
        c = labels[i]
        others = [k for k in range(classes) if k != c]
        total = sum(similarity[i, m] + 1 for m in others)
        for k in others:
            share = 1 / len(others) if total == 0 else (similarity[i, k] + 1) / total
            q[i, k] = (1 - alpha) * share
        q[i, c] = alpha
    return q


def smooth(labels, classes, alpha):
    return np.array(
        [[alpha if k == label else (1 - alpha) / (classes - 1) for k in range(classes)] for label in labels]
    )
