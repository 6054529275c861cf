"""Models whose parts go by several names."""

import pytest
import torch
from torch import nn

import selftaught


class Shared(nn.Module):
    """A convolution that goes by two names, a weight that two layers share, and a buffer that two parts share."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.stem = nn.Sequential(self.conv, nn.BatchNorm2d(6))
        self.mix, self.head = nn.Linear(6, 6), nn.Linear(6, 6)
        self.head.weight = self.mix.weight
        self.register_buffer("scale", torch.ones(6))
        self.mix.register_buffer("scale", self.scale)

    def forward(self, x):
        a = self.stem(x).relu()
        return self.head(self.mix((a.mean((2, 3)) * self.scale).relu()) * self.mix.scale)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("saliency", ["grad-cam", "grad"])
def test_what_goes_by_two_names_is_left_as_it_was(train, saliency):
    model, x = Shared().train(train), torch.randn(4, 1, 8, 8)
    before = {id(slot): slot.clone() for slot in [*model.parameters(), *model.buffers()]}
    assert selftaught.explain(model, x, saliency).maps.abs().sum() > 0
    after = [*model.parameters(), *model.buffers()]
    assert [id(slot) for slot in after] == list(before)
    assert all(torch.equal(slot, before[id(slot)]) for slot in after)
    assert model.stem[0] is model.conv
    assert model.head.weight is model.mix.weight
    selftaught.IntrospectiveLoss(model, saliency)(x, torch.tensor([0, 1, 2, 3])).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
