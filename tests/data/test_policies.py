import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.data import augment, policies
from selftaught.data.policies import OPERATIONS, POLICIES, Choices
from tests.oracles import policies as oracle

SIZE = (23, 31)


def _pictures(channels, size=SIZE, count=5):
    """Smooth ones, noise, and one of a single colour."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randint(256, (count, channels, 4, 5), generator=generator).float()
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bilinear").round().to(torch.uint8)
    noise = torch.randint(256, (1, channels, *size), dtype=torch.uint8, generator=generator)
    return torch.cat([smooth, noise, torch.full_like(noise, 130)])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_pillow(name, channels):
    images = _pictures(channels)
    for policy in POLICIES.values():
        steps = policy.magnitudes(SIZE)[list(OPERATIONS).index(name), [7, 30]]
        for magnitude in (
            [*steps.tolist(), *(-steps).tolist()] if name in policies._SIGNED else steps.tolist()
        ):
            ours = OPERATIONS[name](images.clone(), torch.full((len(images),), magnitude))
            assert ours.dtype == torch.uint8
            for image, found in zip(images.numpy(), ours.numpy(), strict=True):
                expected, sure = oracle.OPERATIONS[name](image, magnitude)
                off = np.abs(found.astype(int) - expected.astype(int))[:, sure]
                assert sure.mean() > 0.25
                # Pillow rounds where we cut off, and its greys are in steps of 2**-16.
                assert off.max(initial=0) <= 2
                assert (off > 1).mean() < 0.02


def test_the_most_and_the_least_that_a_policy_does():
    """The table of torchvision's `TrivialAugmentWide`, and of its `RandAugment` for images of 331 pixels."""
    wide, rand = (POLICIES[name].magnitudes((331, 331)) for name in ("trivial", "rand"))
    most = {name: (wide[k, 30].item(), rand[k, 30].item()) for k, name in enumerate(OPERATIONS)}
    for name in ("brightness", "color", "contrast", "sharpness"):
        assert most[name] == pytest.approx((0.99, 0.9))
    assert most["shear-x"] == most["shear-y"] == pytest.approx((0.99, 0.3))
    assert most["translate-x"] == most["translate-y"] == pytest.approx((32, 150))
    assert most["rotate"] == pytest.approx((135, 30))
    assert most["posterize"] == (2, 4)
    assert wide[:, 0].unique().tolist() == [0, 1, 8]  # black and white from 255 on, all eight bits


@pytest.mark.parametrize("name", POLICIES)
def test_every_operation_is_drawn_equally_often_with_any_sign(name):
    policy = POLICIES[name]
    kinds, magnitudes = policy.draw(20_000, SIZE, torch.Generator().manual_seed(0))
    shares = kinds.flatten().bincount(minlength=len(OPERATIONS)) / kinds.numel()
    assert (shares - 1 / len(OPERATIONS)).abs().max() < 0.01
    turns = magnitudes[kinds == list(OPERATIONS).index("rotate")]
    assert turns.unique().numel() == (2 if policy.bin else 61)
    assert abs((turns > 0).double().mean() - (turns < 0).double().mean()) < 0.1
    assert turns.abs().max() == pytest.approx(9.0 if policy.bin else 135.0)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), count=st.integers(1, 7), name=st.sampled_from(list(POLICIES)))
def test_what_becomes_of_an_image_is_its_own_affair(data, count, name):
    images = _pictures(3, (9, 12), 9)[:count]
    choices = POLICIES[name].draw(
        count, (9, 12), torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    )
    before = images.clone()
    together = policies.apply(images, choices)
    assert torch.equal(images, before)
    last = policies.apply(images.contiguous(memory_format=torch.channels_last), choices)
    assert torch.equal(together, last)
    for k in range(count):
        assert torch.equal(
            policies.apply(images[k : k + 1], augment.taken(choices, slice(k, k + 1)))[0], together[k]
        )


def test_operations_follow_each_other():
    images = _pictures(3)
    names = list(OPERATIONS)
    kinds = torch.tensor([[names.index("solarize"), names.index("translate-x")]]).expand(len(images), 2)
    magnitudes = torch.tensor([[0.5, 3.0]]).expand(len(images), 2)
    found = policies.apply(images, Choices(kinds, magnitudes))
    assert (found[..., :3] == 0).all()
    assert (found[..., 3:] < 128).all()


def test_holes_are_as_large_as_they_should_be_and_within_the_image():
    size = (40, 60)
    tops, lefts, heights, widths = policies.draw_holes(5000, size, 0.3, torch.Generator().manual_seed(0))
    erased = heights > 0
    assert abs(erased.double().mean() - 0.3) < 0.03
    assert torch.equal(erased, widths > 0)
    assert ((tops + heights <= 40) & (lefts + widths <= 60) & (tops >= 0) & (lefts >= 0)).all()
    share = (heights * widths)[erased] / (40 * 60)
    assert 0.015 < share.min() < 0.03
    assert 0.3 < share.max() < 0.36
    ratio = heights[erased] / widths[erased]
    assert 0.25 < ratio.min() < 0.4
    assert 2.5 < ratio.max() < 4
    assert (policies.draw_holes(50, size, 0.0, torch.Generator()).heights == 0).all()


def test_what_is_erased_is_the_rectangle_alone():
    images = torch.ones(3, 2, 5, 6)
    holes = policies.Holes(*torch.tensor([[1, 0, 0], [2, 0, 0], [3, 0, 5], [4, 0, 2]]))
    policies.erase(images, holes)
    expected = np.ones((3, 2, 5, 6))
    expected[0, :, 1:4, 2:6] = 0
    expected[2, :, :, :2] = 0
    np.testing.assert_array_equal(images.numpy(), expected)


@pytest.mark.parametrize(("policy", "theirs"), [("trivial", "TrivialAugmentWide"), ("rand", "RandAugment")])
def test_operations_are_those_of_torchvision(policy, theirs):
    """Within one step of grey: interpolation and blending add up in another order."""
    v2 = pytest.importorskip("torchvision.transforms.v2", exc_type=ImportError)
    bilinear = v2.InterpolationMode.BILINEAR
    transform = getattr(v2, theirs)(interpolation=bilinear)
    space = transform._AUGMENTATION_SPACE
    magnitudes = POLICIES[policy].magnitudes(SIZE)
    names = {name.replace("-", ""): name for name in OPERATIONS}
    assert {name.lower() for name in space} == set(names)
    for name, (steps_of, signed) in space.items():
        ours = names[name.lower()]
        steps = steps_of(31, *SIZE)
        assert signed == (ours in policies._SIGNED)
        own = magnitudes[list(OPERATIONS).index(ours)]
        assert steps is None or torch.equal(steps.float(), own)
        for magnitude in [m * sign for m in own.tolist() for sign in ((1, -1) if signed else (1,))]:
            for images in (_pictures(3), _pictures(1)):
                expected = [
                    transform._apply_image_or_video_transform(x, name, magnitude, bilinear, transform._fill)
                    for x in images
                ]
                found = OPERATIONS[ours](images.clone(), torch.full((len(images),), magnitude))
                assert (found.int() - torch.stack(expected).int()).abs().max() <= 1
