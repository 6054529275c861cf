"""What reviewers and strangers broke once."""

import gc
import random
import threading
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import selftaught
from selftaught import IntrospectiveLoss, models
from selftaught.errors import ExplanationError, InputError
from selftaught.saliency import backward
from tests.oracles.captum_maps import captum_maps, relative_error, with_frozen_statistics

SALIENCIES = ["grad-cam", "grad", "grad-input", "guided-backprop"]


def head(width, classes=4):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


class TestWhereTheChannelsAre:
    class Concatenated(nn.Module):
        """Two branches as wide as the image: 8 and 8 channels on 8×8 positions."""

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
            self.join, self.out = nn.Identity(), nn.Sequential(*head(16))

        def forward(self, x):
            return self.out(self.join(torch.cat([self.a(x), self.b(x)], 1)))

    class Recurrent(nn.Module):
        def __init__(self, kind, **options):
            super().__init__()
            self.r = kind(8, 16, batch_first=True, **options)
            self.fc = nn.Linear(16 * (1 + options.get("bidirectional", False)), 5)

        def forward(self, x):
            return self.fc(self.r(x)[0].mean(1))

    def test_concatenation(self):
        model, x = self.Concatenated().eval(), torch.randn(2, 3, 8, 8)
        found = selftaught.explain(model, x)
        assert found.maps.shape == (2, 4, 8, 8)
        assert relative_error(found.maps, captum_maps(model, x, "grad-cam", found.plan.layer)) <= 1e-5

    def test_pixel_shuffle(self):
        model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(), *head(4)).eval()
        found = selftaught.explain(model, torch.randn(2, 3, 8, 8))
        assert (found.plan.layer, found.maps.shape) == ("2", (2, 4, 16, 16))

    @pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
    @pytest.mark.parametrize("options", [{}, {"bidirectional": True}])
    def test_recurrent_networks_explain_time_steps(self, kind, options):
        model = self.Recurrent(kind, **options)
        assert selftaught.explain(model, torch.randn(6, 7, 8)).maps.shape == (6, 5, 7)

    def test_transformer_encoder(self):
        layer = nn.TransformerEncoderLayer(12, 2, 16, batch_first=True)

        class Tokens(nn.Module):
            def __init__(self):
                super().__init__()
                self.encoder, self.fc = nn.TransformerEncoder(layer, 1), nn.Linear(12, 5)

            def forward(self, x):
                return self.fc(self.encoder(x).mean(1))

        assert selftaught.explain(Tokens().eval(), torch.randn(6, 7, 12)).maps.shape == (6, 5, 7)


class TestNothingIsKept:
    @pytest.mark.parametrize("saliency", SALIENCIES)
    def test_graphs_are_freed_without_the_garbage_collector(self, saliency):
        seen = []

        class Watched(nn.Module):
            def forward(self, x):
                out = x * 1.0
                seen.append(weakref.ref(out))
                return out

        model = nn.Sequential(nn.Conv2d(3, 4, 3), Watched(), nn.BatchNorm2d(4), nn.ReLU(), *head(4))
        criterion = IntrospectiveLoss(model, saliency=saliency)
        criterion(torch.randn(4, 3, 8, 8), torch.arange(4)).backward()
        gc.collect()
        seen.clear()
        gc.disable()
        try:
            for _ in range(3):
                selftaught.explain(model, torch.randn(4, 3, 8, 8), saliency)
                criterion(torch.randn(4, 3, 8, 8), torch.arange(4)).backward()
            assert len(seen) >= 6
            assert [ref for ref in seen if ref() is not None] == []
        finally:
            gc.enable()

    def test_a_closed_form_records_no_graph_for_explain(self):
        model, recorded = models.create("resnet8", 4, 3, 16).eval(), []
        model.features.register_forward_hook(lambda _m, _a, out: recorded.append(out.requires_grad))
        selftaught.explain(model, torch.randn(9, 3, 16, 16))
        assert recorded[-1] is False

    @pytest.mark.parametrize("saliency", SALIENCIES)
    @pytest.mark.parametrize("training", [True, False])
    def test_a_pending_backward_survives_an_explanation(self, saliency, training):
        model, x = models.create("resnet8", 4, 3, 16).train(training), torch.randn(4, 3, 16, 16)
        F.cross_entropy(model(x), torch.arange(4)).backward()
        expected = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        out = model(x)
        selftaught.explain(model, x, saliency)
        F.cross_entropy(out, torch.arange(4)).backward()
        for parameter, grad in zip(model.parameters(), expected, strict=True):
            assert torch.allclose(parameter.grad, grad, atol=1e-6)

    def test_random_states_and_replaced_buffers(self):
        class Noisy(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = models.create("cnn6", 4, 3, 16)
                self.register_buffer("calls", torch.zeros(()))

            def forward(self, x):
                self.calls = self.calls + 1  # replaced, not changed in place
                return self.inner(x) * (1 + 0.1 * random.random() + 0.1 * float(np.random.rand()))

        model = Noisy()
        buffer = model.calls
        states = random.getstate(), np.random.get_state()[1].tolist()
        for saliency in SALIENCIES:
            selftaught.explain(model, torch.randn(2, 3, 16, 16), saliency)
        assert (random.getstate(), np.random.get_state()[1].tolist()) == states
        assert model.calls is buffer
        assert buffer == 0

    def test_threads_do_not_mix(self):
        model = models.create("cnn8", 4, 3, 16).eval()
        batches = [torch.randn(3, 3, 16, 16) for _ in range(3)]
        expected = [selftaught.explain(model, x).maps for x in batches]
        wrong = []

        def work(index):
            for _ in range(8):
                if not torch.allclose(
                    selftaught.explain(model, batches[index]).maps, expected[index], atol=1e-6
                ):
                    wrong.append(index)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


class TestRulesThatCouldBeMissed:
    @pytest.mark.parametrize(
        "rectify",
        [
            lambda t: torch.clip(t, 0),
            lambda t: t.clip(min=0),
            lambda t: F.threshold(t, 0, 0),
            lambda t: t.clamp(min=torch.tensor(0.0)),
            lambda t: t.clamp(0, float("inf")),
            lambda t: t.clamp(min=np.float32(0)),
        ],
    )
    def test_more_ways_to_rectify(self, rectify):
        class Net(nn.Module):
            def __init__(self, function):
                super().__init__()
                self.a, self.b, self.function = nn.Linear(6, 8), nn.Linear(8, 3), function

            def forward(self, x):
                return self.b(self.function(self.a(x)))

        model, x = Net(rectify), torch.randn(5, 6)
        found = selftaught.explain(model, x, "guided-backprop").maps
        model.function = nn.ReLU()
        assert torch.equal(found, selftaught.explain(model, x, "guided-backprop").maps)
        assert relative_error(found, selftaught.explain(model, x, "grad").maps) > 1e-3

    def test_scripted_relu_is_refused(self):
        hidden = torch.jit.script(nn.Sequential(nn.Linear(6, 8), nn.ReLU()))
        model = nn.Sequential(hidden, nn.Linear(8, 3))
        with pytest.raises(ExplanationError, match="ReLU runs inside exported or scripted code"):
            selftaught.explain(model, torch.randn(5, 6), "guided-backprop")

    @pytest.mark.parametrize("saliency", ["grad", "guided-backprop"])
    def test_scripted_batch_norm_is_refused_in_train_mode_only(self, saliency):
        part = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
        model, x = nn.Sequential(part, nn.ReLU(), *head(4)), torch.randn(4, 3, 8, 8)
        with pytest.raises(
            ExplanationError, match="BatchNorm in train mode runs inside exported or scripted code"
        ):
            selftaught.explain(model, x, saliency)
        selftaught.explain(model.eval(), x, saliency)

    def test_torch_batch_norm_called_directly(self):
        class Direct(nn.BatchNorm2d):
            def forward(self, x):
                args = (
                    self.weight,
                    self.bias,
                    self.running_mean,
                    self.running_var,
                    True,
                    0.1,
                    self.eps,
                    False,
                )
                return torch.batch_norm(x, *args)

        def network(norm):
            torch.manual_seed(3)
            return nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.ReLU(), *head(4)).double()

        x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
        expected = captum_maps(with_frozen_statistics(network(nn.BatchNorm2d), x), x, "grad")
        assert relative_error(selftaught.explain(network(Direct), x, "grad").maps, expected) <= 1e-10

    def test_statistics_are_computed_where_the_forward_did_not_keep_them(self, monkeypatch):
        model, x = models.create("resnet8", 4, 3, 16).double(), torch.randn(4, 3, 16, 16, dtype=torch.float64)
        expected = selftaught.explain(model, x, "grad").maps
        calls = []
        original = backward._inverse_deviation
        monkeypatch.setattr(backward, "getattr", lambda *_: None, raising=False)
        monkeypatch.setattr(backward, "_inverse_deviation", lambda *a: (calls.append(1), original(*a))[1])
        monkeypatch.setattr(backward.ExplanationRules, "check_complete", lambda *_: None)
        assert relative_error(selftaught.explain(model, x, "grad").maps, expected) <= 1e-12
        assert calls


class TestOrdinaryUses:
    @pytest.mark.parametrize("saliency", SALIENCIES)
    def test_chunks_are_respected(self, saliency, monkeypatch):
        sizes = []
        original = backward._gradient

        def spy(output, target, cotangent, batched=False):
            sizes.append(len(cotangent) if batched else 1)
            return original(output, target, cotangent, batched)

        monkeypatch.setattr(backward, "_gradient", spy)
        model = nn.Sequential(
            nn.Linear(5, 6), nn.ReLU(), nn.Flatten(), nn.Linear(18, 7), nn.Softmax(1), nn.Linear(7, 7)
        )
        x = torch.randn(2, 3, 5)
        plan = selftaught.explain(model, x).plan if saliency == "grad-cam" else None
        sizes.clear()
        selftaught.explain(model, x, saliency, chunk_size=3, plan=plan)
        assert sizes == [3, 3, 1]

    @pytest.mark.parametrize("saliency", SALIENCIES)
    def test_a_model_that_changes_its_input_in_place(self, saliency):
        class Centred(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = models.create("cnn6", 4, 3, 16)

            def forward(self, x):
                return self.inner(x.sub_(0.5))

        model, x = Centred().eval(), torch.randn(3, 3, 16, 16)
        expected = selftaught.explain(model.inner, x - 0.5, saliency).maps
        found = selftaught.explain(model, x.clone(), saliency).maps
        if saliency == "grad-input":
            expected = selftaught.explain(model.inner, x - 0.5, "grad").maps * x[:, None]
        assert relative_error(found, expected) <= 1e-5

    def test_bfloat16_input_under_autocast(self):
        model, x = models.create("resnet8", 4, 3, 16), torch.randn(4, 3, 16, 16)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for saliency in SALIENCIES:
                assert selftaught.explain(model, x.bfloat16(), saliency).maps.dtype == torch.float32

    def test_dropout_rate_that_changes(self):
        model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), *head(6)[:2], nn.Dropout(0.0), nn.Linear(6, 4))
        criterion = IntrospectiveLoss(model)
        x, y = torch.randn(4, 3, 8, 8), torch.arange(4)
        criterion(x, y)
        assert criterion.explainer.plan.head == "linear"
        model[4].p = 0.5
        criterion(x, y)
        assert criterion.explainer.plan.head == "channel-wise"

    @pytest.mark.parametrize("wrap", [dict, tuple])
    def test_outputs_that_hold_the_logits(self, wrap):
        class Wrapped(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = models.create("cnn6", 4, 3, 16)

            def forward(self, x):
                logits = self.inner(x)
                return {"logits": logits} if wrap is dict else (logits, None)

        model, x = Wrapped().eval(), torch.randn(2, 3, 16, 16)
        assert torch.equal(selftaught.explain(model, x).maps, selftaught.explain(model.inner, x).maps)

    def test_the_loss_in_inference_mode(self):
        model, x = models.create("resnet8", 4, 3, 16).eval(), torch.randn(4, 3, 16, 16)
        for saliency in SALIENCIES:
            criterion = IntrospectiveLoss(model, saliency=saliency)
            expected = criterion(x, torch.arange(4))
            with torch.inference_mode():
                assert torch.allclose(criterion(x + 0, torch.arange(4)), expected)

    def test_the_criterion_is_a_module_without_state(self):
        model = models.create("resnet8", 4, 3, 16)
        criterion = IntrospectiveLoss(model).to("cpu").eval()
        assert isinstance(criterion, nn.Module)
        assert list(criterion.parameters()) == []
        assert criterion.state_dict() == {}
        assert model.training
        assert repr(criterion) == "IntrospectiveLoss(saliency='grad-cam', alpha=0.9, weight=0.1)"


class TestMoreRefusals:
    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.zeros((2, 3, 16, 16)), "x must be a tensor"),
            ((torch.zeros(2), torch.zeros(2)), "wrap a model of several inputs"),
            (torch.zeros(0, 3, 16, 16), "at least one sample"),
            (torch.zeros(5), "must be a batch"),
        ],
    )
    def test_input(self, x, message):
        with pytest.raises(InputError, match=message):
            selftaught.explain(models.create("resnet8", 4, 3, 16), x)

    def test_model(self):
        with pytest.raises(InputError, match=r"model must be a torch\.nn\.Module, not function"):
            selftaught.explain(lambda x: x, torch.zeros(2, 3))

    def test_plan_of_another_model(self):
        x = torch.randn(2, 3, 16, 16)
        plan = selftaught.explain(models.create("resnet8", 4, 3, 16), x).plan
        with pytest.raises(InputError, match="stored plan names 'features', which this model does not have"):
            selftaught.explain(nn.Sequential(nn.Conv2d(3, 4, 3), *head(4)), x, plan=plan)

    def test_lazy_layers(self):
        model = nn.Sequential(nn.LazyConv2d(4, 3), *head(4))
        with pytest.raises(InputError, match="run one batch through it first"):
            selftaught.explain(model, torch.randn(2, 3, 8, 8))

    def test_backbone_under_no_grad(self):
        class Frozen(nn.Module):
            def __init__(self):
                super().__init__()
                self.backbone, self.out = nn.Conv2d(3, 4, 3), nn.Sequential(nn.Tanh(), *head(4))

            def forward(self, x):
                with torch.no_grad():
                    maps = self.backbone(x)
                return self.out(maps)

        with pytest.raises(ExplanationError, match=r"runs under torch\.no_grad\(\)"):
            selftaught.explain(Frozen(), torch.randn(2, 3, 8, 8), layer="backbone")

    def test_synchronised_batch_norm_behind_a_given_layer(self):
        model = nn.SyncBatchNorm.convert_sync_batchnorm(models.create("resnet8", 4, 3, 16))
        with pytest.raises(ExplanationError, match="SyncBatchNorm"):
            selftaught.explain(model.eval().train(), torch.randn(2, 3, 16, 16), layer="features.stage1")
