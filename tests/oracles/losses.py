"""The losses as their papers write them, one sample and class at a time, in NumPy float64."""

import numpy as np


def softmax(logits, temperature=1.0):
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def soft_cross_entropy(logits, targets):
    p = softmax(logits)
    return np.mean(
        [-sum(q * np.log(r) for q, r in zip(qs, rs, strict=True)) for qs, rs in zip(targets, p, strict=True)]
    )


def cross_entropies(logits, labels):
    return np.array([-np.log(p[label]) for p, label in zip(softmax(logits), labels, strict=True)])


def confidence_penalty(logits, labels, strength):
    entropies = [-sum(r * np.log(r) for r in p) for p in softmax(logits)]
    return np.mean(cross_entropies(logits, labels)) - strength * np.mean(entropies)


def kl(student_p, teacher_q):
    """KL(teacher‖student), mean over the batch and *sum* over the classes."""
    per_sample = [
        sum(q * (np.log(q) - np.log(p)) for p, q in zip(ps, qs, strict=True))
        for ps, qs in zip(student_p, teacher_q, strict=True)
    ]
    return np.mean(per_sample)


def distillation(student, teacher, temperature):
    return temperature**2 * kl(softmax(student, temperature), softmax(teacher, temperature))


def confidence_weighted(student, confidence, labels):
    """Eq. 5's loss."""
    return sum(
        q_max / sum(confidence) * ce
        for q_max, ce in zip(confidence, cross_entropies(student, labels), strict=True)
    )


def confidence_weighted_gradient(student, confidence, labels):
    """Eq. 5 itself: the gradient with respect to the logits."""
    p = softmax(student)
    gradient = np.empty_like(p)
    for i, label in enumerate(labels):
        for j in range(p.shape[1]):
            gradient[i, j] = confidence[i] / sum(confidence) * (p[i, j] - (1 if j == label else 0))
    return gradient


def attention(student, teacher):
    def attention_map(features):
        mean_square = np.mean(np.asarray(features, dtype=np.float64) ** 2, axis=0).ravel()
        return mean_square / np.sqrt((mean_square**2).sum())

    return np.mean(
        [(attention_map(s) - attention_map(t)) ** 2 for s, t in zip(student, teacher, strict=True)]
    )


def max_pool(features, height, width):
    """(K, H, W) to (K, height, width), both of which divide."""
    rows, columns = features.shape[1] // height, features.shape[2] // width
    pooled = np.empty((features.shape[0], height, width))
    for i in range(height):
        for j in range(width):
            block = features[:, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
            pooled[:, i, j] = block.max(axis=(1, 2))
    return pooled


def gram(first, second):
    height, width = min(first.shape[1], second.shape[1]), min(first.shape[2], second.shape[2])
    first, second = max_pool(first, height, width), max_pool(second, height, width)
    return np.array([[(a * b).sum() / (height * width) for b in second] for a in first])


def flow(s1, s2, t1, t2):
    return np.mean([(gram(a, b) - gram(c, d)) ** 2 for a, b, c, d in zip(s1, s2, t1, t2, strict=True)])
