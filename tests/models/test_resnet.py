"""The CIFAR ResNets against a formula for their size and a functional forward written from the paper."""

import pytest
import torch
import torch.nn.functional as F

from selftaught import models


def _count(blocks, channels, classes):
    total = 9 * channels * 16 + 2 * 16
    before = 16
    for width in (16, 32, 64):
        for _ in range(blocks):
            total += 9 * before * width + 2 * width + 9 * width * width + 2 * width
            if before != width:
                total += before * width + 2 * width
            before = width
    return total + 64 * classes + classes


@pytest.mark.parametrize(
    ("depth", "channels", "classes"),
    [(8, 3, 10), (14, 1, 10), (20, 3, 100), (26, 3, 10), (38, 3, 2), (56, 3, 10)],
)
def test_parameter_count(depth, channels, classes):
    model = models.create(f"resnet{depth}", classes, channels)
    assert sum(p.numel() for p in model.parameters()) == _count((depth - 2) // 6, channels, classes)


def test_resnet20_has_the_published_size():
    # 269,722 with parameter-free shortcuts (He et al.: 0.27M) and 2,752 more for the two projections.
    assert sum(p.numel() for p in models.create("resnet20", 10).parameters()) == 269_722 + 2_752


def _norm(x, state, name):
    stats = (state[f"{name}.running_mean"], state[f"{name}.running_var"])
    return F.batch_norm(x, *stats, state[f"{name}.weight"], state[f"{name}.bias"])


def _functional_forward(x, state, blocks):
    stem = "features.stem"
    x = F.relu(_norm(F.conv2d(x, state[f"{stem}.conv.weight"], padding=1), state, f"{stem}.bn"))
    for stage in (1, 2, 3):
        for block in range(1, blocks + 1):
            name = f"features.stage{stage}.block{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            y = F.relu(_norm(y, state, f"{name}.bn1"))
            y = _norm(F.conv2d(y, state[f"{name}.conv2.weight"], padding=1), state, f"{name}.bn2")
            if stride == 2:
                x = F.conv2d(x, state[f"{name}.shortcut.conv.weight"], stride=2)
                x = _norm(x, state, f"{name}.shortcut.bn")
            x = F.relu(x + y)
    return F.linear(x.mean((2, 3)), state["head.classifier.weight"], state["head.classifier.bias"])


@pytest.mark.parametrize(("depth", "size"), [(8, 32), (14, 17), (20, 1)])
def test_forward_is_the_papers(depth, size):
    model = models.create(f"resnet{depth}", 5, 3, size).double()
    with torch.no_grad():
        model(torch.randn(16, 3, size, size, dtype=torch.float64))  # running statistics worth comparing
    x = torch.randn(4, 3, size, size, dtype=torch.float64)
    expected = _functional_forward(x, model.state_dict(), (depth - 2) // 6)
    torch.testing.assert_close(model.eval()(x), expected)


def test_features_are_a_quarter_of_the_image():
    model = models.create("resnet8", 10).eval()
    assert model.features(torch.randn(2, 3, 32, 32)).shape == (2, 64, 8, 8)


def test_depths_beyond_the_listed_ones_work():
    assert "resnet38" not in models.names()
    assert models.summary("resnet38") == "CIFAR ResNet, 3 stages of 6 basic blocks, 16-32-64 channels"
    assert models.is_spatial("resnet38")
