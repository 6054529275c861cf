from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.data.channels import channel_stats, normalisation, power_sums
from selftaught.errors import InputError


@settings(max_examples=25)
@given(shape=st.tuples(*(st.integers(1, 6) for _ in range(4))), seed=st.integers(0, 1000))
def test_channel_stats_equal_numpy(shape, seed):
    images = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    scaled = images.astype(np.float64) / 255
    mean, std = channel_stats(torch.from_numpy(images))
    expected = scaled.std((0, 2, 3))
    np.testing.assert_allclose(mean, scaled.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, np.where(expected < 1e-9, 1.0, expected), rtol=1e-9)


def test_the_mean_is_the_nearest_float_even_of_sums_that_no_float_holds():
    total = 2**54 + 1
    mean, std = normalisation(torch.tensor([[total]]), torch.tensor([[255 * total]]), pixels=2**48)
    assert mean[0] == float(Fraction(total, 255 * 2**48))
    share = Fraction(total, 255 * 2**48)
    assert std[0] == pytest.approx(float(share * (1 - share)) ** 0.5, rel=1e-15)


def test_large_white_images_do_not_overflow():
    white = np.full((2, 1, 400, 400), 255, np.uint8)
    sums, squares = power_sums(white)
    assert sums.tolist() == [[255 * 160_000]] * 2
    assert squares.tolist() == [[255 * 255 * 160_000]] * 2
    assert normalisation(torch.from_numpy(sums), torch.from_numpy(squares), 160_000) == ((1.0,), (1.0,))


def test_many_images_are_summed_in_parts():
    images = torch.randint(256, (700, 1, 3, 3), dtype=torch.uint8)
    mean, std = channel_stats(images)
    scaled = images.double() / 255
    assert mean == pytest.approx([scaled.mean().item()])
    assert std == pytest.approx([scaled.std(correction=0).item()])


def test_a_constant_channel_has_std_one():
    images = torch.full((3, 2, 4, 4), 77, dtype=torch.uint8)
    images[0, 1, 0, 0] = 0
    _, std = channel_stats(images)
    assert std[0] == 1.0
    assert 0 < std[1] < 1


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 4, 4),
        torch.zeros(2, 4, 4, dtype=torch.uint8),
        torch.zeros(0, 3, 4, 4, dtype=torch.uint8),
    ],
)
def test_channel_stats_refuses_what_is_no_batch_of_images(images):
    with pytest.raises(InputError, match="uint8 of shape \\(N, K, H, W\\) and not empty"):
        channel_stats(images)
