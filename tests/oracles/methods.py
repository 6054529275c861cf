"""The loss of each method as its paper writes it, from logits and features, in NumPy float64.

`given` holds what a step has seen: `own`, `teacher`, `peer` are logits (B, C), `labels` (B,), `stages` and
`teacher_stages` the features (B, K, H, W) of every stage, `hinted` the student's stage after the regressor.
"""

import numpy as np

from tests.oracles import losses


def cross_entropy(given):
    return np.mean(losses.cross_entropies(given.own, given.labels))


def kd(given, temperature=4.0, weight=0.1):
    return losses.distillation(given.own, given.teacher, temperature) + weight * cross_entropy(given)


def ban(given, temperature=4.0):
    return losses.distillation(given.own, given.teacher, temperature)


def le_teacher(given, alpha=0.9, weight=0.1, temperature=4.0):
    """Cross-entropy with alpha on the truth, the rest as the softened teacher divides it among the others."""
    softened = losses.softmax(given.teacher / temperature)
    log_p = np.log(losses.softmax(given.own))
    total = 0.0
    for i, label in enumerate(given.labels):
        others = [k for k in range(len(log_p[i])) if k != label]
        theirs = sum(softened[i, k] for k in others)
        total -= alpha * log_p[i, label]
        total -= sum((1 - alpha) * softened[i, k] / theirs * log_p[i, k] for k in others)
    return total / len(given.labels) + weight * cross_entropy(given)


def cwtm(given):
    return losses.confidence_weighted(given.own, losses.softmax(given.teacher).max(axis=1), given.labels)


def dml(given, weight=0.1):
    p1, p2 = losses.softmax(given.own), losses.softmax(given.peer)
    first = np.mean(losses.cross_entropies(given.own, given.labels)) + weight * losses.kl(p1, p2)
    second = np.mean(losses.cross_entropies(given.peer, given.labels)) + weight * losses.kl(p2, p1)
    return first + second


def hint_stage_1(given, stage=2):
    return np.mean((given.hinted - given.teacher_stages[stage - 1]) ** 2)


def at(given, temperature=4.0, weight=0.1, attention_weight=1000.0):
    maps = [losses.attention(s, t) for s, t in zip(given.stages, given.teacher_stages, strict=False)]
    return kd(given, temperature, weight) + attention_weight * sum(maps)


def fsp_stage_1(given, flow_weight=0.01):
    s, t = given.stages, given.teacher_stages
    return flow_weight * sum(losses.flow(s[i], s[i + 1], t[i], t[i + 1]) for i in (0, 1))


def gradient(given, targets):
    """(B, C): what each sample adds to Eq. 2, (1/b) · (p - t)."""
    p = losses.softmax(given.own)
    return np.array([[(p[i, j] - targets[i][j]) / len(p) for j in range(p.shape[1])] for i in range(len(p))])


def equation_3(given):
    """(C,): ∂L/∂a^j of cross-entropy, the samples of class j and the others apart, as printed."""
    p, labels = losses.softmax(given.own), given.labels
    b, classes = p.shape
    return np.array(
        [
            (
                sum(p[i, j] - 1 for i in range(b) if labels[i] == j)
                + sum(p[i, j] for i in range(b) if labels[i] != j)
            )
            / b
            for j in range(classes)
        ]
    )


def equation_4(given, q):
    """(C,): ∂L/∂a^j of KD at T = 1, as printed."""
    p, labels = losses.softmax(given.own), given.labels
    b, classes = p.shape
    return np.array(
        [
            (
                sum(p[i, j] - q[i, j] for i in range(b) if labels[i] == j)
                + sum(p[i, j] - q[i, j] for i in range(b) if labels[i] != j)
            )
            / b
            for j in range(classes)
        ]
    )


def equation_5(given, confidence):
    """(C,): ∂L/∂a^j of CWTM, as printed."""
    p, labels = losses.softmax(given.own), given.labels
    b, classes = p.shape
    total = sum(confidence)
    return np.array(
        [
            sum(confidence[i] / total * (p[i, j] - 1) for i in range(b) if labels[i] == j)
            + sum(confidence[i] / total * p[i, j] for i in range(b) if labels[i] != j)
            for j in range(classes)
        ]
    )
