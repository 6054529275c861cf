import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.data import augment
from tests.oracles import augment as oracle


def _images(*shape, seed=0):
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=25)
@given(
    batch=st.integers(1, 5),
    channels=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 5),
    flip=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_equals_pillow_image_by_image(batch, channels, height, width, padding, flip, seed):
    images = _images(batch, channels, height, width)
    placement = augment.draw(batch, torch.Generator().manual_seed(seed), padding, flip)
    got = augment.random_crop_flip(images, torch.Generator().manual_seed(seed), padding, flip)
    expected = oracle.crop_flip(images.numpy(), *(t.numpy() for t in placement), padding)
    assert got.dtype == torch.uint8
    np.testing.assert_array_equal(got.numpy(), expected)


def test_placement_shifts_first_and_mirrors_then():
    image = torch.tensor([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]], dtype=torch.uint8)
    placement = augment.Placement(torch.tensor([2]), torch.tensor([1]), torch.tensor([True]))
    expected = [[[[6, 5, 4], [9, 8, 7], [0, 0, 0]]]]
    assert augment.crop_flip(image, placement, padding=1).tolist() == expected


def test_memory_layout_does_not_matter():
    images = _images(4, 3, 8, 8)
    placement = augment.draw(4, torch.Generator().manual_seed(1))
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment.crop_flip(last, placement), augment.crop_flip(images, placement))


def test_offsets_are_uniform_and_half_are_flipped():
    tops, lefts, flips = augment.draw(20_000, torch.Generator().manual_seed(0), padding=4)
    for offsets in (tops, lefts):
        counts = torch.bincount(offsets, minlength=9)
        assert len(counts) == 9
        assert (counts - 20_000 / 9).abs().max() < 5 * (20_000 / 9) ** 0.5
    assert abs(flips.double().mean().item() - 0.5) < 0.02
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.03
    assert abs(np.corrcoef(tops, flips)[0, 1]) < 0.03


def test_without_flip_none_is_flipped_and_the_offsets_stay():
    with_flip = augment.draw(100, torch.Generator().manual_seed(0), flip=True)
    without = augment.draw(100, torch.Generator().manual_seed(0), flip=False)
    assert not without.flips.any()
    assert with_flip.flips.any()
    assert torch.equal(with_flip.tops, without.tops)


def test_no_padding_and_no_flip_changes_nothing():
    images = _images(4, 3, 8, 8)
    out = augment.random_crop_flip(images, torch.Generator().manual_seed(0), padding=0, flip=False)
    assert torch.equal(out, images)


def test_images_of_a_batch_are_placed_differently_and_the_input_is_left_alone():
    images = _images(1, 1, 8, 8).repeat(64, 1, 1, 1)
    before = images.clone()
    out = augment.random_crop_flip(images, torch.Generator().manual_seed(0))
    assert len(out.unique(dim=0)) > 40
    assert torch.equal(images, before)


def test_only_the_given_generator_is_used():
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    first = augment.random_crop_flip(_images(8, 1, 8, 8), generator)
    second = augment.random_crop_flip(_images(8, 1, 8, 8), generator)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, second)
