"""The gradients with respect to the logits against Equations 2 to 5 of the paper, as printed."""

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from selftaught import losses
from selftaught.methods import registry
from tests.methods.lessons import Table, seen, tables
from tests.oracles import losses as loss_oracle
from tests.oracles import methods as oracle

shapes = {"batch": st.integers(2, 8), "classes": st.sampled_from([3, 5, 10]), "seed": st.integers(0, 2**31)}
few_examples = settings(max_examples=15)


def gradient(method, x, y):
    method.model.logits.grad = None
    method(x, y).loss.backward()
    return method.model.logits.grad.numpy()


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-12, rtol=1e-10)


@few_examples
@drawn(**shapes)
def test_cross_entropy_is_equation_3(batch, classes, seed):
    torch.manual_seed(seed)
    method, x, y = tables("ce", batch, classes)
    given, found = seen(method, x, y), gradient(method, x, y)
    close(found, oracle.gradient(given, F.one_hot(y, classes).numpy()))
    close(found.sum(0), oracle.equation_3(given))


@few_examples
@drawn(**shapes)
def test_distillation_at_temperature_1_is_equation_4(batch, classes, seed):
    torch.manual_seed(seed)
    check_distillation(batch, classes)


def check_distillation(batch, classes):
    method, x, y = tables("kd", batch, classes, temperature=1.0, weight=0.0)
    given, found = seen(method, x, y), gradient(method, x, y)
    q = loss_oracle.softmax(given.teacher)
    close(found, oracle.gradient(given, q))
    close(found.sum(0), oracle.equation_4(given, q))


@few_examples
@drawn(**shapes)
def test_soft_labels_have_the_gradient_of_equation_2(batch, classes, seed):
    torch.manual_seed(seed)
    method, x, y = tables("ls", batch, classes)
    given = seen(method, x, y)
    t = [[0.9 if j == label else 0.1 / (classes - 1) for j in range(classes)] for label in y.tolist()]
    # Smoothed labels are made in float32.
    np.testing.assert_allclose(gradient(method, x, y), oracle.gradient(given, t), atol=1e-7)


@few_examples
@drawn(**shapes)
def test_cwtm_is_equation_5(batch, classes, seed):
    torch.manual_seed(seed)
    method, x, y = tables("cwtm", batch, classes)
    given, found = seen(method, x, y), gradient(method, x, y)
    confidence = loss_oracle.softmax(given.teacher).max(axis=1)
    close(found, loss_oracle.confidence_weighted_gradient(given.own, confidence, given.labels))
    close(found.sum(0), oracle.equation_5(given, confidence))


def weights(method, x, y):
    """The w_i that a CWTM step used, from its gradient w_i · (p - y)."""
    given, found = seen(method, x, y), gradient(method, x, y)
    difference = loss_oracle.softmax(given.own) - F.one_hot(y, found.shape[1]).numpy()
    found_weights = found[:, 0] / difference[:, 0]
    close(found, found_weights[:, None] * difference)
    close(found.sum(0), oracle.equation_5(given, found_weights))
    return found_weights, loss_oracle.softmax(getattr(given, "teacher", given.own)).max(axis=1)


def check_permuted_weights(method, x, y):
    found, confidence = weights(method, x, y)
    expected = confidence / confidence.sum()
    close(np.sort(found), np.sort(expected))
    assert not np.allclose(found, expected)


def test_cwtm_permut_is_equation_5_with_the_weights_elsewhere(monkeypatch):
    check_permuted_weights(*tables("cwtm-permut", 20))
    monkeypatch.setattr(torch, "randperm", lambda n, **kw: torch.arange(n))
    with pytest.raises(AssertionError):
        check_permuted_weights(*tables("cwtm-permut", 20))


def test_cwtm_random_is_equation_5_with_confidences_from_beta_to_1():
    torch.manual_seed(1)
    x, y = torch.zeros(3000, 1), torch.randint(5, (3000,))
    for beta in (0.0, 0.5, 0.9):
        logits = Table(torch.randn(3000, 5, dtype=torch.float64))
        method = registry.create("cwtm-random", logits, beta=beta)
        found, _ = weights(method, x, y)
        confidence = found / found.mean() * (1 + beta) / 2  # their scale is lost, their mean is known
        assert scipy.stats.kstest(confidence, "uniform", (beta, 1 - beta)).pvalue > 1e-3
        again, _ = weights(method, x, y)
        assert abs(np.corrcoef(found, again)[0, 1]) < 0.1


def check_permuted_knowledge(method, x, y):
    """Eq. 4 with the non-argmax q_j replaced by q_k, k from a permutation of their classes."""
    given, found = seen(method, x, y), gradient(method, x, y)
    q, used = loss_oracle.softmax(given.teacher), loss_oracle.softmax(given.own) - len(found) * found
    close(found.sum(0), oracle.equation_4(given, used))
    close(np.sort(used, axis=1), np.sort(q, axis=1))
    close(used[range(len(q)), q.argmax(1)], q.max(1))
    assert not np.allclose(used, q)


def test_dkpp_is_equation_4_with_the_other_outputs_elsewhere(monkeypatch):
    check_permuted_knowledge(*tables("dkpp", 12, temperature=1.0))
    monkeypatch.setattr(losses, "permuted", lambda targets, labels, generator=None: targets)
    with pytest.raises(AssertionError):
        check_permuted_knowledge(*tables("dkpp", 12, temperature=1.0))


def test_permuting_about_the_label_instead_of_the_argmax_would_be_caught(monkeypatch):
    method, x, y = tables("dkpp", 12, temperature=1.0)
    permuted = losses.permuted
    monkeypatch.setattr(losses, "permuted", lambda t, top, generator=None: permuted(t, y, generator))
    with pytest.raises(AssertionError):
        check_permuted_knowledge(method, x, y)


def test_dkpp_at_its_default_temperature_is_distillation_from_permuted_outputs():
    method, x, y = tables("dkpp", 12)
    given = seen(method, x, y)
    used = loss_oracle.softmax(given.own, 4.0) - gradient(method, x, y) * 12 / 4.0  # T² · (p - q) / T
    q = loss_oracle.softmax(given.teacher, 4.0)
    close(np.sort(used, axis=1), np.sort(q, axis=1))
    close(used[range(12), q.argmax(1)], q.max(1))


@pytest.mark.parametrize(
    "factor", [-1, 6, 1 / 5], ids=["sign", "sum over the batch", "mean over the classes"]
)
def test_a_wrong_sign_or_reduction_would_be_caught(monkeypatch, factor):
    check_distillation(6, 5)
    right = losses.distillation
    monkeypatch.setattr(losses, "distillation", lambda *given: factor * right(*given))
    with pytest.raises(AssertionError):
        check_distillation(6, 5)
