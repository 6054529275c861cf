"""Gradients made piece by piece equal autograd's, one class after another, on the same graph."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import selftaught
from selftaught import models
from selftaught.saliency import jacobian
from selftaught.saliency.backward import ExplanationRules, class_gradients
from selftaught.saliency.jacobian import Jacobian, Unsupported, final_linear
from tests.oracles.captum_maps import relative_error

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def forward(model, x, guided=False, target=None):
    """The logits of x and the rules of their explanation."""
    rules = ExplanationRules(guided, target)
    with rules:
        return model(x.clone()), rules


def slow(outputs, x, rules, columns):
    """One call of autograd for each output: (B, K, ...)."""
    with rules.explaining():
        each = class_gradients(outputs, x, columns, chunk_size=None, vectorized=False)
        return torch.cat(list(each)).transpose(0, 1)


def check(model, x, guided=False, most=None, target=None):
    """The fast way gives what the slow way gives."""
    outputs, rules = forward(model, x, guided, target)
    columns = range(outputs.shape[1])
    found = Jacobian(outputs, x, guided)(columns, most)
    assert found.dtype == x.dtype
    expected = slow(outputs, x, rules, columns)
    # Dead ReLUs may leave nothing but zeros.
    assert (found - expected).abs().max() <= TOLERANCE[x.dtype] * expected.abs().max()


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(jacobian, "PIECE_BYTES", 2**15)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["mlp", "cnn6", "resnet8"])
def test_our_networks(name, layout, dtype, train, guided):
    channels, size = (1, 12) if name == "mlp" else (3, 16)
    model = models.create(name, 7, channels, size, dropout=0.3).to(dtype, memory_format=layout).train(train)
    x = torch.randn(5, channels, size, size, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    check(model, x, guided)
    check(model, x, guided, target=x)


@settings(max_examples=60)
@given(data=st.data())
def test_random_convolutions(data):
    """Every stride, padding, dilation and number of groups, with and without BatchNorm, odd sizes."""

    def draw(low, high):
        return data.draw(st.integers(low, high))

    groups, kernel, dilation = draw(1, 2), (draw(1, 3), draw(1, 3)), draw(1, 2)
    convolution = nn.Conv2d(
        2 * groups,
        3 * groups,
        kernel,
        stride=(draw(1, 3), draw(1, 3)),
        padding=(draw(0, 3), draw(0, 2)),
        dilation=dilation,
        groups=groups,
        bias=data.draw(st.booleans()),
    )
    norm = nn.BatchNorm2d(3 * groups, affine=data.draw(st.booleans()))
    layers = [convolution, *data.draw(st.sampled_from([[], [norm], [nn.ReLU(), norm]])), nn.ReLU()]
    pools = [nn.MaxPool2d(2, ceil_mode=True), nn.AdaptiveAvgPool2d(1), nn.Identity()]
    layers += [data.draw(st.sampled_from(pools)), nn.Flatten()]
    x = torch.randn(draw(2, 6), 2 * groups, draw(7, 11), draw(7, 11), dtype=torch.float64)
    body = nn.Sequential(*layers).double()
    model = nn.Sequential(body, nn.Linear(body(x).shape[1], draw(1, 5)).double())
    model.train(data.draw(st.booleans()))
    check(
        model,
        x.requires_grad_(),
        guided=data.draw(st.booleans()),
        most=data.draw(st.sampled_from([None, 1, 2])),
    )


class Branches(nn.Module):
    """One tensor read three times, a sum of itself, a constant added, a mask multiplied, a plain matrix product."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 8, bias=False)

    def forward(self, x):
        a = F.relu(self.first(x))
        b = self.second(a) + a
        c = F.relu(b + b + torch.ones_like(b)) * (a.detach() > 0.5)
        return (c + a).view(len(x), 2, 4).mean(-1) + a.unflatten(1, (4, 2)).mean(dim=1, keepdim=False)


@pytest.mark.parametrize("guided", [False, True])
def test_branches(guided):
    check(Branches().double(), torch.randn(4, 6, dtype=torch.float64).requires_grad_(), guided)


def test_an_activation_in_the_middle():
    model = models.create("resnet8", 4, 3, 16).double()
    kept = []
    model.features.stage2.register_forward_hook(lambda module, args, output: kept.append(output))
    outputs, rules = forward(model, torch.randn(3, 3, 16, 16, dtype=torch.float64).requires_grad_())
    found = Jacobian(outputs, kept[0])(range(4))
    assert relative_error(found, slow(outputs, kept[0], rules, range(4))) <= 1e-12


def mixing(x):
    """Samples that see each other."""
    return x @ x.detach().t() @ x


@pytest.mark.parametrize(
    "unknown",
    [
        mixing,
        torch.sigmoid,
        lambda x: x * x,
        lambda x: 2 * x,
        lambda x: x - 1,
        lambda x: x + x.mean(0, keepdim=True),
        lambda x: x.t().contiguous().view(-1).view(x.shape),
        lambda x: x @ (x.mean() * torch.eye(x.shape[1])),
        lambda x: torch.add(x, x, alpha=2),
        lambda x: x.cumsum(0),
        lambda x: torch.eye(len(x)) @ x.relu(),
    ],
)
def test_what_is_unknown_is_left_to_autograd(unknown):
    linear = nn.Linear(5, 3)
    x = torch.randn(4, 5).requires_grad_()
    outputs = linear(unknown(x.clone()))
    with pytest.raises(Unsupported):
        Jacobian(outputs, x)

    class Model(nn.Module):
        def forward(self, x):
            return linear(unknown(x))

    expected = torch.stack(
        [torch.autograd.grad(outputs[:, k].sum(), x, retain_graph=True)[0] for k in range(3)], 1
    )
    assert relative_error(selftaught.explain(Model(), x.detach(), "grad").maps, expected) <= 1e-6


class TestMoreClassesThanFeatures:
    """The classifier's weights times the features' gradients."""

    @pytest.mark.parametrize("train", [False, True])
    @pytest.mark.parametrize("bias", [False, True])
    def test_maps_are_those_of_every_class(self, train, bias):
        model = models.create("resnet8", 90, 3, 12).double().train(train)
        model.head.classifier = nn.Linear(64, 90, bias=bias).double()
        x = torch.randn(3, 3, 12, 12, dtype=torch.float64).requires_grad_()
        outputs, rules = forward(model, x)
        expected = slow(outputs, x, rules, range(90))
        assert relative_error(selftaught.explain(model, x, "grad").maps, expected) <= 1e-12
        some = [89, 3, 3, *range(80)]
        assert (
            relative_error(selftaught.explain(model, x, "grad", classes=some).maps, expected[:, some])
            <= 1e-12
        )

    def test_also_where_the_network_is_left_to_autograd(self):
        model = nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 9)).double()
        x = torch.randn(3, 6, dtype=torch.float64)
        expected = torch.autograd.functional.jacobian(model, x).sum(2)
        assert relative_error(selftaught.explain(model, x, "grad").maps, expected) <= 1e-12

    def test_guided_backpropagation_is_not_linear(self):
        model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 9)).double()
        x = torch.randn(3, 6, dtype=torch.float64)
        outputs, rules = forward(model, x.requires_grad_(), guided=True)
        expected = slow(outputs, x, rules, range(9))
        assert relative_error(selftaught.explain(model, x, "guided-backprop").maps, expected) <= 1e-12

    def test_a_classifier_made_of_the_input_is_no_factor(self):
        x = torch.randn(4, 5).requires_grad_()
        features = torch.relu(x.clone())
        assert final_linear(features @ torch.randn(5, 9, requires_grad=True), x) is not None
        assert final_linear(features @ (x.mean() * torch.ones(5, 9)), x) is None
        assert final_linear(F.linear(features, torch.randn(9, 5)), x) is None, (
            "a frozen layer keeps no features"
        )
        assert final_linear(features, x) is None


class TestTheLossNeedsNoGradientOfItsInput:
    @pytest.mark.parametrize("name", ["mlp", "cnn6", "resnet8"])
    def test_parameters_learn_the_same_and_the_input_nothing(self, name):
        channels, size = (1, 12) if name == "mlp" else (3, 16)
        model = models.create(name, 7, channels, size)
        x = torch.randn(5, channels, size, size).requires_grad_()
        parameters = tuple(model.parameters())
        outputs, _ = forward(model, x)
        expected = torch.autograd.grad(outputs.square().sum(), parameters)
        outputs, rules = forward(model, x, target=x)
        before = slow(outputs, x, rules, range(7))
        outputs.square().sum().backward()
        assert x.grad is None
        assert before.abs().max() > 0
        for parameter, gradient in zip(parameters, expected, strict=True):
            assert torch.equal(parameter.grad, gradient)

    def test_a_user_who_wants_the_inputs_gradient_gets_it(self):
        model = models.create("resnet8", 4, 3, 16)
        x = torch.randn(3, 3, 16, 16).requires_grad_()
        selftaught.IntrospectiveLoss(model, saliency="grad")(x, torch.arange(3)).backward()
        assert x.grad.abs().max() > 0

    @pytest.mark.parametrize(
        "start",
        [
            lambda model, x: model(2 * x - 1),
            lambda model, x: model(x + model[0].weight.sum()),
            lambda model, x: model[1](F.linear(input=x, weight=model[0].weight)),
            lambda model, x: model(x.view(-1, 1, 6)).squeeze(1),
        ],
    )
    def test_first_layers_of_all_kinds(self, start):
        model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4)).double()
        x = torch.randn(3, 6, dtype=torch.float64).requires_grad_()
        rules = ExplanationRules(target=x)
        with rules:
            outputs = start(model, x.clone())
        expected = torch.autograd.functional.jacobian(lambda x: start(model, x).sum(0), x.detach()).transpose(
            0, 1
        )
        assert relative_error(slow(outputs, x, rules, range(4)), expected) <= 1e-12

    def test_frozen_first_layer(self):
        model = models.create("resnet8", 4, 3, 16)
        model.features.stem.requires_grad_(False)
        x = torch.randn(3, 3, 16, 16)
        expected = selftaught.explain(model, x, "grad").maps
        model.features.stem.requires_grad_(True)
        assert relative_error(selftaught.explain(model, x, "grad").maps, expected) <= 1e-5


class Prototypes(nn.Module):
    """Classes are learned vectors that go through the same layer as the features."""

    def __init__(self):
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(4, 6))
        self.layer, self.projection = nn.Linear(9, 6), nn.Linear(6, 5)

    def forward(self, x):
        return self.projection(self.layer(x).relu()) @ self.projection(self.vectors).t()


class Dynamic(nn.Module):
    """The first convolution's kernel is made of the input; another one's of a learned vector."""

    def __init__(self):
        super().__init__()
        self.make, self.vector = nn.Linear(3, 5 * 3 * 9), nn.Parameter(torch.randn(5))
        self.of_vector = nn.Linear(5, 5 * 5)

    def forward(self, x):
        kernel = self.make(x.mean((0, 2, 3))).view(5, 3, 3, 3)
        return (F.conv2d(x, kernel).relu().mean((2, 3)) @ self.of_vector(self.vector).view(5, 5))[:, :4]


def gradients_of(model, saliency, x):
    """Of the parameters, with the targets that the criterion made."""
    criterion = selftaught.IntrospectiveLoss(model, saliency=saliency)
    labels = torch.arange(len(x)) % 4
    loss = criterion(x, labels)
    found = torch.autograd.grad(loss, tuple(model.parameters()))
    logits = model(x)
    expected = F.cross_entropy(logits, criterion.targets) + criterion.weight * F.cross_entropy(logits, labels)
    return found, torch.autograd.grad(expected, tuple(model.parameters()))


class TestNetworksThatAreNoChains:
    @pytest.mark.parametrize("saliency", ["grad", "grad-input", "guided-backprop"])
    @pytest.mark.parametrize(("network", "shape"), [(Prototypes, (5, 9)), (Dynamic, (5, 3, 6, 6))])
    def test_every_parameter_learns(self, network, shape, saliency):
        for found, expected in zip(
            *gradients_of(network().double(), saliency, torch.randn(shape).double()), strict=True
        ):
            torch.testing.assert_close(found, expected)
            assert expected.abs().max() > 0

    def test_a_kernel_made_of_the_input(self):
        model, x = Dynamic().double(), torch.randn(3, 3, 6, 6).double().requires_grad_()
        logits = model(x)
        expected = [torch.autograd.grad(logits[:, k].sum(), x, retain_graph=True)[0] for k in range(4)]
        found = selftaught.explain(model, x.detach(), "grad").maps
        assert relative_error(found, torch.stack(expected, 1)) <= 1e-12

    @pytest.mark.parametrize("kernel", [2, 3, 4])
    @pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU()])
    def test_padding_by_name(self, kernel, activation):
        layers = [nn.Conv2d(3, 5, kernel, padding="same"), activation, nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        model = nn.Sequential(*layers, nn.Linear(5, 4)).double()
        x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
        expected = torch.autograd.functional.jacobian(lambda x: model(x).sum(0), x).transpose(0, 1)
        assert relative_error(selftaught.explain(model, x, "grad").maps, expected) <= 1e-12

    @pytest.mark.parametrize("train", [False, True])
    def test_instance_norm_mixes_no_samples(self, train):
        layers = [nn.Conv2d(3, 5, 3), nn.InstanceNorm2d(5, affine=True), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(5, 4)).double().train(train)
        x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
        expected = torch.autograd.functional.jacobian(lambda x: model(x).sum(0), x).transpose(0, 1)
        assert relative_error(selftaught.explain(model, x, "grad").maps, expected) <= 1e-12

    def test_a_hook_has_its_say(self):
        first, second = nn.Linear(6, 8).double(), nn.Linear(8, 4).double()

        class Halving(nn.Module):
            def forward(self, x):
                hidden = first(x)
                if hidden.requires_grad:
                    hidden.register_hook(lambda grad: grad / 2)
                return second(hidden.relu())

        x = torch.randn(3, 6, dtype=torch.float64)
        plain = selftaught.explain(nn.Sequential(first, nn.ReLU(), second), x, "grad").maps
        assert relative_error(selftaught.explain(Halving(), x, "grad").maps, plain / 2) <= 1e-12

    @pytest.mark.parametrize("saliency", ["grad", "grad-input", "guided-backprop"])
    def test_more_classes_than_features_under_autocast(self, saliency):
        model, x = models.create("resnet8", 90, 3, 12), torch.randn(3, 3, 12, 12)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            maps = selftaught.explain(model, x, saliency).maps
        assert maps.dtype == torch.float32
        assert relative_error(maps, selftaught.explain(model, x, saliency).maps) < 0.3
