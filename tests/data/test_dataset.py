from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.data import ImageData, channel_stats
from selftaught.data.dataset import Decoded
from selftaught.errors import InputError


@settings(deadline=None, max_examples=25)
@given(shape=st.tuples(*(st.integers(1, 6) for _ in range(4))), seed=st.integers(0, 1000))
def test_channel_stats_equal_numpy(shape, seed):
    images = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    scaled = images.astype(np.float64) / 255
    mean, std = channel_stats(torch.from_numpy(images))
    expected = scaled.std((0, 2, 3))
    np.testing.assert_allclose(mean, scaled.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, np.where(expected < 1e-9, 1.0, expected), rtol=1e-9)


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


def _decoded():
    images, labels = torch.arange(48, dtype=torch.uint8).view(4, 1, 3, 4), torch.tensor([0, 1, 1, 0])
    return Decoded(("a", "b"), images, labels, images[:2], labels[:2])


def test_the_digest_tells_contents_apart():
    changed = _decoded().train_images.clone()
    changed[1, 0, 2, 3] += 1
    one = _decoded()
    variants = [
        one,
        replace(one, train_images=changed),
        replace(one, train_images=one.train_images.view(4, 1, 4, 3)),
        replace(one, train_labels=torch.tensor([0, 1, 0, 0])),
        replace(one, test_labels=torch.tensor([1, 1])),
        replace(one, classes=("b", "a")),
    ]
    assert len({variant.digest for variant in variants}) == len(variants)
    assert one.digest == _decoded().digest


def test_the_digest_does_not_see_strides():
    one = _decoded()
    strided = one.train_images.transpose(2, 3).contiguous().transpose(2, 3)
    assert replace(one, train_images=strided).digest == one.digest


def test_image_data_knows_its_shape():
    one = _decoded()
    parts = (one.train_images, one.train_labels, one.train_images[:0], one.train_labels[:0])
    data = ImageData("x", one.classes, *parts, one.test_images, one.test_labels, "f")
    assert (data.channels, data.image_size, data.num_classes) == (1, (3, 4), 2)
