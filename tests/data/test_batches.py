import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.data import augment, decoding, policies
from selftaught.data.batches import Batches
from selftaught.data.decoding import Format
from selftaught.data.policies import POLICIES
from selftaught.data.sampling import seeded
from selftaught.data.streaming import Selected, Streamed
from selftaught.errors import InputError
from tests.data.blobs import Blobs
from tests.data.conftest import encode
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


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 3, "padding": 2, "flip": True},
        {"seed": 3, "min_scale": 0.3, "policy": "trivial", "sampling": "balanced"},
        {"seed": 3, "policy": "rand", "erasing": 0.4},
        {},
    ],
)
def test_an_epoch_can_be_entered_anywhere(options):
    batches = _batches(22, 4, **options)
    whole = list(batches.epoch(2))
    for first in range(len(batches) + 2):
        rest = list(batches.epoch(2, first))
        assert len(rest) == max(len(whole) - first, 0)
        for (x, y), (z, w) in zip(rest, whole[first:], strict=True):
            assert torch.equal(x, z)
            assert torch.equal(y, w)


def _forms(count, size=(8, 7)):
    """The same images as a tensor, as a choice from a larger one, and to be decoded."""
    pixels = _images(count, size)
    spread = torch.zeros(2 * count, 3, *size, dtype=torch.uint8)
    positions = torch.arange(count) * 2 + 1
    spread[positions] = pixels
    blobs = Blobs([encode(image.permute(1, 2, 0).numpy()) for image in pixels])
    digests = torch.from_numpy(decoding.digest(pixels.numpy()))
    streamed = Streamed(blobs, Format((3, *size)), torch.arange(count), digests)
    return pixels, Selected(spread, positions), streamed


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seed": 5},
        {"seed": 5, "padding": 2, "flip": True},
        {"seed": 5, "flip": True, "min_scale": 0.2, "policy": "rand", "erasing": 0.5},
    ],
)
@pytest.mark.parametrize("processes", ["0", "2"])
def test_streamed_images_make_the_very_same_batches(monkeypatch, options, processes):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", processes)
    tensor, *others = _forms(21)
    state = torch.get_rng_state()
    expected = list(Batches(tensor, torch.arange(21), 4, MEAN, STD, **options).epoch(1))
    for images in others:
        batches = Batches(images, torch.arange(21), 4, MEAN, STD, **options)
        for first in (0, 3):
            got = list(batches.epoch(1, first))
            assert len(got) == len(expected) - first
            for (x, y), (z, w) in zip(got, expected[first:], strict=True):
                assert torch.equal(x, z)
                assert torch.equal(y, w)
    assert torch.equal(torch.get_rng_state(), state)


def test_skipped_batches_are_not_decoded(monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", "0")
    streamed = _forms(20)[2]
    batches = Batches(streamed, torch.arange(20), 4, MEAN, STD, seed=1)
    assert len(list(batches.epoch(0, first=3))) == 2
    assert streamed.source.reads == 8
    assert list(batches.epoch(0, first=5)) == []
    assert streamed.source.reads == 8


def test_a_policy_comes_after_the_crops_and_leaves_them_as_they_are():
    crops = _batches(30, 7, seed=4, min_scale=0.25)
    both = _batches(30, 7, seed=4, min_scale=0.25, policy="trivial", erasing=0.5)
    cut, labels = _join(crops, 2)
    x, y = _join(both, 2)
    assert torch.equal(y, labels)
    as_bytes = (cut * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)).mul(255).round()
    generator = seeded(4, 2, 1)
    choices = POLICIES["trivial"].draw(30, (8, 7), generator)
    holes = policies.draw_holes(30, (8, 7), 0.5, generator)
    changed = policies.apply(as_bytes.to(torch.uint8), choices)
    expected = torch.from_numpy(_normalised(changed.numpy()))
    expected = policies.erase(expected, holes).numpy()
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert (holes.heights > 0).sum() > 5


def _uneven(sizes, batch_size=4, seed=0):
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    images = torch.zeros(len(labels), 3, 2, 2, dtype=torch.uint8)
    return Batches(images, labels, batch_size, MEAN, STD, seed=seed, sampling="balanced")


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(any),
    seed=st.integers(0, 99),
    skipped=st.integers(0, 9),
)
def test_balanced_sampling_gives_each_class_its_share_and_each_image_its_turn(sizes, seed, skipped):
    batches = _uneven(sizes, 1, seed)
    labels, present = batches.labels, sum(size > 0 for size in sizes)
    seen = torch.zeros(len(labels), dtype=torch.int64)
    # From the first epoch on an image comes as often as the others of its class, but for one time.
    for epoch in range(3):
        drawn = torch.cat(batches.samples(epoch))
        assert len(drawn) == len(labels)
        counts = labels[drawn].bincount(minlength=len(sizes))[torch.tensor(sizes) > 0]
        assert set(counts.tolist()) <= {len(labels) // present, -(-len(labels) // present)}
        seen += drawn.bincount(minlength=len(labels))
        for label in labels.unique():
            of_class = seen[labels == label]
            assert of_class.max() - of_class.min() <= 1
    totals = torch.zeros(len(sizes)).index_add_(0, labels, seen.float())[torch.tensor(sizes) > 0]
    assert totals.max() - totals.min() <= 1
    whole = torch.cat(batches.samples(skipped))
    assert torch.equal(torch.cat(_uneven(sizes, 1, seed).samples(skipped)), whole)


def test_balanced_sampling_mixes_classes_and_differs_between_epochs_and_seeds():
    orders = {
        tuple(torch.cat(_uneven([30, 6], seed=s).samples(n)).tolist()) for s in (0, 1) for n in (0, 1, 2)
    }
    assert len(orders) == 6
    batches = _uneven([30, 6], 6)
    per_batch = [int(y.sum()) for _, y in batches.epoch(0)]
    assert sum(per_batch) == 18
    assert max(per_batch) < 6
    assert len(set(per_batch)) > 1


def test_workers_start_once_per_epoch_and_end_with_it(monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_WORKERS", "2")
    batches = Batches(_forms(20)[2], torch.arange(20), 4, MEAN, STD, seed=1)
    before = set(psutil.Process().children())
    epoch = batches.epoch(0)
    children = []
    for _ in range(3):
        next(epoch)
        children.append(set(psutil.Process().children()) - before)
    assert len(children[0]) == 2
    assert children[0] == children[2]
    epoch.close()
    assert set(psutil.Process().children()) <= before


def test_photographs_are_cropped_and_enlarged():
    images = _images(30, (20, 24))
    options = {"seed": 4, "flip": True, "min_scale": 0.25}
    batches = Batches(images, torch.arange(30), 7, MEAN, STD, **options)
    x, y = _join(batches, 0)
    boxes = augment.draw_boxes(30, (20, 24), _after_order(4, 0, 30), 0.25, True)
    expected = oracle.resized_crop(images[y].numpy(), list(zip(*(b.tolist() for b in boxes), strict=True)))
    assert x.shape == (30, 3, 20, 24)
    tolerance = 1.01 / 255 / min(STD)
    assert np.abs(x.numpy() - _normalised(expected)).max() < tolerance
    assert np.abs(x.numpy() - _normalised(images[y])).max() > 10 * tolerance


def _after_order(seed, epoch, count):
    generator = seeded(seed, epoch)
    torch.randperm(count, generator=generator)
    return generator


@settings(max_examples=25)
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
        ({"batch_size": 0}, "batch_size.*at least 1, not 0"),
        ({"padding": -1}, "padding.*at least 0, not -1"),
        ({"seed": -1}, "seed.*at least 0, not -1"),
        ({"min_scale": 0.0}, "min_scale must be above 0 and at most 1, not 0.0"),
        ({"min_scale": 1.1}, "min_scale.*not 1.1"),
        ({"erasing": 1.0}, "erasing must be at least 0 and below 1, not 1.0"),
        ({"policy": "trival"}, "policy.*'trival'.*did you mean 'trivial'"),
        ({"sampling": "balance"}, "sampling.*did you mean 'balanced'"),
        ({"min_scale": 0.5, "padding": 4}, "min_scale 0.5 and padding 4 are two ways to crop"),
    ],
)
def test_bad_input_is_refused(change, complaint):
    good = {"images": _images(4), "labels": torch.arange(4), "batch_size": 2, "mean": MEAN, "std": STD}
    with pytest.raises(InputError, match=complaint):
        Batches(**{**good, **change})


@pytest.mark.parametrize(
    "options",
    [{}, {"padding": 2, "flip": True}, {"min_scale": 0.3}, {"policy": "trivial", "erasing": 0.5}],
)
@pytest.mark.parametrize("at_once", [2, 3, 100])
@pytest.mark.parametrize("count", [16, 17, 19])
def test_batches_made_in_one_go_are_those_made_one_by_one(monkeypatch, options, at_once, count):
    """As a GPU makes them; the last may be smaller, or left out, and an epoch may begin in its middle."""
    batches = _batches(count, seed=3, **options)
    for first in (0, 1, 2):
        one_by_one = list(batches.epoch(1, first))
        with monkeypatch.context() as patch:
            patch.setattr(Batches, "_at_once", lambda self: at_once)
            in_one_go = list(batches.epoch(1, first))
        for (x, y), (expected, labels) in zip(in_one_go, one_by_one, strict=True):
            assert torch.equal(x, expected)
            assert torch.equal(y, labels)


@pytest.mark.parametrize(
    "options",
    [{}, {"seed": 3}, {"seed": 3, "padding": 2, "flip": True}, {"seed": 3, "min_scale": 0.3, "flip": True}],
)
def test_a_view_says_where_each_pixel_comes_from(options):
    """Of pictures whose pixels are the numbers of their row and column."""
    size = 32
    rows, columns = torch.meshgrid(*[torch.arange(size, dtype=torch.uint8)] * 2, indexing="ij")
    images = torch.stack([rows, columns]).expand(9, 2, size, size).contiguous()
    batches = Batches(images, torch.arange(9), 4, [0.0] * 2, [1 / 255] * 2, **options)
    for epoch, first in ((0, 0), (2, 1)):
        views = batches.views(epoch, first)
        made = list(batches.epoch(epoch, first))
        assert len(views) == len(made)
        for (x, _), view in zip(made, views, strict=True):
            top, left, height, width = (size * view.boxes).unbind(1)
            middle = slice(size // 2 - 1, size // 2 + 1)  # away from padding
            found = x[:, :, middle, middle].mean((2, 3))
            torch.testing.assert_close(found[:, 0], top + height / 2 - 0.5, atol=0.51, rtol=0)
            torch.testing.assert_close(found[:, 1], left + width / 2 - 0.5, atol=0.51, rtol=0)
            mirrored = x[:, 1, size // 2, size // 2 + 4] < x[:, 1, size // 2, size // 2 - 4]
            assert torch.equal(mirrored, view.flips)
