import itertools
from collections import Counter

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught import similarity as similarities
from selftaught import targets
from selftaught.errors import InputError
from tests.oracles import targets as oracle

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6}


def random_similarity(batch, classes, dtype=torch.float64):
    return torch.rand(batch, classes, dtype=dtype) * 2 - 1, torch.randint(classes, (batch,))


@settings(max_examples=25)
@given(
    batch=st.integers(1, 6),
    classes=st.sampled_from([2, 3, 10, 1000]),
    alpha=st.floats(0.01, 1),
    dtype=st.sampled_from(sorted(TOLERANCE, key=str)),
    opposite=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_introspective_is_equation_6(batch, classes, alpha, dtype, opposite, seed):
    torch.manual_seed(seed)
    similarity, labels = random_similarity(batch, classes, dtype)
    similarity[torch.rand(batch) < opposite] = -1
    q = targets.introspective(similarity, labels, alpha)
    assert q.dtype == dtype
    np.testing.assert_allclose(q, oracle.introspective(similarity, labels, alpha), atol=TOLERANCE[dtype])
    torch.testing.assert_close(q.sum(1), torch.ones(batch, dtype=dtype), atol=10 * TOLERANCE[dtype], rtol=0)


def test_introspective_ignores_the_similarity_of_the_truth_to_itself():
    similarity, labels = random_similarity(4, 5)
    other = similarity.scatter(1, labels[:, None], 0.0)
    assert torch.equal(targets.introspective(similarity, labels), targets.introspective(other, labels))


def test_introspective_is_uniform_where_every_other_map_is_opposite():
    similarity = torch.tensor([[-1.0, 1.0, -1.0, -1.0], [-1.0, 1.0, -1.0, 0.0]])
    q = targets.introspective(similarity, torch.tensor([1, 1]), alpha=0.7)
    torch.testing.assert_close(q, torch.tensor([[0.1, 0.7, 0.1, 0.1], [0.0, 0.7, 0.0, 0.3]]))


def opposite(batch, classes, width, dtype):
    """Similarities of maps that are all the true class's with a negative factor, and the labels."""
    labels = torch.randint(classes, (batch,))
    factors = -torch.rand(batch, classes, dtype=dtype) - 1e-3
    factors.scatter_(1, labels[:, None], 1.0)
    return factors[:, :, None] * torch.randn(batch, 1, width, dtype=dtype), labels


@pytest.mark.parametrize("measure", [similarities.cosine, similarities.multiscale_mse])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("width", [4, 49, 3072])
def test_maps_that_are_opposite_but_for_rounding_are_even_targets(measure, dtype, width):
    torch.manual_seed(0)
    maps, labels = opposite(64, 10, width, dtype)
    found = measure(maps, labels)
    assert (found != -1).sum() > 64, "nothing is rounded here"
    q = targets.introspective(found, labels)
    assert torch.equal(q, targets.smooth(labels, 10, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_one_step_of_half_precision_above_minus_one_is_rounding(dtype):
    found = torch.full((1, 4), -1.0, dtype=dtype)
    found[0, 2] = -1 + torch.finfo(dtype).eps / 2
    assert found[0, 2] > -1
    q = targets.introspective(found, torch.tensor([0]))
    assert torch.equal(q, targets.smooth(torch.tensor([0]), 4))


@pytest.mark.parametrize("dtype", sorted(TOLERANCE, key=str))
def test_small_differences_above_rounding_are_exactly_equation_6(dtype):
    """Also of two rows side by side, one of them rounding and the other not."""
    step = 4 * targets.rounding(dtype)
    found = torch.tensor([[0, 0, 1, 3], [0, 0, 1e-2, 3e-2]], dtype=dtype) * step - 1
    q = targets.introspective(found, torch.tensor([0, 0]))
    weights = found[0, 1:] + 1
    assert torch.equal(q[0, 1:], (1 - 0.9) * (weights / weights.sum()))
    assert torch.equal(q[1], targets.smooth(torch.tensor([0]), 4, dtype=dtype)[0])


def test_no_value_is_looked_at_on_the_way():
    """Which on CUDA would wait for the device, and could not be recorded: meta tensors have no values."""
    scores, labels = torch.empty(2, 3, device="meta"), torch.empty(2, dtype=torch.int64, device="meta")
    assert targets.introspective(scores, labels).shape == (2, 3)


@pytest.mark.parametrize("dtype", sorted(TOLERANCE, key=str))
def test_targets_go_over_from_even_ones_to_equation_6_without_a_step(dtype):
    """As in the oracle at any scale, and never more apart than the scales are."""
    noise = targets.rounding(dtype)
    scales = torch.linspace(0, 3, 301, dtype=dtype)
    found = scales[:, None] * noise * torch.tensor([[0, 0.25, 0.5, 1.0]], dtype=dtype) - 1
    labels = torch.zeros(len(scales), dtype=torch.int64)
    q = targets.introspective(found, labels)
    np.testing.assert_allclose(q, oracle.introspective(found, labels, 0.9, noise), atol=TOLERANCE[dtype])
    # Rounding moves a similarity by eps, which is a thirty-second of `noise`.
    assert (q[1:] - q[:-1]).abs().max() < 0.1 * (0.01 + 2 / 32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("alpha", [0.1, 0.6, 0.9, 1.0])
def test_two_classes_are_label_smoothing_exactly(dtype, alpha):
    scores, labels = random_similarity(64, 2, dtype)
    scores[0] = -1
    scores[1:20] = -1 + torch.linspace(0, 3, 19, dtype=dtype)[:, None] * targets.rounding(dtype)
    assert torch.equal(
        targets.introspective(scores, labels, alpha), targets.smooth(labels, 2, alpha, dtype=dtype)
    )


def test_alpha_one_is_one_hot():
    similarity, labels = random_similarity(8, 5)
    one_hot = torch.nn.functional.one_hot(labels, 5).double()
    assert torch.equal(targets.introspective(similarity, labels, alpha=1), one_hot)
    assert torch.equal(targets.smooth(labels, 5, alpha=1, dtype=torch.float64), one_hot)


def test_introspective_rounding_below_minus_one_gives_no_negative_target():
    similarity = torch.tensor([[1.0, -1.0000001, 0.0]])
    assert targets.introspective(similarity, torch.tensor([0])).tolist()[0][1] == 0


def test_introspective_passes_nan_on_instead_of_turning_it_into_uniform_targets():
    scores = torch.tensor([[1.0, torch.nan, 0.0], [1.0, 0.5, 0.0], [1.0, torch.nan, -1.0]])
    q = targets.introspective(scores, torch.tensor([0, 0, 0]))
    assert q[0, 1:].isnan().all()
    assert q[2, 1:].isnan().all()
    assert q[1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_introspective_computes_half_precision_in_float32(dtype):
    similarity, labels = random_similarity(4, 10, dtype)
    q = targets.introspective(similarity, labels)
    assert q.dtype == torch.float32
    np.testing.assert_allclose(q, oracle.introspective(similarity.double(), labels, 0.9), atol=1e-6)


def test_targets_are_constants():
    similarity, labels = random_similarity(4, 5)
    assert not targets.introspective(similarity.requires_grad_(), labels).requires_grad


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_smooth(classes, alpha):
    labels = torch.randint(classes, (7,))
    q = targets.smooth(labels, classes, alpha)
    assert q.dtype == torch.float32
    np.testing.assert_allclose(q, oracle.smooth(labels, classes, alpha), atol=1e-7)


def test_smooth_agrees_with_torch_where_the_conventions_meet():
    logits, labels = torch.randn(9, 10, dtype=torch.float64), torch.randint(10, (9,))
    theirs = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1 * 10 / 9)
    q = targets.smooth(labels, 10, alpha=0.9, dtype=torch.float64)
    torch.testing.assert_close(-(q * logits.log_softmax(1)).sum(1).mean(), theirs)


@settings(max_examples=25)
@given(batch=st.integers(0, 6), classes=st.sampled_from([2, 3, 10, 1000]), seed=st.integers(0, 2**31))
def test_permuted_keeps_the_truth_and_the_set_of_the_others(batch, classes, seed):
    torch.manual_seed(seed)
    q, labels = torch.rand(batch, classes), torch.randint(classes, (batch,))
    before = q.clone()
    result = targets.permuted(q, labels)
    truth = labels[:, None]
    assert torch.equal(result.gather(1, truth), q.gather(1, truth))
    assert torch.equal(result.sort(1).values, q.sort(1).values)
    assert torch.equal(q, before)


def test_every_permutation_is_equally_likely():
    rows = 60_000
    q = torch.tensor([0.0, 1.0, 9.0, 2.0, 3.0]).expand(rows, -1)
    result = targets.permuted(q, torch.full((rows,), 2), torch.Generator().manual_seed(7))
    counts = Counter(map(tuple, result[:, [0, 1, 3, 4]].int().tolist()))
    assert set(counts) == set(itertools.permutations(range(4)))
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_rows_are_permuted_independently():
    rows = 60_000
    q = torch.tensor([9.0, 0.0, 1.0, 2.0]).expand(rows, -1)
    moved = targets.permuted(q, torch.zeros(rows, dtype=torch.int64), torch.Generator().manual_seed(7))[
        :, 1
    ].int()
    table = np.zeros((3, 3))
    np.add.at(table, (moved[0::2].numpy(), moved[1::2].numpy()), 1)
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3


def test_permuted_is_reproducible_and_follows_its_generator_only():
    q, labels = random_similarity(8, 10)
    state = torch.get_rng_state()
    first = targets.permuted(q, labels, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, targets.permuted(q, labels, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, targets.permuted(q, labels, torch.Generator().manual_seed(2)))
    torch.manual_seed(3)
    drawn = targets.permuted(q, labels)
    torch.manual_seed(3)
    assert torch.equal(drawn, targets.permuted(q, labels))


def test_permuted_keeps_half_precision():
    q = torch.rand(4, 10, dtype=torch.bfloat16)
    assert targets.permuted(q, torch.zeros(4, dtype=torch.int64)).dtype == torch.bfloat16


CALLS = {
    "introspective": lambda labels, classes: targets.introspective(torch.zeros(2, classes), labels),
    "permuted": lambda labels, classes: targets.permuted(torch.zeros(2, classes), labels),
    "smooth": lambda labels, classes: targets.smooth(labels, classes),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_one_class_is_refused(call):
    with pytest.raises(InputError, match="at least 2 classes, got 1"):
        call(torch.tensor([0, 0]), 1)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([0, 3]),
        torch.tensor([-100, 0]),
        torch.tensor([0.0, 1.0]),
        torch.tensor([[0], [1]]),
        torch.tensor(0),
    ],
    ids=["high", "negative", "float", "2-D", "0-D"],
)
def test_bad_labels_are_refused(call, labels):
    with pytest.raises(InputError, match="labels must"):
        call(labels, 3)


@pytest.mark.parametrize("alpha", [0, -0.1, 1.01, float("nan"), True])
def test_alpha_out_of_range_is_refused(alpha):
    labels = torch.tensor([0])
    with pytest.raises(InputError, match=r"alpha must be in \(0, 1\]"):
        targets.introspective(torch.zeros(1, 3), labels, alpha)
    with pytest.raises(InputError, match=r"alpha must be in \(0, 1\]"):
        targets.smooth(labels, 3, alpha)


@pytest.mark.parametrize(
    "scores", [torch.zeros(2, 3, 4), torch.zeros(3), torch.zeros(2, 3, dtype=torch.int64)], ids=str
)
def test_scores_of_another_shape_or_dtype_are_refused(scores):
    with pytest.raises(InputError, match="similarity must be floating point of shape"):
        targets.introspective(scores, torch.tensor([0, 1]))
    with pytest.raises(InputError, match="targets must be floating point of shape"):
        targets.permuted(scores, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("count", "message"), [(3.0, "must be an integer, not 3.0"), (1, "at least 2 classes, got 1")]
)
def test_a_number_of_classes_that_is_none_is_refused(count, message):
    with pytest.raises(InputError, match=message):
        targets.smooth(torch.tensor([0]), count)


def test_a_number_of_classes_may_be_numpys():
    assert targets.smooth(torch.tensor([0]), np.int64(3), alpha=0.5).tolist() == [[0.5, 0.25, 0.25]]
