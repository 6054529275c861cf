import math
import statistics
import tracemalloc

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from selftaught.errors import InputError
from selftaught.statistics.paired import (
    Interval,
    holm,
    mean_std,
    paired_interval,
    paired_test,
    resampled_test,
)
from tests.oracles import paper as paper_oracle
from tests.oracles import statistics as oracle


def crossed(rng, seeds, images, of_seed, of_image, of_both, mean=0.0):
    """Differences with a random effect of the seed, one of the image, and one of the pair."""
    return (
        mean
        + of_seed * rng.standard_normal((seeds, 1))
        + of_image * rng.standard_normal((1, images))
        + of_both * rng.standard_normal((seeds, images))
    )


@settings(max_examples=25)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=10))
def test_mean_std_equals_the_standard_library(values):
    mean, std = mean_std(values)
    assert mean == pytest.approx(statistics.fmean(values), rel=1e-9, abs=1e-6)
    assert std == pytest.approx(statistics.stdev(values), rel=1e-9, abs=1e-6)


def test_mean_std_of_one_value_and_of_none():
    mean, std = mean_std([0.5])
    assert mean == 0.5
    assert math.isnan(std)
    with pytest.raises(InputError, match="at least one value"):
        mean_std([])


@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_equals_the_double_loop(seeds, level):
    difference = crossed(np.random.default_rng(3), seeds, 12, 0.5, 1.0, 0.5, mean=0.3)
    interval = paired_interval(difference, np.zeros_like(difference), level)
    low, high = oracle.paired_interval(difference.tolist(), level, resamples=4000, seed=1)
    assert interval.estimate == pytest.approx(difference.mean(), rel=1e-12)
    assert interval.low == pytest.approx(low, abs=0.06 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.06 * (high - low))


def test_one_seed_is_the_bootstrap_over_images():
    difference = np.random.default_rng(0).standard_normal((1, 80))
    theirs = scipy.stats.bootstrap(difference, np.mean, method="percentile", rng=np.random.default_rng(1))
    ours = paired_interval(difference, np.zeros((1, 80)))
    np.testing.assert_allclose(ours[1:], theirs.confidence_interval, atol=0.02)


def test_pairs_are_compared_not_the_two_sets():
    # Seeds and images differ a lot, the methods by a constant: pairing leaves the uncertainty of two more images.
    baseline = crossed(np.random.default_rng(0), 4, 50, 10.0, 10.0, 1.0)
    estimate, low, high = paired_interval(baseline + 0.25, baseline)
    assert estimate == pytest.approx(0.25)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(2) / 50, rel=0.1)


def test_both_sources_widen_the_interval():
    rng = np.random.default_rng(0)

    def width(*effects):
        difference = crossed(rng, 8, 200, *effects)
        _, low, high = paired_interval(difference, np.zeros_like(difference), resamples=2000)
        return high - low

    assert width(0.5, 0.0, 0.01) > 0.3  # 2 · 1.96 · 0.5 / √8 = 0.69
    assert width(0.0, 2.0, 0.01) > 0.3  # 2 · 1.96 · 2 / √200 = 0.55
    assert width(0.0, 0.0, 0.01) < 0.04  # of the two more images


@pytest.mark.parametrize(
    ("seeds", "ratio"),
    [
        *((2, 1), (3, 0), (3, 4), (3, 1000), (5, 10)),
        *(pytest.param(n, ratio, marks=pytest.mark.slow) for n in (2, 3, 5) for ratio in (0, 1, 4, 10, 1000)),
    ],
)
def test_it_covers_at_least_what_it_says(seeds, ratio):
    """Over how much the seeds matter: the variance between them in units of the residual's in a mean."""
    rng, images, trials, hits = np.random.default_rng(0), 60, 250, 0
    for seed in range(trials):
        difference = crossed(rng, seeds, images, np.sqrt(ratio / images), 0.3, 1.0, mean=0.2)
        _, low, high = paired_interval(difference, np.zeros_like(difference), resamples=300, seed=seed)
        hits += low <= 0.2 <= high
    assert hits / trials >= 0.91  # 95 % less three standard errors of the simulation


@pytest.mark.parametrize("effects", [(1.0, 0.1, 0.1), (0.0, 1.0, 0.1)], ids=["seeds", "images"])
def test_it_covers_no_more_than_it_says_where_one_source_dominates(effects):
    rng, trials, hits = np.random.default_rng(0), 250, 0
    for seed in range(trials):
        difference = crossed(rng, 5, 60, *effects, mean=0.2)
        _, low, high = paired_interval(difference, np.zeros_like(difference), resamples=300, seed=seed)
        hits += low <= 0.2 <= high
    assert hits / trials <= 0.99


def test_seeds_that_happen_to_agree_do_not_make_it_narrow():
    rng = np.random.default_rng(0)
    difference = crossed(rng, 5, 400, 0.0, 0.0, 1.0)
    difference += 0.1 - difference.mean(axis=1, keepdims=True)  # all five means equal
    _, low, high = paired_interval(difference, np.zeros_like(difference))
    assert high - low > 0.9 * 2 * scipy.stats.t.ppf(0.975, 4) / np.sqrt(5 * 400)


def test_swapping_the_methods_mirrors_the_interval():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 40)), rng.random((3, 40))
    there, back = paired_interval(a, b), paired_interval(b, a)
    assert there.estimate == pytest.approx(-back.estimate)
    width = there.high - there.low
    np.testing.assert_allclose(
        there[1:], [-back.high, -back.low], atol=0.05 * width
    )  # resampling is not mirrored


def test_higher_levels_contain_lower_ones():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 40)), rng.random((3, 40))
    wide, narrow = paired_interval(a, b, level=0.99), paired_interval(a, b, level=0.5)
    assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high


def test_equal_arguments_give_equal_intervals():
    rng = np.random.default_rng(0)
    a, b = crossed(rng, 3, 40, 0.1, 1.0, 0.1), np.zeros((3, 40))
    assert paired_interval(a, b) == paired_interval(a, b)
    assert paired_interval(a, b) != paired_interval(a, b, seed=1)


def test_right_and_wrong_may_be_booleans_or_small_integers():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 40)) < 0.7, rng.random((3, 40)) < 0.5
    expected = paired_interval(a.astype(float), b.astype(float))
    assert isinstance(expected, Interval)
    assert paired_interval(a, b) == expected
    assert paired_interval(a.astype(np.uint8), b.astype(np.uint8)) == expected
    assert all(type(value) is float for value in paired_interval(a, b))


def test_a_whole_test_set_takes_little_memory():
    rng = np.random.default_rng(0)
    a, b = rng.random((5, 10_000)) < 0.9, rng.random((5, 10_000)) < 0.9
    tracemalloc.start()
    paired_interval(a, b, resamples=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize(
    ("method", "baseline", "message"),
    [
        (np.zeros((3, 4)), np.zeros((2, 4)), "same trials and images"),
        (np.zeros((3, 4)), np.zeros((1, 4)), "same trials and images"),
        (np.zeros(4), np.zeros(4), r"arrays \(trials, images\)"),
        (np.zeros((0, 4)), np.zeros((0, 4)), "non-empty"),
        (np.zeros((3, 0)), np.zeros((3, 0)), "non-empty"),
        (np.full((1, 2), np.nan), np.zeros((1, 2)), "finite"),
    ],
)
def test_arrays_that_do_not_pair_up_are_refused(method, baseline, message):
    with pytest.raises(InputError, match=message):
        paired_interval(method, baseline)


@pytest.mark.parametrize(
    "options", [{"level": 0.0}, {"level": 1.0}, {"level": 95}, {"resamples": 0}], ids=str
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        paired_interval(np.zeros((2, 3)), np.zeros((2, 3)), **options)


@settings(max_examples=20)
@given(st.integers(2, 8), st.integers(0, 2**31), st.sampled_from([0.8, 0.95]), st.floats(0.01, 1))
def test_interval_over_splits_is_students_widened_for_the_shared_images(seeds, seed, level, ratio):
    means = np.random.default_rng(seed).normal(0.3, 1.0, seeds)
    differences = [
        np.full(4000 + s, mean) for s, mean in enumerate(means)
    ]  # each split has test images of its own, so many that the seeds alone matter
    assume(means.std(ddof=1) > 0.001)
    found = resampled_test(differences, ratio, level)
    students = scipy.stats.ttest_1samp(means, 0).confidence_interval(level)
    wider = math.sqrt((1 / seeds + ratio) * seeds)
    assert found.estimate == pytest.approx(means.mean())
    assert found.low == pytest.approx(means.mean() - wider * (means.mean() - students.low))
    assert found.high == pytest.approx(means.mean() + wider * (students.high - means.mean()))
    t = scipy.stats.ttest_1samp(means, 0).statistic / wider
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(abs(t), seeds - 1))


def test_splits_that_agree_by_chance_are_no_certainty():
    differences = [np.r_[1.0, np.zeros(99)], np.r_[np.zeros(99), 1.0]]  # both means are 0.01
    found = resampled_test(differences, 0.25)
    assert found.low < 0 < 0.01 < found.high
    assert found.p > 0.05
    never = resampled_test([np.zeros(100), np.zeros(100)], 0.25)
    assert never.p == 1
    assert never.low < 0 < never.high
    always = resampled_test([np.ones(100)] * 3, 0.25)
    assert 0.9 < always.low < 1
    assert always.p < 0.001


@pytest.mark.parametrize(
    ("differences", "ratio", "level", "message"),
    [
        ([[0.0, 1.0]], 0.25, 0.95, "at least two seeds, got 1"),
        ([[0.0], []], 0.25, 0.95, "non-empty"),
        ([[0.0], [math.nan]], 0.25, 0.95, "finite"),
        ([[0.0], [1.0]], 0.0, 0.95, "test_to_train must be positive"),
        ([[0.0], [1.0]], 0.25, 1.0, "level"),
    ],
)
def test_interval_over_splits_refuses(differences, ratio, level, message):
    with pytest.raises(InputError, match=message):
        resampled_test(differences, ratio, level)


def test_the_test_has_the_interval():
    difference = crossed(np.random.default_rng(5), 4, 50, 0.3, 1.0, 0.5, mean=0.2)
    found = paired_test(difference, np.zeros_like(difference), level=0.9, resamples=500, seed=7)
    expected = paired_interval(difference, np.zeros_like(difference), level=0.9, resamples=500, seed=7)
    assert (found.estimate, found.low, found.high) == tuple(expected)


def test_p_equals_the_share_of_the_double_loops_resamples():
    difference = crossed(np.random.default_rng(3), 4, 12, 0.2, 0.5, 0.3, mean=0.4)
    found = paired_test(difference, np.zeros_like(difference))
    means = np.array(oracle.resampled_means(difference.tolist(), resamples=20_000, seed=1))
    share = 2 * min(np.mean(means <= 0), np.mean(means >= 0))
    assert 0.02 < share < 0.5
    assert found.p == pytest.approx(share, rel=0.08)


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2))])
def test_small_p_values_do_not_hang_on_what_was_drawn(seed):
    """With counted resamples 0.002 was anything between 0.001 and 0.003: verdicts after correction were chance."""
    rng = np.random.default_rng(4)
    difference = crossed(rng, 5, 4000, 0.002, 0.1, 0.4, mean=0.016)
    first, other = (
        paired_test(difference, np.zeros_like(difference), resamples=4000, seed=k) for k in (99, seed)
    )
    assert 1e-4 < first.p < 1e-2
    assert other.p == pytest.approx(first.p, rel=0.02)


@pytest.mark.parametrize("images", [1, 9, 257, 3000])
def test_how_many_are_drawn_at_once_changes_nothing(monkeypatch, images):
    a, b = (np.random.default_rng(k).random((3, images)) < 0.6 for k in (1, 2))
    at_once = paired_interval(a, b, resamples=150)
    monkeypatch.setattr("selftaught.statistics.paired._AT_ONCE", 1)
    assert paired_interval(a, b, resamples=150) == at_once


@pytest.mark.parametrize("mean", [0.0, 0.15, -0.3])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_p_is_below_its_level_where_the_interval_leaves_out_zero(mean, seeds):
    for seed in range(12):
        difference = crossed(np.random.default_rng(seed), seeds, 40, 0.1, 0.5, 0.3, mean=mean)
        found = paired_test(difference, np.zeros_like(difference), resamples=999, seed=seed)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_p_is_students_where_the_seeds_are_all_there_is():
    means = np.array([0.3, 0.5, 0.1, 0.45, 0.2])
    difference = np.repeat(means[:, None], 10_000, axis=1)
    found = paired_test(difference, np.zeros_like(difference))
    assert found.p == pytest.approx(scipy.stats.ttest_1samp(means, 0).pvalue, rel=1e-4)


@pytest.mark.parametrize("images", [100, 1000])
@pytest.mark.parametrize(("ours", "theirs"), [(3, 0), (4, 0), (5, 0), (7, 1), (8, 2), (6, 0), (12, 2)])
def test_of_few_images_p_is_near_that_of_the_sign_test(ours, theirs, images):
    """Where all seeds agree and only these images differ; ties and rounding once made 4 of 100 images p 0.0002."""
    difference = np.zeros((3, images))
    difference[:, :ours] = 1
    difference[:, ours : ours + theirs] = -1
    found = paired_test(difference, np.zeros_like(difference)).p
    exact = scipy.stats.binomtest(ours, ours + theirs).pvalue
    bonett_price = 2 * scipy.stats.norm.sf((ours - theirs) / np.sqrt(ours + theirs + 2))
    assert found == pytest.approx(bonett_price, rel=0.35)
    assert (found < 0.05) == (exact < 0.05)


@pytest.mark.parametrize("residual", [0.0, 0.1])
@pytest.mark.parametrize("seeds", [3, 10])
def test_few_images_that_differ_make_no_method_better(seeds, residual):
    """Two equally good methods, right in most images and mostly in the same ones, whatever the seed."""
    rng, alarms = np.random.default_rng(0), 0
    for seed in range(250):
        margin = rng.normal(3.0, 2.0, 100)
        one, other = (
            margin + rng.normal(0, 0.5, 100) + rng.normal(0, residual, (seeds, 100)) > 0 for _ in range(2)
        )
        alarms += paired_test(one, other, resamples=300, seed=seed).p < 0.05
    assert alarms / 250 <= 0.05


def test_answers_that_are_all_equal_are_no_certainty():
    few, many = (paired_interval(np.ones((3, n)), np.ones((3, n))) for n in (20, 10_000))
    assert few.low < -0.1 < 0.1 < few.high
    assert -0.0004 < many.low < 0 < many.high < 0.0004


def test_p_is_never_zero_and_at_most_one():
    sure = paired_test(np.ones((3, 20)), np.zeros((3, 20)), resamples=100)
    assert sure.p == 2 / 201
    assert paired_test(np.ones((3, 20)), np.ones((3, 20)), resamples=100).p == 1.0


def test_one_seed_has_an_interval_and_no_p():
    found = paired_test([[1, 0, 1, 1]], [[0, 0, 1, 0]])
    assert found.p is None
    assert found.low <= found.estimate == 0.5 <= found.high


@pytest.mark.parametrize("effects", [(0.3, 0.3, 1.0), (1.0, 0.1, 0.1), (0.0, 1.0, 0.5)])
@pytest.mark.parametrize("seeds", [3, 5])
def test_p_values_of_nothing_are_small_no_more_often_than_they_say(effects, seeds):
    rng, trials = np.random.default_rng(1), 250
    p_values = []
    for seed in range(trials):
        difference = crossed(rng, seeds, 60, *effects)
        found = paired_test(difference, np.zeros_like(difference), resamples=199, seed=seed)
        p_values.append(found.p)
    for level in (0.05, 0.2):
        assert np.mean(np.array(p_values) <= level) <= level + 3 * math.sqrt(level * (1 - level) / trials)
    assert np.mean(np.array(p_values) <= 0.5) >= 0.2  # and are not all large


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@settings(max_examples=50)
@given(P_VALUES)
def test_holm_equals_statsmodels_and_the_step_down_procedure(p_values):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    corrected = holm(p_values)
    np.testing.assert_allclose(corrected, multitest.multipletests(p_values, method="holm")[1], rtol=1e-12)
    rejected = {i for i, p in enumerate(corrected) if p <= 0.05}
    clear = all(abs(left * p - 0.05) > 1e-12 for p in p_values for left in range(1, len(p_values) + 1))
    assert not clear or rejected == paper_oracle.holm_rejects(p_values, 0.05)


@pytest.mark.parametrize("wrong", [1.5, -0.1, math.nan])
def test_holm_of_nothing_and_of_no_probability(wrong):
    assert holm([]) == []
    with pytest.raises(InputError, match=rf"\[0, 1\], got {wrong}"):
        holm([0.5, wrong])
