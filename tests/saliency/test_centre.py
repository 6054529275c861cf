"""`centre=`: the mean map over all classes off each map, whatever makes the maps and whichever are asked for."""

import copy

import pytest
import torch
from torch import nn

import selftaught
from selftaught import IntrospectiveLoss, models, similarity, targets
from selftaught.errors import InputError
from selftaught.methods import registry

SALIENCIES = ["grad-cam", "grad", "grad-input", "guided-backprop"]
CLASSES = 6


def head(*layers) -> nn.Module:
    trunk = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(nn.Sequential(*trunk), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers)


NETWORKS = {
    "linear": lambda: head(nn.Linear(8, CLASSES)),
    "channel-wise": lambda: head(nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES)),
    "by-feature": lambda: head(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, CLASSES)),
    "general": lambda: head(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, CLASSES)),
}
CASES = [("grad-cam", name) for name in NETWORKS] + [(saliency, "general") for saliency in SALIENCIES[1:]]


def by_hand(model, x, saliency, classes=None):
    maps = selftaught.explain(model, x, saliency).maps
    maps = maps - maps.mean(1, keepdim=True)
    return maps if classes is None else maps[:, classes]


@pytest.mark.parametrize(("saliency", "name"), CASES)
@pytest.mark.parametrize("classes", [None, [4, 1], [0, 5, 2, 2]])
@pytest.mark.parametrize("training", [True, False])
def test_the_mean_over_all_classes_is_taken_off(saliency, name, classes, training):
    model, x = NETWORKS[name]().double().train(training), torch.randn(5, 3, 8, 8, dtype=torch.float64)
    found = selftaught.explain(model, x, saliency, classes=classes, centre=True)
    expected = by_hand(model, x, saliency, classes)
    assert found.maps.shape == expected.shape
    torch.testing.assert_close(found.maps, expected, rtol=0, atol=1e-12 * expected.abs().max().item())
    if classes is None:
        assert found.maps.mean(1).abs().max() < 1e-12 * expected.abs().max()


def test_what_all_classes_share_makes_no_difference():
    """A vector that is added to every class's weights moves all logits alike: no probability, and no centred map."""
    model, x = NETWORKS["linear"](), torch.randn(5, 3, 8, 8)
    before, plain = (selftaught.explain(model, x, centre=centre).maps for centre in (True, False))
    with torch.no_grad():
        model[-1].weight += torch.randn(8)
    after, shifted = (selftaught.explain(model, x, centre=centre).maps for centre in (True, False))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    assert (shifted - plain).abs().max() > 1e-3


def test_relu_comes_after_it():
    model, x = NETWORKS["linear"](), torch.randn(5, 3, 8, 8)
    found = selftaught.explain(model, x, relu=True, centre=True).maps
    torch.testing.assert_close(found, by_hand(model, x, "grad-cam").clamp(min=0))


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_of_two_classes_the_maps_are_opposite_and_the_targets_label_smoothing(saliency):
    model, x = models.create("resnet8", 2, 3, 16), torch.randn(5, 3, 16, 16)
    labels = torch.tensor([0, 1, 1, 0, 1])
    maps = selftaught.explain(model, x, saliency, centre=True).maps
    torch.testing.assert_close(maps[:, 0], -maps[:, 1])
    criterion = IntrospectiveLoss(model, saliency, centre=True)
    criterion(x, labels)
    assert torch.equal(criterion.targets, targets.smooth(labels, 2))


@pytest.mark.parametrize("saliency", SALIENCIES)
@pytest.mark.parametrize("measure", ["cosine", "multiscale-mse", "wasserstein"])
def test_the_loss_compares_centred_maps(saliency, measure):
    model, x = NETWORKS["general"]().double(), torch.randn(5, 3, 8, 8, dtype=torch.float64)
    labels = torch.tensor([0, 1, 5, 3, 3])
    expected = targets.introspective(similarity.get(measure)(by_hand(model, x, saliency), labels), labels)
    criterion = IntrospectiveLoss(model, saliency, similarity=measure, centre=True)
    criterion(x, labels)
    torch.testing.assert_close(criterion.targets, expected, rtol=0, atol=1e-10)
    plain = IntrospectiveLoss(model, saliency, similarity=measure)
    plain(x, labels)
    assert (plain.targets - expected).abs().max() > 1e-4


def test_what_is_kept_of_centred_maps_is_centred():
    model, x, labels = NETWORKS["linear"](), torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 5, 3, 3])
    index = torch.arange(5)
    criterion = IntrospectiveLoss(model, refresh=0.1, centre=True)
    criterion(x, labels, index)
    first = criterion.targets
    criterion(torch.randn_like(x), labels, index)  # not its turn
    assert torch.equal(criterion.targets, first)
    expected = targets.introspective(similarity.cosine(by_hand(model, x, "grad-cam"), labels), labels)
    torch.testing.assert_close(first, expected)


def test_upsampled_maps_are_centred_before():
    model, x, labels = NETWORKS["linear"](), torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 5, 3, 3])
    maps = similarity.upsampled(by_hand(model, x, "grad-cam"), (8, 8))
    criterion = IntrospectiveLoss(model, upsample=True, centre=True)
    criterion(x, labels)
    expected = targets.introspective(similarity.cosine(maps, labels), labels)
    torch.testing.assert_close(criterion.targets, expected)


@pytest.mark.parametrize("key", ["le", "le-permut"])
@pytest.mark.parametrize("saliency", ["grad-cam", "grad"])
def test_a_method_goes_on_with_centred_maps_after_an_interruption(key, saliency):
    model, x, labels = NETWORKS["linear"](), torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 5, 3, 3])
    twin = copy.deepcopy(model)
    method, again = (registry.create(key, model, saliency=saliency, centre=True) for _ in range(2))
    method(x, labels)
    again.load_state_dict(method.state_dict())
    again(x, labels)
    expected = targets.introspective(similarity.cosine(by_hand(twin, x, saliency), labels), labels)
    found = again.criterion.targets
    torch.testing.assert_close(found.sort(1).values, expected.sort(1).values)


def test_a_centre_that_is_neither_on_nor_off_is_refused():
    with pytest.raises(InputError, match="centre must be True or False"):
        IntrospectiveLoss(NETWORKS["linear"](), centre="class")
