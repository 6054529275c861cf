"""The groups of an optimiser, its updates in one pass, and the schedule of the rate."""

import math

import pytest
import torch
from torch import nn

from selftaught.training import optimising
from selftaught.training.optimising import OPTIMIZERS, lr_factor
from tests.training import quick


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_the_layers_below_the_classifier_have_a_rate_of_their_own():
    model, config = network(), quick.config(lr=0.5, backbone_factor=0.1)
    made = optimising.optimizer(config, model, [*model[0].parameters(), *model[1].parameters()])
    rates = {id(p): group["lr"] for group in made.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in model.parameters()] == pytest.approx([0.05] * 4 + [0.5] * 2)


def test_norms_and_biases_do_not_decay_unless_they_should():
    model, config = network(), quick.config(weight_decay=0.01, decay_norms=False)
    decays = {
        id(p): group["weight_decay"]
        for group in optimising.optimizer(config, model).param_groups
        for p in group["params"]
    }
    assert [decays[id(p)] for p in model.parameters()] == [0.01, 0, 0, 0, 0.01, 0]
    # One group, as before there was the choice: bytes of earlier runs.
    [group] = optimising.optimizer(quick.config(weight_decay=0.01), model).param_groups
    assert len(group["params"]) == 6


def test_the_rate_rises_then_follows_its_schedule():
    """Against a table written out by hand: ten steps, of which a ramp takes four."""
    config = quick.config(epochs=2, schedule="cosine", ramp=0.4)
    expected = [min(1, (step + 1) / 4) * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)]
    assert [lr_factor(config, step, 5) for step in range(10)] == pytest.approx(expected)
    without = quick.config(epochs=2, schedule="cosine")
    assert [lr_factor(without, step, 5) for step in (0, 5, 10)] == pytest.approx([1, 0.5, 0])


def test_a_cpu_updates_in_one_pass_where_gradients_lie_as_their_parameters():
    dense = [
        nn.Parameter(torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)),
        nn.Parameter(torch.ones(2)),
    ]
    gaps = nn.Parameter(torch.randn(8, 8)[:, ::2])
    for name in OPTIMIZERS:
        config = quick.config(optimizer=name)

        def fused(parameters, config=config, **changes):
            made = optimising.optimizer(config.model_copy(update=changes), nn.ParameterList(parameters))
            return made.param_groups[0]["fused"]

        assert fused(dense) is True
        assert fused([*dense, gaps]) is None
        assert fused(dense, device="cuda") is None


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_update_in_one_pass_is_the_usual_one(optimizer):
    """Also for the layouts that convolutions get, 1x1 kernels and single channels among them."""
    config = quick.config(optimizer=optimizer, lr=0.05, weight_decay=0.01)
    shapes = [(16, 8, 3, 3), (16, 8, 1, 1), (16, 1, 3, 3), (1, 8, 3, 3), (70, 50), (33,)]
    torch.manual_seed(0)
    networks = [nn.ParameterList(torch.randn(shape) for shape in shapes) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    for network in networks:
        network.to(memory_format=torch.channels_last)
    fused, usual = (optimising.optimizer(config, network) for network in networks)
    usual.param_groups[0]["fused"] = False
    for step in range(4):
        for network, optimize in zip(networks, (fused, usual), strict=True):
            torch.manual_seed(step)
            optimize.zero_grad()
            sum((torch.randn(shape) * p).sum() for shape, p in zip(shapes, network, strict=True)).backward()
            optimize.step()
    for ours, theirs in zip(*networks, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
