import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from selftaught.data import augment
from tests.oracles import augment as oracle


def _crop_flip(images, generator, padding=4, flip=True):
    return augment.crop_flip(images, augment.draw(len(images), generator, padding, flip), padding)


def _resized_crop(images, generator, min_scale, flip):
    boxes = augment.draw_boxes(len(images), images.shape[2:], generator, min_scale, flip)
    return augment.resized_crop(images, boxes)


def _images(*shape, seed=0):
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25)
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
    got = _crop_flip(images, torch.Generator().manual_seed(seed), padding, flip)
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
    out = _crop_flip(images, torch.Generator().manual_seed(0), padding=0, flip=False)
    assert torch.equal(out, images)


def test_images_of_a_batch_are_placed_differently_and_the_input_is_left_alone():
    images = _images(1, 1, 8, 8).repeat(64, 1, 1, 1)
    before = images.clone()
    out = _crop_flip(images, torch.Generator().manual_seed(0))
    assert len(out.unique(dim=0)) > 40
    assert torch.equal(images, before)


def test_only_the_given_generator_is_used():
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    first = _crop_flip(_images(8, 1, 8, 8), generator)
    second = _crop_flip(_images(8, 1, 8, 8), generator)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, second)


@settings(max_examples=25)
@given(
    batch=st.integers(1, 4),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    min_scale=st.floats(0.01, 1),
    flip=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_resized_crops_equal_pillow_image_by_image(batch, channels, height, width, min_scale, flip, seed):
    images = _images(batch, channels, height, width)
    boxes = augment.draw_boxes(batch, (height, width), _generator(seed), min_scale, flip)
    for top, left, h, w, flipped in zip(*(part.tolist() for part in boxes), strict=True):
        assert 0 <= top <= top + h <= height
        assert 0 <= left <= left + w <= width
        assert min(h, w) > 0
        assert flip or not flipped
    got = _resized_crop(images, _generator(seed), min_scale, flip)
    expected = oracle.resized_crop(images.numpy(), list(zip(*(b.tolist() for b in boxes), strict=True)))
    assert (got.shape, got.dtype) == (images.shape, torch.uint8)
    # Pillow rounds once per axis, here it is rounded once.
    assert np.abs(got.numpy().astype(int) - expected).max() <= 1


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("size", "min_scale"), [((100, 100), 0.08), ((64, 90), 0.5), ((20, 100), 0.3), ((7, 5), 0.9)]
)
def test_boxes_are_distributed_as_those_of_rejection_sampling(size, min_scale):
    count = 4000
    tops, lefts, heights, widths, flips = (
        part.numpy() for part in augment.draw_boxes(count, size, _generator(), min_scale)
    )
    rng = np.random.default_rng(1)
    expected = np.array([oracle.draw_box(*size, min_scale, rng) for _ in range(count)]).T
    drawn = np.stack([tops, lefts, heights, widths])
    for ours, theirs in zip([*drawn, heights * widths], [*expected, expected[2] * expected[3]], strict=True):
        assert ks_2samp(ours, theirs).pvalue > 1e-4
    assert abs(flips.mean() - 0.5) < 0.04


@pytest.mark.parametrize(
    ("size", "box"), [((10, 100), (0, 43, 10, 13)), ((100, 10), (43, 0, 13, 10)), ((9, 10), (0, 0, 9, 10))]
)
def test_where_no_attempt_fits_the_middle_is_taken(size, box):
    boxes = augment.draw_boxes(50, size, _generator(), min_scale=0.999)
    assert box in set(zip(*(part.tolist() for part in boxes[:4]), strict=True))


def test_the_whole_image_is_left_as_it_is_and_only_mirrored():
    images = _images(2, 3, 9, 8)
    box = [torch.full((2,), value) for value in (0, 0, 9, 8)]
    whole = augment.Boxes(*box, torch.tensor([False, True]))
    assert torch.equal(augment.resized_crop(images, whole), torch.stack([images[0], images[1].flip(2)]))


def test_resized_crops_do_not_depend_on_layout_or_on_company():
    images = _images(4, 3, 16, 12)
    boxes = augment.draw_boxes(4, (16, 12), _generator())
    together = augment.resized_crop(images, boxes)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment.resized_crop(last, boxes), together)
    alone = augment.resized_crop(images[2:3], augment.taken(boxes, slice(2, 3)))
    assert torch.equal(alone, together[2:3])
