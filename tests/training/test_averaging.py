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
    first, second = (Average(network, 0.9, blend=0.5) for _ in range(2))
    first.update()
    with torch.no_grad():
        network.weight.add_(1)
    second._start = [torch.zeros_like(tensor) for tensor in second._start]
    second.restore(first.state())
    for average in (first, second):
        average.update()
    with first.shown():
        values = network.weight.detach().clone()
    second.adopt()
    assert torch.equal(network.weight, values)


def test_a_blend_lies_between_the_beginning_and_the_average():
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    start = network.weight.detach().clone()
    blended, both = Average(network, blend=0.25), Average(network, 0.5, blend=0.25)
    for average in (blended, both):
        with torch.no_grad():
            network.weight.add_(1)
        average.update()
    with blended.shown():  # of the last step
        torch.testing.assert_close(network.weight.detach(), start + 0.25 * 2)
    both.adopt()  # whose only step was the second: 1 − 2/11 of the way to it
    torch.testing.assert_close(network.weight.detach(), start + 0.25 * 2 * 9 / 11)
