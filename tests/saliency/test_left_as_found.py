"""What an explanation leaves behind: nothing, whatever the model keeps of its forward passes."""

import gc
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import selftaught
from selftaught import IntrospectiveLoss, models
from selftaught.errors import DegenerateMapsError, InputError
from selftaught.saliency import Explainer

SALIENCIES = ["grad-cam", "grad", "grad-input", "guided-backprop"]


class Keeping(nn.Module):
    """Keeps in eval mode what it made of its weights, as LeViT does, and notes each pass in whatever it has."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.classifier = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)
        self.relu = nn.ReLU()
        self.merged: torch.Tensor | None = None
        self.cache: dict[str, torch.Tensor] = {}
        self.log: list[int] = []
        self.seen: set[int] = set()
        self.passes = 0
        self.register_buffer("last", None)

    def forward(self, x):
        self.passes += 1
        self.log.append(self.passes)
        self.seen.add(self.passes)
        if self.training:
            self.merged = None
            self.cache.clear()
        elif self.merged is None:
            self.merged = 2 * self.classifier.weight
            self.cache["bias"] = self.classifier.bias + 1
        weight = 2 * self.classifier.weight if self.training else self.merged
        bias = self.classifier.bias + 1 if self.training else self.cache["bias"]
        features = self.relu(self.convolution(x))
        self.last = features.detach()
        return features.mean((2, 3)) @ weight.t() + bias


@pytest.mark.parametrize("saliency", SALIENCIES)
@pytest.mark.parametrize("training", [True, False])
def test_what_a_model_keeps_of_a_pass_is_as_it_was(saliency, training):
    model, x = Keeping().train(training), torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        fresh = 2 * model.relu(model.convolution(x)).mean((2, 3)) @ model.classifier.weight.t()
        expected = fresh + model.classifier.bias + 1
    explanation = selftaught.explain(model, x, saliency)
    torch.testing.assert_close(explanation.logits, expected)
    assert (model.merged, model.cache, model.log, model.seen, model.passes) == (None, {}, [], set(), 0)
    assert model.last is None
    torch.testing.assert_close(model(x), expected)


def test_the_loss_is_of_the_models_own_weights_in_eval_mode_too():
    model, x, y = Keeping().eval(), torch.randn(2, 1, 8, 8), torch.tensor([0, 2])
    criterion = IntrospectiveLoss(model)
    criterion(x, y).backward()
    torch.testing.assert_close(criterion.logits, model(x).detach())
    assert model.passes == 2  # the probe's do not count


class InPlace(nn.Module):
    """Normalises its input where it lies, as some published networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.classifier = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x.sub_(0.5).div_(0.25)
        return self.classifier(self.convolution(x).relu_().mean((2, 3)))


@pytest.mark.parametrize("saliency", SALIENCIES)
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("classes", [None, [0, 2]])
def test_a_model_that_works_in_place_leaves_the_batch_alone(saliency, inference, classes):
    model, x = InPlace(), torch.randn(3, 1, 8, 8)
    before, version = x.clone(), x._version
    with torch.inference_mode(inference):
        first = selftaught.explain(model, x, saliency, classes=classes)
        again = selftaught.explain(model, x, saliency, classes=classes)
    assert torch.equal(x, before)
    assert x._version == version
    assert torch.equal(first.maps, again.maps)
    assert torch.equal(first.logits, again.logits)
    with torch.no_grad():
        torch.testing.assert_close(first.logits, model(x.clone()))


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_a_batch_with_a_graph_of_its_own_keeps_it(saliency):
    """Made by a layer before the model: nothing of the explanation is found in its gradients."""
    model, before = InPlace(), nn.Linear(8, 8)
    x = before(torch.randn(3, 1, 8, 8))
    kept = x.detach().clone()
    selftaught.explain(model, x, saliency)
    assert torch.equal(x, kept)
    assert x.requires_grad
    x.sum().backward()
    torch.testing.assert_close(before.bias.grad, torch.full((8,), 24.0))
    assert model.classifier.weight.grad is None


@pytest.mark.parametrize("needed", [False, True])
def test_a_model_that_asks_for_gradients_of_its_input_does_not_mark_the_callers(needed):
    class Slope(InPlace):
        def forward(self, x):
            with torch.enable_grad():
                x.requires_grad_()
                (slope,) = torch.autograd.grad(x.square().sum(), x, create_graph=True)
            return super().forward(slope)

    x = torch.randn(3, 1, 8, 8, requires_grad=needed)
    explanation = selftaught.explain(Slope(), x)
    assert explanation.maps.shape == (3, 3, 6, 6)
    assert x.requires_grad is needed
    assert x.grad is None


def test_a_hook_that_was_there_can_still_be_removed():
    model, calls = Keeping(), []
    handle = model.convolution.register_forward_hook(lambda *_: calls.append(1))
    selftaught.explain(model, torch.randn(2, 1, 8, 8))
    handle.remove()
    calls.clear()
    model(torch.randn(2, 1, 8, 8))
    assert calls == []


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_lazy_layers_are_refused_before_anything_happens(saliency):
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(InputError, match="run one batch through it first"):
        selftaught.explain(model, torch.randn(2, 1, 8, 8), saliency)
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 3)


def test_maps_without_anything_positive_are_maps():
    model, x = models.create("resnet8", 10, 3, 16).eval(), torch.randn(8, 3, 16, 16)
    weight = model.head.classifier.weight
    with torch.no_grad():
        weight[4] = -weight[4].abs()  # behind a ReLU: all negative
    found = selftaught.explain(model, x[:1], relu=True, classes=[4])
    assert found.maps.count_nonzero() == 0
    assert Explainer(relu=True)(model, x[:1], [4]).maps.count_nonzero() == 0
    nn.init.zeros_(weight)
    with pytest.raises(DegenerateMapsError):
        selftaught.explain(model, x, relu=True)


class OneAtATime(torch.autograd.Function):
    """tanh, with a backward outside of torch that takes no batch of gradients."""

    @staticmethod
    def forward(ctx, x):
        y = torch.from_numpy(np.tanh(x.detach().numpy()))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return torch.from_numpy(gradient.detach().numpy() * (1 - y.numpy() ** 2))


class External(nn.Module):
    def forward(self, x):
        return OneAtATime.apply(x)


@pytest.mark.parametrize("saliency", ["grad", "grad-cam"])
def test_a_backward_that_takes_one_class_at_a_time(saliency):
    features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model = nn.Sequential(features, nn.Linear(16, 8), External(), nn.Linear(8, 3))
    x = torch.randn(2, 1, 8, 8)
    layer = {"layer": "0.1"} if saliency == "grad-cam" else {}
    found = selftaught.explain(model, x, saliency, **layer)
    single = selftaught.explain(model, x, saliency, chunk_size=1, **layer)
    torch.testing.assert_close(found.maps, single.maps)
    model[2] = nn.Tanh()
    torch.testing.assert_close(found.maps, selftaught.explain(model, x, saliency, **layer).maps)


@pytest.mark.parametrize("p", [[1, 2], {"a": 1}, "mean", torch.ones(2)])
def test_an_attribute_called_p_may_be_anything(p):
    model = models.create("resnet8", 3, 1, 16)
    model.p = p
    assert selftaught.explain(model, torch.randn(2, 1, 16, 16)).maps.shape[:2] == (2, 3)


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_a_criterion_can_be_pickled_before_and_after_its_first_batch(saliency):
    x, y = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 2, 0])
    criterion = IntrospectiveLoss(models.create("resnet8", 3, 1, 16).eval(), saliency=saliency)
    before = pickle.loads(pickle.dumps(criterion))
    expected = criterion(x, y)
    for copy in (before, pickle.loads(pickle.dumps(criterion))):
        torch.testing.assert_close(copy(x, y), expected)
        torch.testing.assert_close(copy.targets, criterion.targets)


def test_a_compiled_model_is_forgotten_with_its_wrapper():
    explainer, kept = Explainer(), []
    for _ in range(2):
        compiled = torch.compile(models.create("resnet8", 3, 1, 16), backend="eager")
        explainer(compiled, torch.randn(2, 1, 16, 16))
        kept.append(len(explainer._method._compiled))
        del compiled
        gc.collect()
    assert kept == [1, 1]
    assert len(explainer._method._compiled) == 0
