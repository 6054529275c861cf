"""What holds for every model: shapes, parts, dropout, determinism, and refusals."""

import numpy as np
import pytest
import torch
from captum.attr import GuidedBackprop
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from selftaught import models
from selftaught.errors import InputError

NAMES = ["mlp", "cnn6", "cnn8", "cnn10", "resnet8", "resnet14"]


@settings(max_examples=12)
@given(
    name=st.sampled_from(NAMES),
    num_classes=st.integers(2, 12),
    channels=st.integers(1, 4),
    height=st.integers(16, 33),
    width=st.integers(16, 33),
)
def test_any_shape_goes_in_and_logits_come_out(name, num_classes, channels, height, width):
    model = models.create(name, num_classes, channels, (height, width)).eval()
    x = torch.randn(2, channels, height, width)
    logits = model(x)
    assert logits.shape == (2, num_classes)
    assert logits.isfinite().all()
    torch.testing.assert_close(model.head(model.features(x)), logits, rtol=0, atol=0)


@pytest.mark.parametrize("name", models.names())
def test_every_listed_model_can_be_made(name):
    model = models.create(name, 3, 1, 16).eval()
    features = model.features(torch.randn(1, 1, 16, 16))
    assert (features.ndim == 4) == models.is_spatial(name)
    assert models.summary(name)
    assert "\n" not in models.summary(name)


def test_the_listed_names():
    listed = models.names()
    assert {"mlp", "cnn6", "cnn8", "cnn10", "resnet8", "resnet14", "resnet20", "resnet26"} <= set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", NAMES)
def test_a_hook_on_the_last_stage_sees_the_features(name, dropout):
    model = models.create(name, 4, 3, 16, dropout=dropout).eval()
    seen = []
    list(model.features.children())[-1].register_forward_hook(lambda _m, _i, out: seen.append(out))
    features = model.features(torch.randn(2, 3, 16, 16))
    assert len(seen) == 1
    assert seen[0] is features


@pytest.mark.parametrize(
    ("name", "count"), [("mlp", 2), ("cnn6", 3), ("cnn8", 4), ("cnn10", 4), ("resnet14", 3)]
)
def test_dropout_ends_each_stage_and_leaves_the_keys_alone(name, count):
    plain, dropping = models.create(name, 4, 3, 16), models.create(name, 4, 3, 16, dropout=0.25)
    assert list(plain.state_dict()) == list(dropping.state_dict())
    assert not [m for m in plain.modules() if isinstance(m, nn.Dropout)]
    dropouts = [m for m in dropping.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in dropouts] == [0.25] * count
    stages = [m for m in dropping.features if isinstance(m, nn.Sequential)][-count:]
    assert [stage[-1] for stage in stages] == dropouts


@pytest.mark.parametrize("name", NAMES)
def test_dropout_drops_only_in_train_mode(name):
    plain, dropping = models.create(name, 4, 3, 16).eval(), models.create(name, 4, 3, 16, dropout=0.5)
    dropping.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(dropping.eval()(x), plain(x), rtol=0, atol=0)
    for module in dropping.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    assert (dropping(x) - plain(x)).abs().max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_the_weights_and_dropout_does_not(name):
    torch.manual_seed(3)
    first = models.create(name, 4, 3, 16).state_dict()
    torch.manual_seed(3)
    again = models.create(name, 4, 3, 16, dropout=0.1).state_dict()
    other = models.create(name, 4, 3, 16).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_each_relu_is_a_module_used_once_per_pass(name):
    model = models.create(name, 4, 3, 16).eval()
    relus = [m for m in model.modules() if isinstance(m, nn.ReLU)]
    calls = []
    for relu in relus:
        relu.register_forward_hook(lambda module, _i, _o: calls.append(id(module)))
    model(torch.randn(1, 3, 16, 16))
    assert sorted(calls) == sorted(id(relu) for relu in relus)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
def test_captum_can_explain_it_by_guided_backpropagation(name):
    model = models.create(name, 4, 3, 16).eval()
    x = torch.randn(2, 3, 16, 16, requires_grad=True)
    guided = GuidedBackprop(model).attribute(x, target=1)
    plain = torch.autograd.grad(model(x)[:, 1].sum(), x)[0]
    assert guided.isfinite().all()
    assert (guided - plain).abs().max() > 1e-6


@pytest.mark.parametrize("name", ["cnn6", "resnet8"])
def test_convolutions_start_with_he_initialisation(name):
    for module in models.create(name, 4).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
            assert abs(module.weight.mean().item()) < 0.1 * (2 / fan_out) ** 0.5
            assert module.bias is None
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("resnet9", {}, "resnet9.*6n\\+2.*resnet8, resnet14"),
        ("resnet2", {}, "resnet2.*6n\\+2"),
        ("cnn7", {}, "cnn7.*cnn6, cnn8, cnn10"),
        ("resnext8", {}, "unknown model 'resnext8'.*did you mean 'resnet8'"),
        ("resnet", {}, "unknown model 'resnet'"),
        ("resnet08", {}, "unknown model 'resnet08'"),
        ("mlp", {"num_classes": 1}, "num_classes.*at least 2.*got 1"),
        ("mlp", {"num_classes": 2.5}, "num_classes.*whole number"),
        ("mlp", {"num_classes": True}, "num_classes.*whole number"),
        ("mlp", {"image_size": 8.0}, "image_size.*whole number"),
        ("mlp", {"dropout": "0.1"}, "dropout must be in .* not '0.1'"),
        ("resnet8", {"in_channels": 0}, "in_channels.*at least 1"),
        ("resnet8", {"image_size": 0}, "image_size.*at least 1"),
        ("resnet8", {"image_size": (8, -1)}, "image_size.*at least 1"),
        ("resnet8", {"image_size": (8, 8, 8)}, "image_size.*height, width"),
        ("resnet8", {"dropout": 1.0}, "dropout.*\\[0, 1\\).*1.0"),
        ("resnet8", {"dropout": -0.1}, "dropout"),
        ("resnet8", {"dropout": float("nan")}, "dropout"),
    ],
)
def test_bad_input_is_refused_in_one_line(name, options, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        models.create(name, **{"num_classes": 10, **options})
    assert "\n" not in str(caught.value)


def test_whole_numbers_of_numpy_are_as_good():
    model = models.create("mlp", np.int64(3), np.int32(1), np.int64(8))
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize("ask", [models.is_spatial, models.summary])
@pytest.mark.parametrize("name", ["resnet9", "cnn7", "nothing"])
def test_questions_about_no_such_model_are_refused(ask, name):
    with pytest.raises(InputError, match=name):
        ask(name)
