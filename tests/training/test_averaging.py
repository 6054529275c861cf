"""The average of the weights against its formula, written out."""

import torch
from torch import nn

from selftaught.training.averaging import Average


def test_the_average_is_what_its_formula_says():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average, decay = Average(network, 0.6), 0.6
    expected = network[0].weight.detach().clone()
    for step in range(1, 31):
        with torch.no_grad():
            network[0].weight.normal_()
            network[1].running_mean.fill_(step)
        share = min(decay, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * network[0].weight.detach()
        average.update()
    own = network[0].weight.detach().clone()
    with average.shown():
        torch.testing.assert_close(network[0].weight.detach(), expected)
        assert 25 < network[1].running_mean[0] < 30  # statistics are averaged with the weights
    assert torch.equal(network[0].weight, own)
    assert network[1].num_batches_tracked == 0


def test_a_restored_average_goes_on_as_it_would_have():
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    first, second = Average(network, 0.9), Average(network, 0.9)
    first.update()
    with torch.no_grad():
        network.weight.add_(1)
    second.restore(first.state())
    for average in (first, second):
        average.update()
    with first.shown():
        values = network.weight.detach().clone()
    second.adopt()
    assert torch.equal(network.weight, values)
