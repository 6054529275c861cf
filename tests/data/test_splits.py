import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.data.splits import complement, set_aside, stratified
from selftaught.errors import InputError


@settings(max_examples=50)
@given(data=st.data(), counts=st.lists(st.integers(0, 40), min_size=2, max_size=8), seed=st.integers(0, 1000))
def test_shares_are_kept(data, counts, seed):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels))]
    present = sum(count > 0 for count in counts)
    if not present:
        return
    size = data.draw(st.integers(present, len(labels)))
    chosen = stratified(labels, size, seed)
    assert len(chosen) == size
    assert (chosen.diff() > 0).all()
    took = torch.bincount(labels[chosen], minlength=len(counts)).tolist()
    for count, share in zip(counts, took, strict=True):
        assert (share >= 1) == (count >= 1)
        assert share <= count
        # Rounding moves a class by less than one sample; those that classes get to have any are lost elsewhere.
        assert share < count * size / len(labels) + 1
        assert share > count * size / len(labels) - 1 - present


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (60, [30, 20, 10]),
        (61, [31, 20, 10]),
        (62, [31, 21, 10]),
        (3, [1, 1, 1]),
        (4, [2, 1, 1]),
        (600, [300, 200, 100]),
    ],
)
def test_shares_by_hand(size, expected):
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([300, 200, 100]))
    assert torch.bincount(labels[stratified(labels, size, seed=0)]).tolist() == expected


def test_a_rare_class_is_kept():
    labels = torch.cat([torch.zeros(1000), torch.ones(1)]).long()
    assert labels[stratified(labels, 10, seed=0)].sum() == 1


def test_the_seed_decides():
    labels = torch.arange(5).repeat(40)
    assert torch.equal(stratified(labels, 50, seed=1), stratified(labels, 50, seed=1))
    assert not torch.equal(stratified(labels, 50, seed=1), stratified(labels, 50, seed=2))


def test_a_smaller_choice_lies_in_a_larger_one():
    labels = torch.arange(5).repeat(40)
    small, large = (set(stratified(labels, size, seed=3).tolist()) for size in (25, 100))
    assert small < large


def test_everything_is_everything():
    labels = torch.tensor([2, 0, 1, 0])
    assert stratified(labels, 4, seed=9).tolist() == [0, 1, 2, 3]


def test_complement():
    assert complement(torch.tensor([1, 4]), 6).tolist() == [0, 2, 3, 5]


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(2, 30), min_size=2, max_size=6),
    fraction=st.floats(0.001, 0.999),
    seed=st.integers(0, 1000),
)
def test_what_is_set_aside_leaves_every_class_on_both_sides(counts, fraction, seed):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    kept, aside = set_aside(labels, fraction, seed, [str(k) for k in range(len(counts))])
    assert sorted(torch.cat([kept, aside]).tolist()) == list(range(len(labels)))
    for side in (kept, aside):
        assert (side.diff() > 0).all()
        assert len(labels[side].unique()) == len(counts)
    wanted = len(labels) * fraction
    assert abs(len(aside) - wanted) <= max(0.5, len(counts) - wanted, len(counts) - (len(labels) - wanted))
    share = torch.bincount(labels[aside]) - torch.tensor(counts) * len(aside) / len(labels)
    assert share.abs().max() <= 1 + len(counts)


def test_a_fifth_is_a_fifth_of_each_class():
    labels = torch.arange(4).repeat_interleave(torch.tensor([10, 50, 20, 120]))
    _, aside = set_aside(labels, 0.2, 0, "abcd")
    assert torch.bincount(labels[aside]).tolist() == [2, 10, 4, 24]
    assert not torch.equal(set_aside(labels, 0.2, 1, "abcd")[1], aside)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(fraction):
    with pytest.raises(InputError, match=f"test_fraction must be above 0 and below 1, got {fraction}"):
        set_aside(torch.arange(4) % 2, fraction, 0, "ab")


def test_a_class_without_images_is_no_obstacle():
    _, aside = set_aside(torch.tensor([0, 0, 2, 2]), 0.5, 0, ["ant", "wasp", "bee"])
    assert len(aside) == 2
