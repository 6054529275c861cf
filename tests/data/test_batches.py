import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.data.batches import Batches
from selftaught.errors import InputError
from tests.oracles import augment as oracle

MEAN, STD = [0.1, 0.5, 0.9], [0.2, 0.3, 0.4]


def _images(count, size=(8, 7)):
    return torch.randint(
        256, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def _batches(count=10, batch_size=4, **options):
    return Batches(_images(count), torch.arange(count), batch_size, MEAN, STD, **options)


def _normalised(images):
    mean, std = (np.array(stats)[:, None, None] for stats in (MEAN, STD))
    return (np.asarray(images).astype(np.float64) / 255 - mean) / std


def _join(batches, n):
    xs, ys = zip(*batches.epoch(n), strict=True)
    return torch.cat(xs), torch.cat(ys)


def test_evaluation_is_in_order_and_normalised():
    x, y = _join(_batches(), 5)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert y.tolist() == list(range(10))
    np.testing.assert_allclose(x.numpy(), _normalised(_images(10)), rtol=1e-5, atol=1e-6)


def test_evaluation_does_not_augment():
    x, _ = _join(_batches(padding=4, flip=True), 0)
    np.testing.assert_allclose(x.numpy(), _normalised(_images(10)), rtol=1e-5, atol=1e-6)


def test_training_shows_every_image_once_in_another_order_each_epoch():
    batches = _batches(50, 8, seed=0)
    orders = []
    for epoch in range(3):
        x, y = _join(batches, epoch)
        np.testing.assert_allclose(x.numpy(), _normalised(_images(50)[y]), rtol=1e-5, atol=1e-6)
        assert sorted(y.tolist()) == list(range(50))
        orders.append(y.tolist())
    assert len({tuple(order) for order in [*orders, range(50)]}) == 4


@pytest.mark.parametrize(("padding", "flip"), [(1, True), (2, False), (0, True)])
def test_training_shows_an_augmented_form_of_the_labelled_image(padding, flip):
    images = _images(12)
    x, y = _join(_batches(12, 5, seed=3, padding=padding, flip=flip), 0)
    changed = 0
    for image, label in zip(x.numpy(), y.tolist(), strict=True):
        variants = _normalised(oracle.every_variant(images[label].numpy(), padding, flip))
        assert np.abs(variants - image).max(axis=(1, 2, 3)).min() < 1e-5
        changed += np.abs(_normalised(images[label]) - image).max() > 1e-3
    assert changed > 2


def test_an_epoch_depends_on_seed_and_number_alone():
    options = {"padding": 2, "flip": True}
    used = _batches(20, seed=7, **options)
    for n in (0, 1, 5):
        _join(used, n)
        torch.rand(3)
    fresh = _join(_batches(20, seed=7, **options), 2)
    state = torch.get_rng_state()
    again = _join(used, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(fresh[0], again[0])
    assert torch.equal(fresh[1], again[1])


def test_two_epochs_can_be_read_alternately():
    batches = _batches(20, seed=7, padding=2, flip=True)
    alternating = list(zip(batches.epoch(0), batches.epoch(1), strict=True))
    assert torch.equal(torch.cat([first[0] for first, _ in alternating]), _join(batches, 0)[0])
    assert torch.equal(torch.cat([second[0] for _, second in alternating]), _join(batches, 1)[0])


def test_order_differs_between_seeds_and_epochs():
    orders = {tuple(_join(_batches(40, seed=s), n)[1].tolist()) for s in range(4) for n in range(4)}
    assert len(orders) == 16


def test_augmentation_of_the_first_step_differs_between_epochs():
    same = _images(1).repeat(32, 1, 1, 1)  # order cannot make a difference
    batches = Batches(same, torch.zeros(32).long(), 32, MEAN, STD, seed=0, padding=4, flip=True)
    firsts = [next(iter(batches.epoch(n)))[0] for n in range(3)]
    assert not torch.equal(firsts[0], firsts[1])
    assert not torch.equal(firsts[1], firsts[2])


def test_augmentation_differs_between_the_batches_of_an_epoch():
    same = _images(1).repeat(64, 1, 1, 1)
    batches = Batches(same, torch.zeros(64).long(), 32, MEAN, STD, seed=0, padding=4, flip=True)
    first, second = (x for x, _ in batches.epoch(0))
    assert not torch.equal(first, second)


def test_the_only_image_is_not_left_out():
    assert [len(y) for _, y in _batches(1, 4, seed=0).epoch(0)] == [1]


@settings(deadline=None, max_examples=25)
@given(count=st.integers(1, 30), batch_size=st.integers(1, 12), training=st.booleans())
def test_length_and_the_lonely_last_image(count, batch_size, training):
    batches = _batches(count, batch_size, seed=0 if training else None)
    sizes = [len(y) for _, y in batches.epoch(0)]
    expected = [len(part) for part in np.split(np.arange(count), range(batch_size, count, batch_size))]
    if training and batch_size > 1 and len(expected) > 1 and expected[-1] == 1:
        expected.pop()
    assert sizes == expected
    assert len(batches) == len(expected)


@pytest.mark.parametrize("seed", [None, 0])
def test_channels_last_is_a_matter_of_layout_only(seed):
    plain = _batches(seed=seed, padding=1, flip=True)
    last = _batches(seed=seed, padding=1, flip=True, memory_format=torch.channels_last)
    for (x, _), (z, _) in zip(plain.epoch(0), last.epoch(0), strict=True):
        assert z.is_contiguous(memory_format=torch.channels_last)
        assert x.is_contiguous()
        assert torch.equal(x, z)


def test_batches_do_not_share_memory_with_the_data():
    batches = _batches()
    for x, _ in batches.epoch(0):
        x.zero_()
    np.testing.assert_allclose(_join(batches, 0)[0].numpy(), _normalised(_images(10)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"images": torch.zeros(4, 3, 8, 8)}, "images must be uint8.*float32"),
        ({"images": torch.zeros(4, 8, 8, dtype=torch.uint8)}, "images must be uint8.*\\(4, 8, 8\\)"),
        ({"labels": torch.arange(3)}, "labels must be int64 of shape \\(4,\\).*\\(3,\\)"),
        ({"labels": torch.zeros(4)}, "labels must be int64.*float32"),
        ({"mean": [0.5]}, "mean and std must have 3 values, got 1 and 3"),
        ({"batch_size": 0}, "batch_size.*at least 1, got 0"),
        ({"padding": -1}, "padding.*at least 0, got -1"),
        ({"seed": -1}, "seed.*at least 0, got -1"),
    ],
)
def test_bad_input_is_refused(change, complaint):
    good = {"images": _images(4), "labels": torch.arange(4), "batch_size": 2, "mean": MEAN, "std": STD}
    with pytest.raises(InputError, match=complaint):
        Batches(**{**good, **change})
