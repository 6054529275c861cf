"""The layer that makes the logits, found in networks of many forms, and what it reads."""

import copy

import pytest
import torch
from torch import nn

from selftaught import models
from selftaught.errors import InputError
from selftaught.models import classifier_layer


class Twice(nn.Module):
    """A network whose auxiliary classifier has as many outputs as its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))
        self.own, self.auxiliary = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.body(x)
        self.auxiliary(features)
        return self.own(features)


class Scaled(nn.Module):
    """Logits that no linear layer has made."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1)) / 2


@pytest.mark.parametrize("name", ["resnet8", "cnn8", "mlp"])
def test_it_is_found_in_our_own_networks(name):
    network = models.create(name, num_classes=7, image_size=16)
    found, layer = classifier_layer.find(network, torch.randn(2, 3, 16, 16))
    assert network.get_submodule(found) is layer
    assert layer.out_features == 7


def test_the_features_are_what_it_reads_and_the_network_stays_as_it_was():
    torch.manual_seed(0)
    network = Twice()
    network.body[3].eval()
    before, modes = copy.deepcopy(network.state_dict()), [m.training for m in network.modules()]
    images = torch.randn(6, 3, 2, 2)
    state = torch.get_rng_state()
    name, layer = classifier_layer.find(network, images)
    assert (name, layer) == ("own", network.own)
    features = torch.cat(list(classifier_layer.features(network, layer, iter(images.split(4)))))
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in network.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    torch.testing.assert_close(layer(features), network.eval()(images))


@pytest.mark.parametrize(
    "network",
    [
        Scaled(),
        nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False)),
        nn.Sequential(nn.Conv2d(3, 5, 2), nn.Flatten()),
        nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU()),
    ],
)
def test_a_network_without_one_is_told_what_to_do(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_().neg_()  # so that the ReLU changes something
    with pytest.raises(InputError, match=r"no linear layer with a bias .*: use --head new"):
        classifier_layer.find(network, torch.rand(2, 3, 2, 2))


def test_a_network_that_draws_in_eval_mode_gives_the_same_features_and_leaves_the_generator():
    class Noisy(Twice):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(nn.functional.dropout(x, 0.5, training=True))

    network, images = Noisy(), torch.randn(4, 3, 2, 2)
    state = torch.get_rng_state()
    first, second = (list(classifier_layer.features(network, network.own, iter([images]))) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(torch.get_rng_state(), state)
