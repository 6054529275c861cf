"""CWTM's two parts: the weighted cross-entropy and the random confidences."""

import pytest
import scipy.stats
import torch
from hypothesis import given

from selftaught import losses
from selftaught.errors import InputError
from tests.oracles import losses as oracle
from tests.test_losses import TOLERANCE, batches, class_counts, dtypes, few_examples, random_pair, seeds


@few_examples
@given(batch=batches, classes=class_counts, dtype=dtypes, seed=seeds)
def test_weighted_cross_entropy_equals_the_oracle(batch, classes, dtype, seed):
    torch.manual_seed(seed)
    logits, _, labels = random_pair(batch, classes, dtype)
    confidence = torch.rand(batch, dtype=dtype) + 0.1
    ours = losses.weighted_cross_entropy(logits, labels, confidence)
    assert ours.dtype == dtype
    theirs = oracle.confidence_weighted(logits, confidence.tolist(), labels)
    assert ours.item() == pytest.approx(theirs, rel=TOLERANCE[dtype])
    torch.testing.assert_close(losses.weighted_cross_entropy(logits, labels, 7 * confidence), ours)


def test_weighted_cross_entropy_takes_its_weights_as_constants():
    logits, _, labels = random_pair(6, 5)
    confidence = torch.rand(6, dtype=torch.float64, requires_grad=True)
    losses.weighted_cross_entropy(logits.requires_grad_(), labels, confidence).backward()
    assert logits.grad.abs().sum() > 0
    assert confidence.grad is None


def test_confidences_of_another_shape_are_refused():
    logits, _, labels = random_pair(6, 5)
    with pytest.raises(
        InputError, match=r"labels and confidence must have the same shape, got \(6,\) and \(1,\)"
    ):
        losses.weighted_cross_entropy(logits, labels, torch.ones(1))


@pytest.mark.parametrize("low", [0.0, 0.5, 0.95])
def test_random_confidences_are_uniform(low):
    generator = torch.Generator().manual_seed(0)
    logits = torch.zeros(5000, 2, dtype=torch.bfloat16)
    found = losses.random_confidence(logits, low, generator=generator)
    assert (found.dtype, found.shape) == (torch.float32, (5000,))
    assert scipy.stats.kstest(found.numpy(), "uniform", (low, 1 - low)).pvalue > 1e-3
    with pytest.raises(InputError, match="0 <= low < high <= 1"):
        losses.random_confidence(logits, 1.0)
