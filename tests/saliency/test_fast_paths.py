"""What makes Grad-CAM cheap, each against the slow way to the same numbers."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

import selftaught
from selftaught import models, similarity
from selftaught.errors import DegenerateMapsError, InputError
from selftaught.saliency import Explainer, gradients, maps, plan
from selftaught.saliency.jacobian import Unsupported
from selftaught.saliency.preserve import parts
from selftaught.saliency.watch import Watch, peak
from tests.oracles.captum_maps import captum_maps, relative_error


def small(classes: int = 5) -> nn.Module:
    torch.manual_seed(1)
    return models.create("resnet8", classes, 3, 16)


@pytest.mark.parametrize("measure", list(similarity.SIMILARITIES))
@pytest.mark.parametrize("saliency", ["grad-cam", "grad"])
@pytest.mark.parametrize("samples", [1, 3, 100])
def test_compare_equals_all_maps_at_once(measure, saliency, samples, monkeypatch):
    model, x, labels = small(), torch.randn(7, 3, 16, 16), torch.randint(5, (7,))
    explainer = Explainer(saliency)
    explanation = explainer(model, x)
    monkeypatch.setitem(maps._PART_BYTES, "cpu", samples * explanation.maps[0].nbytes)
    seen = []

    def watched(some, own):
        seen.append(len(some))
        return similarity.get(measure)(some, own)

    logits, found = explainer.compare(model, x, labels, watched)
    assert seen == {1: [1] * 7, 3: [3, 3, 1], 100: [7]}[samples]
    assert logits.requires_grad
    assert not found.requires_grad
    torch.testing.assert_close(logits, explanation.logits)
    expected = similarity.get(measure)(explanation.maps, labels)
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=0)


def test_compare_with_weights_of_each_sample_and_relu(monkeypatch):
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 7), nn.Softmax(1), nn.Linear(7, 4)
    )
    x, labels = torch.randn(5, 3, 8, 8), torch.arange(5) % 4
    explainer = Explainer(relu=True)
    expected = similarity.cosine(explainer(model, x).maps, labels)
    assert explainer.plan.head == "general"
    monkeypatch.setitem(maps._PART_BYTES, "cpu", 1)
    torch.testing.assert_close(explainer.compare(model, x, labels, similarity.cosine)[1], expected)


def test_compare_refuses_labels_that_a_part_would_not_miss():
    with pytest.raises(InputError, match=r"labels must be int64 class indices of shape \(4,\)"):
        Explainer().compare(small(), torch.randn(4, 3, 16, 16), torch.zeros(5).long(), similarity.cosine)


@pytest.mark.parametrize(
    ("value", "message"), [(0.0, "every grad-cam map is zero"), (float("nan"), "not finite")]
)
@pytest.mark.parametrize("samples", [1, 100])
def test_compare_sees_degenerate_maps(value, message, samples, monkeypatch):
    model, x = small().eval(), torch.randn(4, 3, 16, 16)
    explainer = Explainer()
    explainer(model, x)
    monkeypatch.setitem(maps._PART_BYTES, "cpu", samples * 5 * 16 * 4)
    with torch.no_grad():
        model.head.classifier.weight.mul_(0).add_(value)
    with pytest.raises(DegenerateMapsError, match=message):
        explainer.compare(model, x, torch.arange(4), similarity.cosine)


def test_zero_maps_of_some_samples_are_not_degenerate():
    explainer = Explainer()
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    x = torch.randn(2, 1, 8, 8)
    x[1] = 0
    found = explainer.compare(model, x, torch.tensor([0, 1]), similarity.cosine)[1]
    assert found[1].tolist() == [0, 0, 0]
    assert found[0, 0] == pytest.approx(1)


@pytest.mark.parametrize(
    "values", [[1.0, -3.0, 2.0], [0.0, 0.0, 0.0], [1.0, float("nan"), 0.0], [1.0, -float("inf"), 0.0]]
)
def test_peak_is_the_largest_magnitude(values):
    found = torch.tensor(values).view(1, 3, 1)
    torch.testing.assert_close(peak(found), found.abs().max(), equal_nan=True)


class NoLists(TorchFunctionMode):
    """Refuses tensors to be indexed by lists, which a GPU waits for and a CUDA graph cannot record."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            assert not any(isinstance(part, list | range) for part in index), index
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("vectorized", [True, False])
@pytest.mark.parametrize("saliency", ["grad-cam", "grad", "grad-input", "guided-backprop"])
@pytest.mark.parametrize("classes", [5, 70])
def test_steps_index_by_nothing_that_a_gpu_would_wait_for(saliency, classes, vectorized, monkeypatch):
    """With more classes than features too, of which there are 64."""
    for module in (gradients, plan):
        monkeypatch.setattr(module, "pays_to_vectorize", lambda x, modules: vectorized)
    monkeypatch.setattr(gradients, "Jacobian", no_jacobian)  # as on a GPU
    model, x, labels = small(classes), torch.randn(4, 3, 16, 16), torch.randint(classes, (4,))
    explainer = Explainer(saliency)
    explainer.compare(model, x, labels, similarity.cosine)  # makes the plan, which may look at what it likes
    with NoLists():
        explainer.compare(model, x, labels, similarity.cosine)


def no_jacobian(*_):
    raise Unsupported


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the verdict waits on CUDA only")
def test_on_cuda_the_verdict_comes_one_batch_later():
    watch = Watch("grad-cam")
    watch.look(torch.zeros((), device="cuda"))
    again = copy.deepcopy(watch)
    with pytest.raises(DegenerateMapsError):
        watch.look(torch.ones((), device="cuda"))
    watch.settle()
    again.settle()


def test_parts_are_the_modules_also_where_they_are_shared_or_missing():
    model = nn.Sequential(small(), nn.Identity(), nn.ReLU())
    model[1].register_module("missing", None)
    model.append(model[2])
    model[0].itself = nn.ModuleDict({"again": model[0].features})
    assert {id(part) for part in parts(model)} == {id(part) for part in model.modules()}
    assert len(parts(model)) == len(list(model.modules()))


class TestByFeature:
    """Fewer features than classes: the chain rule through the classifier, against one product for each class."""

    @staticmethod
    def network(classes: int = 12) -> nn.Module:
        torch.manual_seed(2)
        head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5), nn.Softmax(1), nn.Linear(5, classes)]
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), *head)

    @pytest.mark.parametrize("training", [True, False])
    def test_equals_the_general_form_and_captum(self, training):
        model, x = self.network().train(training), torch.randn(4, 3, 8, 8)
        found = selftaught.explain(model, x)
        assert found.plan.head == "by-feature"
        general = selftaught.explain(model, x, plan=replace(found.plan, head="general"))
        assert relative_error(found.maps, general.maps) <= 1e-5
        if not training:
            assert relative_error(found.maps, captum_maps(model, x, "grad-cam", found.plan.layer)) <= 1e-5

    def test_needs_fewer_products(self, monkeypatch):
        model, x, columns = self.network(), torch.randn(4, 3, 8, 8), []
        every = selftaught.explain(model, x)
        from selftaught.saliency import heads

        original = heads.mean_gradients
        monkeypatch.setattr(
            heads, "mean_gradients", lambda h, o, c: (columns.append(len(c)), original(h, o, c))[1]
        )
        selftaught.explain(model, x, plan=every.plan)
        few = selftaught.explain(model, x, plan=every.plan, classes=[3, 0])
        assert columns == [5, 2]
        assert relative_error(few.maps, every.maps[:, [3, 0]]) <= 1e-5

    def test_is_not_taken_where_it_does_not_pay_or_is_not_all(self):
        class Scaled(nn.Module):
            """The logits are the classifier's, but it is not fed by the layer alone: still the chain rule."""

            def __init__(self, features):
                super().__init__()
                self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(features, 12)
                self.features = features

            def forward(self, x):
                a = self.conv(x).tanh()
                some = a.flatten(1)[:, :: a[0].numel() // self.features][:, : self.features]
                return self.fc(torch.tanh(some * x.mean((1, 2, 3))[:, None]))

        x = torch.randn(4, 3, 8, 8)
        for features, head in [(5, "by-feature"), (12, "general"), (20, "general")]:
            model = Scaled(features).eval()
            found = selftaught.explain(model, x, layer="conv")
            assert found.plan.head == head
            assert relative_error(found.maps, captum_maps(model, x, "grad-cam", "conv")) <= 1e-5

    def test_not_where_the_logits_do_not_come_from_the_features_alone(self):
        class Recalibrated(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 12)

            def forward(self, x):
                a = self.conv(x).tanh()
                return self.fc(a.square().mean((2, 3))) * a.mean((1, 2, 3))[:, None]

        model, x = Recalibrated().eval(), torch.randn(4, 3, 8, 8)
        found = selftaught.explain(model, x)
        assert (found.plan.classifier, found.plan.head) == (None, "general")
        assert relative_error(found.maps, captum_maps(model, x, "grad-cam", "conv")) <= 1e-5

    def test_in_a_step_of_training(self):
        model, x, y = self.network(), torch.randn(4, 3, 8, 8), torch.arange(4)
        other = copy.deepcopy(model)
        criterion = selftaught.IntrospectiveLoss(model)
        criterion(x, y).backward()
        logits = other(x)
        expected = F.cross_entropy(logits, criterion.targets) + 0.1 * F.cross_entropy(logits, y)
        expected.backward()
        for own, reference in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(own.grad, reference.grad, atol=1e-6, rtol=1e-4)
