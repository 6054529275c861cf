"""What `explain` promises beside the numbers: nothing of the model changes, refusals help."""

import copy
import json
import random
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import selftaught
from selftaught import models
from selftaught.errors import ExplanationError, InputError
from selftaught.saliency.plan import Plan
from tests.oracles.captum_maps import captum_maps, relative_error

SALIENCIES = ["grad-cam", "grad", "grad-input", "guided-backprop"]


def with_dropout() -> nn.Module:
    return models.create("resnet8", 4, 3, 16, dropout=0.3)


def snapshot(model: nn.Module) -> dict:
    """Everything of a model and of the random states that an explanation could touch."""
    return {
        "parameters": {name: p.detach().clone() for name, p in model.named_parameters()},
        "grads": {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        "buffers": {name: b.clone() for name, b in model.named_buffers()},
        "identities": [id(t) for t in (*model.parameters(), *model.buffers())],
        "modes": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in model.modules()
        ],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
        "grad_enabled": torch.is_grad_enabled(),
    }


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


@pytest.mark.parametrize("saliency", SALIENCIES)
@pytest.mark.parametrize("training", [True, False])
def test_nothing_of_the_model_changes(saliency, training):
    model = with_dropout().train(training)
    model.features.stage1.eval()  # a mixture of modes must survive too
    F.cross_entropy(model(torch.randn(4, 3, 16, 16)), torch.arange(4)).backward()
    next(model.parameters()).requires_grad_(False)
    x = torch.randn(4, 3, 16, 16)
    before, kept = snapshot(model), x.clone()
    selftaught.explain(model, x, saliency)
    assert same(snapshot(model), before)
    assert torch.equal(x, kept)
    assert not x.requires_grad


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_nothing_changes_when_the_model_raises(saliency):
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.calls = with_dropout(), 0

        def forward(self, x):
            out = self.inner(x)
            if x.shape[0] == 5:  # the probe sees it too: both paths must clean up
                raise RuntimeError("in the middle")
            return out

    model, x = Failing(), torch.randn(5, 3, 16, 16)
    plan = selftaught.explain(model.inner, torch.randn(2, 3, 16, 16)).plan
    stored = Plan(
        **{**asdict(plan), "layer": f"inner.{plan.layer}", "classifier": f"inner.{plan.classifier}"}
    )
    before = snapshot(model)
    # Without a plan Grad-CAM's probe fails, with one the forward pass itself.
    for options in [{}, {"plan": stored}] if saliency == "grad-cam" else [{}]:
        with pytest.raises(RuntimeError, match="in the middle"):
            selftaught.explain(model, x, saliency, **options)
        assert same(snapshot(model), before)


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_under_no_grad_and_inference_mode(saliency):
    model, x = models.create("cnn6", 4, 3, 16).eval(), torch.randn(3, 3, 16, 16)
    expected = selftaught.explain(model, x, saliency)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            found = selftaught.explain(model, x + 0, saliency)
        assert torch.equal(found.maps, expected.maps)
        assert not found.maps.requires_grad
        assert not found.logits.requires_grad


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_frozen_parameters(saliency):
    model, x = models.create("resnet8", 4, 3, 16).eval(), torch.randn(3, 3, 16, 16)
    expected = selftaught.explain(model, x, saliency).maps
    model.requires_grad_(False)
    assert torch.equal(selftaught.explain(model, x, saliency).maps, expected)


@pytest.mark.parametrize("saliency", SALIENCIES)
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 100])
def test_chunks_and_classes(saliency, chunk_size):
    model, x = models.create("cnn8", 6, 1, 16).double().eval(), torch.randn(3, 1, 16, 16, dtype=torch.float64)
    layer = "features.stage3" if saliency == "grad-cam" else None
    every = selftaught.explain(model, x, saliency, layer=layer).maps
    assert torch.allclose(
        selftaught.explain(model, x, saliency, layer=layer, chunk_size=chunk_size).maps, every
    )
    some = selftaught.explain(model, x, saliency, layer=layer, classes=[4, 1], chunk_size=chunk_size).maps
    assert torch.allclose(some, every[:, [4, 1]])


@settings(max_examples=20)
@given(
    batch=st.integers(1, 4),
    num_classes=st.integers(2, 9),
    shape=st.lists(st.integers(2, 5), min_size=0, max_size=3),
    features=st.integers(1, 5),
)
def test_inputs_of_any_shape(batch, num_classes, shape, features):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(features, 6), nn.Tanh(), nn.Flatten(), nn.LazyLinear(num_classes)
    ).double()
    x = torch.randn(batch, *shape, features, dtype=torch.float64)
    model(x)
    found = selftaught.explain(model, x, "grad")
    assert found.maps.shape == (batch, num_classes, *shape, features)
    assert relative_error(found.maps, captum_maps(model, x, "grad")) <= 1e-10
    if shape:
        found = selftaught.explain(model, x, "grad-cam")
        assert found.maps.shape == (batch, num_classes, *shape)


def test_one_dimensional_convolutions():
    model = nn.Sequential(
        nn.Conv1d(2, 6, 3),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    ).eval()
    x = torch.randn(4, 2, 20)
    found = selftaught.explain(model, x)
    assert (found.plan.layer, found.plan.channel_dim, found.maps.shape) == ("2", 1, (4, 3, 18))
    assert relative_error(found.maps, captum_maps(model, x, "grad-cam", "2")) <= 1e-5


def test_thousand_classes():
    model, x = models.create("resnet8", 1000, 3, 16).eval(), torch.randn(2, 3, 16, 16)
    found = selftaught.explain(model, x)
    assert found.maps.shape == (2, 1000, 4, 4)
    some = list(range(0, 1000, 37))
    expected = captum_maps(model, x, "grad-cam", found.plan.layer, classes=some)
    assert relative_error(found.maps[:, some], expected) <= 1e-5


class Relus(nn.Module):
    """A network whose rectifiers are written in every way there is."""

    def __init__(self, kind):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.kind, self.relu, self.again = kind, nn.ReLU(inplace=kind == "in-place"), nn.ReLU()

    def forward(self, x):
        rectify = {
            "modules": self.relu,
            "reused": self.again,
            "in-place": self.relu,
            "F.relu": F.relu,
            "F.relu in place": lambda t: F.relu(t, inplace=True),
            "torch.relu": torch.relu,
            "torch.relu_": torch.relu_,
            "method": lambda t: t.relu(),
            "method in place": lambda t: t.relu_(),
            "clamp": lambda t: t.clamp(min=0),
            "torch.clamp": lambda t: torch.clamp(t, 0),
            "clamp_min_": lambda t: t.clamp_min_(0.0),
        }[self.kind]
        hidden = rectify(self.a(x))
        pre = self.b(hidden)
        # The rectifier's input feeds another branch, whose gradient guided backpropagation must leave alone.
        branch = pre * 0.3
        return self.c(rectify(pre + 0) + branch)


def by_hand(model: Relus, x):
    """Guided backpropagation written out for `Relus`."""
    pre1 = model.a(x)
    pre2 = model.b(pre1.clamp(min=0))
    maps = []
    for k in range(3):
        out = model.c.weight[k].expand(len(x), -1)
        through = out.clamp(min=0) * (pre2 > 0) + 0.3 * out
        hidden = (through @ model.b.weight).clamp(min=0) * (pre1 > 0)
        maps.append(hidden @ model.a.weight)
    return torch.stack(maps, 1).detach()


@pytest.mark.parametrize(
    "kind",
    ["modules", "reused", "in-place", "F.relu", "F.relu in place", "torch.relu", "torch.relu_", "method",
     "method in place", "clamp", "torch.clamp", "clamp_min_"],
)  # fmt: skip
def test_guided_backprop_sees_every_relu(kind):
    model, x = Relus(kind).double(), torch.randn(5, 6, dtype=torch.float64)
    found = selftaught.explain(model, x, "guided-backprop").maps
    assert relative_error(found, by_hand(model, x)) <= 1e-12
    assert relative_error(found, selftaught.explain(model, x, "grad").maps) > 1e-3


def test_guided_backprop_says_when_there_is_nothing_to_guide():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    with pytest.warns(UserWarning, match="no ReLU"):
        selftaught.explain(model, torch.randn(2, 4), "guided-backprop")


class TestShortcuts:
    """A shortcut is taken where it is exact, and only there."""

    @pytest.mark.parametrize(
        ("head", "expected"),
        [
            ([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)], "linear"),
            ([nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 4)], "channel-wise"),
            ([nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)], "linear"),
            ([nn.Flatten(), nn.Linear(6 * 36, 4)], "linear"),
            ([nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)], "channel-wise"),
            ([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(6, 4)], "channel-wise"),
            ([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(6), nn.Linear(6, 4)], "mlp"),
            ([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)], "mlp"),
            ([nn.Conv2d(6, 3, 1), nn.Tanh(), nn.Flatten(), nn.Linear(108, 4)], "general"),
            ([nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()], "general"),
        ],
    )
    def test_kind_of_head(self, head, expected):
        model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Tanh(), *head).double().train()
        x = torch.randn(4, 2, 8, 8, dtype=torch.float64)
        found = selftaught.explain(model, x, layer="1")
        assert found.plan.head == expected
        general = Plan(**{**asdict(found.plan), "head": "general"})
        assert relative_error(found.maps, selftaught.explain(model, x, plan=general).maps) <= 1e-10

    def test_identity_at_initialisation_is_not_trusted(self):
        """An eval-mode BatchNorm is the identity only until it is trained."""
        model = nn.Sequential(
            nn.Conv2d(2, 6, 3),
            nn.BatchNorm2d(6, eps=0),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 4),
        ).eval()
        assert selftaught.explain(model, torch.randn(4, 2, 8, 8), layer="0").plan.head == "channel-wise"

    def test_zero_classifier_is_not_trusted_and_refused(self):
        model = models.create("cnn8", 4, 3, 16).eval()
        torch.nn.init.zeros_(model.head.classifier.weight)
        with pytest.raises(ExplanationError, match="every grad-cam map is zero"):
            selftaught.explain(model, torch.randn(4, 3, 16, 16))

    def test_plan_is_deterministic_and_can_be_stored(self):
        model, x = models.create("resnet8", 4, 3, 16), torch.randn(4, 3, 16, 16)
        first = selftaught.explain(model, x)
        stored = Plan(**json.loads(json.dumps(asdict(first.plan))))
        assert (
            stored == first.plan == selftaught.explain(copy.deepcopy(model), torch.randn(2, 3, 16, 16)).plan
        )
        assert torch.equal(selftaught.explain(model, x, plan=stored).maps, first.maps)

    def test_in_place_work_after_the_layer(self):
        model = nn.Sequential(
            nn.Conv2d(2, 6, 3),
            nn.Tanh(),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 4),
        ).eval()
        x = torch.randn(4, 2, 8, 8)
        reference = copy.deepcopy(model)
        reference[2].inplace = False
        found = selftaught.explain(model, x, layer="1").maps
        assert relative_error(found, captum_maps(reference, x, "grad-cam", "1")) <= 1e-5


class TestRefusals:
    def test_mlp_has_no_layer_for_grad_cam(self):
        with pytest.raises(ExplanationError, match="use saliency='grad'"):
            selftaught.explain(models.create("mlp", 10, 1, 28), torch.randn(2, 1, 28, 28))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"saliency": "gradcam"}, "unknown saliency 'gradcam': did you mean 'grad-cam'"),
            ({"layer": "features.stage9"}, "'features.stage9' is not in the model"),
            ({"layer": nn.Linear(2, 2)}, "Linear is not in the model"),
            ({"saliency": "grad", "relu": True}, "relu= belongs to saliency='grad-cam'"),
            ({"saliency": "grad", "layer": "features"}, "layer= belongs to saliency='grad-cam'"),
            ({"classes": [0, 4]}, "class 4 is out of range"),
            ({"classes": []}, "classes= is empty"),
            ({"classes": [0.5]}, r"must be a sequence of integers or None for all, not \[0.5\]"),
            ({"classes": 2}, "must be a sequence of integers or None for all, not 2"),
            ({"chunk_size": 0}, "chunk_size must be at least 1"),
        ],
    )
    def test_wrong_options(self, options, message):
        with pytest.raises(InputError, match=message):
            selftaught.explain(models.create("resnet8", 4, 3, 16), torch.randn(2, 3, 16, 16), **options)

    def test_replicas_on_several_devices(self):
        model = nn.DataParallel(models.create("resnet8", 4, 3, 16))
        x = torch.randn(2, 3, 16, 16)
        assert selftaught.explain(model, x).maps.shape[:2] == (2, 4)
        model.device_ids = [0, 1]  # there is no machine with two in the tests
        with pytest.raises(ExplanationError, match="use DistributedDataParallel"):
            selftaught.explain(model, x)

    def test_layer_without_extent(self):
        with pytest.raises(
            ExplanationError,
            match=r"'head.flatten' cannot be explained: its outputs are of shape .* without spatial extent",
        ):
            selftaught.explain(
                models.create("resnet8", 4, 3, 16), torch.randn(2, 3, 16, 16), layer="head.flatten"
            )

    @pytest.mark.parametrize(
        "wrong", [{"head": "x"}, {"channel_dim": 3}, {"run": 1}, {"layer": "head.classifier"}, {"runs": 2}]
    )
    def test_stored_plan_that_is_none(self, wrong):
        model, x = models.create("resnet8", 4, 3, 16), torch.randn(2, 3, 16, 16)
        stored = asdict(selftaught.explain(model, x).plan)
        with pytest.raises(InputError, match="plan"):
            selftaught.explain(model, x, plan=Plan(**{**stored, **wrong}))

    def test_layer_that_does_not_run(self):
        model = models.create("resnet8", 4, 3, 16)
        model.unused = nn.Conv2d(3, 3, 1)
        with pytest.raises(ExplanationError, match="'unused' does not run"):
            selftaught.explain(model, torch.randn(2, 3, 16, 16), layer="unused")

    def test_class_token_output(self):
        """The trap of field-notes.md: patch tokens at a ViT's last output have exactly zero gradient."""

        class FirstToken(nn.Module):
            def forward(self, x):
                return x[:, 0]

        model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), FirstToken(), nn.Linear(6, 3))
        with pytest.raises(ExplanationError, match="no layer with spatial extent"):
            selftaught.explain(model, torch.randn(2, 7, 5))

    def test_not_finite(self):
        model = models.create("resnet8", 4, 3, 16).eval()
        with torch.no_grad():
            model.head.classifier.weight[0, 0] = float("nan")
        for saliency in SALIENCIES:
            with pytest.raises(ExplanationError, match="not finite"):
                selftaught.explain(model, torch.randn(2, 3, 16, 16), saliency)

    def test_output_that_is_not_logits(self):
        with pytest.raises(InputError, match=r"logits of shape \(B, C\), not shape \(2, 3, 8, 8\)"):
            selftaught.explain(nn.Conv2d(3, 3, 1), torch.randn(2, 3, 8, 8))

    def test_integer_input(self):
        model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3))
        tokens = torch.randint(9, (2, 5))
        with pytest.raises(InputError, match="convert it to float"):
            selftaught.explain(model, tokens, "grad")
        assert selftaught.explain(model, tokens).maps.shape == (2, 3, 5)

    def test_unit_batch(self):
        model, x = models.create("resnet8", 4, 3, 16).eval(), torch.randn(3, 3, 16, 16)
        every = selftaught.explain(model, x).maps
        assert torch.allclose(selftaught.explain(model, x[:1]).maps, every[:1], atol=1e-6)
