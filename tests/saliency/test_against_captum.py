"""Every map equals captum's, one class after another; in train mode, captum's on the frozen-statistics copy."""

import itertools

import pytest
import torch
from torch import nn

import selftaught
from selftaught import models
from tests.oracles.captum_maps import captum_maps, relative_error, with_frozen_statistics
from tests.saliency import architectures

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SALIENCIES = ["grad-cam", "grad", "grad-input", "guided-backprop"]
PAPER_MODELS = {"mlp": (1, 12), "cnn6": (3, 16), "cnn8": (3, 32), "resnet8": (3, 16)}


def trained(model: nn.Module, *shape: int) -> nn.Module:
    """A model whose BatchNorm statistics and scales are not those of initialisation."""
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        for _ in range(3):
            model.train()(2 * torch.randn(8, *shape, dtype=dtype) + 0.5)
    return model


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize(
    ("name", "saliency"),
    # An MLP has no layer for Grad-CAM.
    [pair for pair in itertools.product(PAPER_MODELS, SALIENCIES) if pair != ("mlp", "grad-cam")],
)
def test_paper_models(name, saliency, mode, dtype):
    channels, size = PAPER_MODELS[name]
    model = trained(models.create(name, 7, channels, size).to(dtype), channels, size, size).train(
        mode == "train"
    )
    x = torch.randn(5, channels, size, size, dtype=dtype)
    found = selftaught.explain(model, x, saliency)
    reference = with_frozen_statistics(model, x) if mode == "train" else model
    expected = captum_maps(reference, x, saliency, found.plan and found.plan.layer)
    assert relative_error(found.maps, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", architectures.NAMES)
def test_foreign_architectures(name, dtype):
    model = architectures.create(name).to(dtype).eval()
    x = torch.randn(3, 3, 64, 64, dtype=dtype)
    found = selftaught.explain(model, x)
    layer, channel_dim, head = architectures.EXPECTED[name]
    assert found.plan.layer.endswith(layer)
    assert (found.plan.channel_dim, found.plan.head) == (channel_dim, head)
    tokens = (found.plan.before, found.plan.before + found.plan.cells) if channel_dim == -1 else (0, None)
    expected = captum_maps(model, x, "grad-cam", found.plan.layer, channel_dim == -1, tokens=tokens)
    if channel_dim == -1:  # of class tokens there are none in the picture
        expected = expected.unflatten(2, architectures.GRIDS[name])
    assert relative_error(found.maps, expected) <= TOLERANCE[dtype]
    for saliency in ("grad", "grad-input"):
        found = selftaught.explain(model, x, saliency)
        assert relative_error(found.maps, captum_maps(model, x, saliency)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", architectures.WITH_RELU)
def test_foreign_architectures_guided(name):
    model = architectures.create(name).eval()
    x = torch.randn(3, 3, 64, 64)
    found = selftaught.explain(model, x, "guided-backprop")
    assert relative_error(found.maps, captum_maps(model, x, "guided-backprop")) <= 1e-5
    plain = selftaught.explain(model, x, "grad").maps
    assert relative_error(found.maps, plain) > 0.1


@pytest.mark.parametrize("name", ["resnet", "mobilenet_v2", "regnet"])
@pytest.mark.parametrize("saliency", ["grad", "grad-input"])
def test_foreign_architectures_in_train_mode(name, saliency):
    model = architectures.create(name).double().train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # captum's copy would draw other masks
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    found = selftaught.explain(model, x, saliency)
    expected = captum_maps(with_frozen_statistics(model, x), x, saliency)
    assert relative_error(found.maps, expected) <= 1e-10


def test_relu_maps():
    model = trained(models.create("resnet8", 4, 3, 16), 3, 16, 16).eval()
    x = torch.randn(3, 3, 16, 16)
    found = selftaught.explain(model, x, relu=True)
    assert relative_error(found.maps, captum_maps(model, x, "grad-cam", found.plan.layer, relu=True)) <= 1e-5
    assert (found.maps >= 0).all()


@pytest.mark.parametrize("layer", ["features.stem.conv", "features.stage1", "features.stage3.block1.bn1"])
def test_given_layer_in_the_middle(layer):
    """Train-mode BatchNorm between the layer and the logits: statistics are held constant there too."""
    model = models.create("resnet8", 4, 3, 16).double()
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    found = selftaught.explain(model, x, layer=layer)
    assert found.plan.layer == layer
    expected = captum_maps(with_frozen_statistics(model, x), x, "grad-cam", layer)
    assert relative_error(found.maps, expected) <= 1e-10
    by_module = selftaught.explain(model, x, layer=model.get_submodule(layer))
    assert torch.equal(by_module.maps, found.maps)
