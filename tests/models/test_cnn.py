"""The plain CNNs against the table of widths in TAKD, written out by hand."""

import pytest
import torch
from torch import nn

from selftaught import models
from selftaught.errors import InputError

LAYOUTS = {
    "cnn6": ([16, 16, "M", 32, 32, "M", 64, 64, "M"], [10]),
    "cnn8": ([16, 16, "M", 32, 32, "M", 64, 64, "M", 128, 128, "M"], [64, 10]),
    "cnn10": ([32, 32, "M", 64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M"], [128, 10]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layers_follow_the_table(name):
    model = models.create(name, 10)
    convolutional, linear = LAYOUTS[name]
    leaves = [m for m in model.modules() if not list(m.children())]
    expected = []
    for width in convolutional:
        expected += ["M"] if width == "M" else [width, f"bn{width}", "relu"]
    expected += ["flatten"]
    for width in linear[:-1]:
        expected += [f"fc{width}", "relu"]
    expected += [f"fc{linear[-1]}"]
    assert [_describe(m) for m in leaves] == expected


def _describe(module):
    match module:
        case nn.Conv2d():
            assert module.kernel_size == (3, 3)
            assert (module.padding, module.stride) == ((1, 1), (1, 1))
            return module.out_channels
        case nn.MaxPool2d():
            assert module.kernel_size == 2
            return "M"
        case nn.BatchNorm2d():
            return f"bn{module.num_features}"
        case nn.Linear():
            return f"fc{module.out_features}"
        case nn.ReLU():
            return "relu"
        case nn.Flatten():
            return "flatten"


@pytest.mark.parametrize("name", LAYOUTS)
def test_parameter_count(name):
    convolutional, linear = LAYOUTS[name]
    count, channels, pools = 0, 3, 0
    for width in convolutional:
        if width == "M":
            pools += 1
        else:
            count += 9 * channels * width + 2 * width
            channels = width
    inputs = channels * (32 // 2**pools) ** 2
    for width in linear:
        count += (inputs + 1) * width
        inputs = width
    assert sum(p.numel() for p in models.create(name, 10).parameters()) == count


@pytest.mark.parametrize(("name", "smallest"), [("cnn6", 8), ("cnn8", 16), ("cnn10", 16)])
def test_the_smallest_image_fits_and_a_smaller_one_is_refused(name, smallest):
    model = models.create(name, 2, 1, smallest).eval()
    assert model(torch.randn(1, 1, smallest, smallest)).shape == (1, 2)
    with pytest.raises(InputError, match=f"{name}.*{smallest}x{smallest - 1}.*{smallest}x{smallest}$"):
        models.create(name, 2, 1, (smallest, smallest - 1))
