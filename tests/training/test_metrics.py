import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught import targets
from selftaught.errors import InputError
from selftaught.training import metrics
from tests.oracles import metrics as oracle

ALL = [
    metrics.accuracy,
    metrics.nll,
    metrics.ece,
    metrics.balanced_accuracy,
    metrics.macro_f1,
    partial(metrics.top_accuracy, k=2),
]


def predictions(count, classes, sharpness, dtype=torch.float32):
    """Random logits whose labels are their largest entries about half of the time."""
    # Below zero, since torchmetrics takes values within [0, 1] for probabilities.
    logits = (sharpness * torch.randn(count, classes) - 1.5).to(dtype)
    right = torch.rand(count) < 0.5
    return logits, torch.where(right, logits.argmax(1), torch.randint(classes, (count,)))


@settings(max_examples=25)
@given(
    count=st.integers(1, 300),
    classes=st.sampled_from([2, 3, 10, 1000]),
    sharpness=st.sampled_from([0.1, 1.0, 5.0, 30.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    bins=st.sampled_from([1, 10, 15]),
    seed=st.integers(0, 2**31),
)
def test_equal_the_oracles(count, classes, sharpness, dtype, bins, seed):
    torch.manual_seed(seed)
    logits, labels = predictions(count, classes, sharpness, dtype)
    assert metrics.accuracy(logits, labels) == pytest.approx(oracle.accuracy(logits, labels), abs=1e-12)
    assert metrics.nll(logits, labels) == pytest.approx(oracle.nll(logits, labels), rel=1e-10, abs=1e-12)
    assert metrics.ece(logits, labels, bins) == pytest.approx(oracle.ece(logits, labels, bins), abs=2e-6)


@pytest.mark.parametrize("sharpness", [5.0, 30.0])
def test_ece_of_many_predictions_equals_torchmetrics(sharpness):
    logits, labels = predictions(20_000, 10, sharpness)
    # torchmetrics adds up the bins in float32: of 20,000 ones that costs the sixth digit.
    assert metrics.ece(logits, labels) == pytest.approx(oracle.ece(logits, labels), abs=2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32_or_better(dtype):
    logits, labels = predictions(500, 10, 3.0, dtype)
    for metric in ALL:
        assert metric(logits, labels) == pytest.approx(metric(logits.float(), labels), abs=1e-12)


def test_perfect_predictions():
    logits, labels = 1000 * torch.eye(5), torch.arange(5)
    assert [metric(logits, labels) for metric in ALL] == [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]


def test_confidently_wrong_predictions():
    logits, labels = 1000 * torch.eye(5), (torch.arange(5) + 1) % 5
    assert [metric(logits, labels) for metric in ALL[:5]] == [0.0, 1000.0, 1.0, 0.0, 0.0]


def test_uniform_predictions():
    logits, labels = torch.zeros(10, 10), torch.arange(10)
    assert metrics.accuracy(logits, labels) == 0.1
    assert metrics.nll(logits, labels) == pytest.approx(math.log(10), rel=1e-15)
    assert metrics.ece(logits, labels) == pytest.approx(0, abs=1e-8)


def test_over_and_underconfident_bins_do_not_cancel():
    # Confidence ¾ and always right, confidence 0.95 and always wrong.
    logits = torch.tensor([[math.log(3), 0.0], [math.log(19), 0.0]])
    assert metrics.ece(logits, torch.tensor([0, 1])) == pytest.approx((0.25 + 0.95) / 2, abs=1e-7)
    assert metrics.ece(logits, torch.tensor([0, 1]), bins=1) == pytest.approx((0.95 - 0.25) / 2, abs=1e-7)


def test_a_confidence_on_an_edge_counts_in_the_bin_above():
    # Confidence ½ and right, ¾ and wrong: in one bin of two, [½, 1), where the errors partly cancel.
    logits, labels = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]]), torch.tensor([0, 1])
    assert metrics.ece(logits, labels, bins=2) == pytest.approx((0.75 - 0.5) / 2, abs=1e-7)
    assert metrics.ece(logits, labels, bins=2) == pytest.approx(oracle.ece(logits, labels, 2), abs=1e-7)


def test_values_are_plain_floats_of_tensors_that_require_grad():
    logits, labels = predictions(20, 5, 1.0)
    for metric in ALL:
        assert type(metric(logits.requires_grad_(), labels)) is float


def test_nan_logits_are_not_hidden():
    logits, labels = predictions(20, 5, 1.0)
    logits[3, 2] = torch.nan
    assert math.isnan(metrics.nll(logits, labels))
    assert math.isnan(metrics.ece(logits, labels))


@pytest.mark.parametrize("metric", ALL)
def test_bad_input_is_refused(metric):
    with pytest.raises(InputError, match="no predictions"):
        metric(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(InputError, match=r"labels must lie in 0\.\.4"):
        metric(torch.zeros(2, 5), torch.tensor([0, 5]))
    with pytest.raises(InputError, match="labels must be int64"):
        metric(torch.zeros(2, 5), torch.tensor([0, 1, 2]))
    with pytest.raises(InputError, match="logits must be floating point"):
        metric(torch.zeros(5), torch.tensor([0]))


@settings(max_examples=25)
@given(
    count=st.integers(1, 60),
    classes=st.sampled_from([2, 5, 20, 100]),
    seed=st.integers(0, 2**31),
)
def test_what_counts_classes_alike_equals_both_oracles(count, classes, seed):
    """Most of the classes are rare; some have no sample, some of these are predicted."""
    torch.manual_seed(seed)
    logits, labels = predictions(count, classes, 3.0)
    labels = labels.clamp_max(torch.randint(classes, (1,)))
    for expected in oracle.balanced_accuracy(logits, labels):
        assert metrics.balanced_accuracy(logits, labels) == pytest.approx(expected, abs=1e-6)
    for expected in oracle.macro_f1(logits, labels):
        assert metrics.macro_f1(logits, labels) == pytest.approx(expected, abs=1e-6)
    for k in {2, min(5, classes)}:
        [expected] = oracle.top_accuracy(logits, labels, k)
        assert metrics.top_accuracy(logits, labels, k) == pytest.approx(expected, abs=1e-6)


def test_ties_are_broken_as_topk_breaks_them():
    logits, labels = torch.tensor([[1.0, 3, 3, 3, 0]]), torch.tensor([[0], [1], [2], [3], [4]])
    taken = logits.topk(2, dim=1).indices[0].tolist()
    assert [metrics.top_accuracy(logits, label, 2) for label in labels] == [
        float(k in taken) for k in range(5)
    ]


@pytest.mark.parametrize("k", [0, 6])
def test_no_top_of_more_classes_than_there_are(k):
    with pytest.raises(InputError, match="k must be a number of classes, 1 to 5"):
        metrics.top_accuracy(torch.zeros(2, 5), torch.tensor([0, 1]), k)


@pytest.mark.parametrize("bins", [0, -1])
def test_bins_below_one_are_refused(bins):
    with pytest.raises(InputError, match="bins must be at least 1"):
        metrics.ece(torch.zeros(2, 5), torch.tensor([0, 1]), bins)


@settings(max_examples=25)
@given(
    classes=st.sampled_from([2, 3, 10, 1000]),
    low=st.sampled_from([-1.0, -0.99, 0.5]),
    seed=st.integers(0, 2**31),
)
def test_what_soft_labels_carry_is_what_the_oracle_counts(classes, low, seed):
    torch.manual_seed(seed)
    similarities, labels = low + (0.5 * torch.rand(20, classes)).double(), torch.randint(classes, (20,))
    similarities[:3] = -1
    for name, value in metrics.carried(similarities, labels).items():
        assert value.tolist() == pytest.approx(
            oracle.carried(similarities, labels)[name], rel=1e-9, abs=1e-12
        ), name


def test_even_soft_labels_carry_nothing_and_all_on_one_class_nearly_everything():
    y = torch.tensor([0, 2, 4])
    even, one = torch.zeros(3, 5), torch.full((3, 5), -1.0).scatter(1, (y[:, None] + 1) % 5, 1.0)
    nothing, everything = metrics.carried(even, y), metrics.carried(one, y)
    assert nothing["moved"].tolist() == pytest.approx([0, 0, 0], abs=1e-7)
    assert nothing["classes"].tolist() == pytest.approx([4, 4, 4])
    assert nothing["opposite"].tolist() == [0, 0, 0]
    assert everything["moved"].tolist() == pytest.approx([0.75] * 3)
    assert everything["classes"].tolist() == pytest.approx([1, 1, 1])
    assert everything["opposite"].tolist() == [0.75] * 3
    assert metrics.moved(targets.introspective(one, y, 0.9), y).tolist() == pytest.approx([0.075] * 3)
