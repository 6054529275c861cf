"""Which output is explained: the last one that everything goes through, with several channels and positions."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import selftaught
from selftaught.errors import ExplanationError
from selftaught.saliency.plan import Plan


def convolution(inputs: int, outputs: int, **options) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, **options), nn.ReLU())


class Net(nn.Module):
    """Two blocks, `join` for what follows, and a classifier of `width` features."""

    def __init__(self, join, width: int = 8, classes: int = 5, **parts: nn.Module) -> None:
        super().__init__()
        self.first, self.block = convolution(3, 6), convolution(6, 8)
        for name, part in parts.items():
            self.add_module(name, part)
        self.classifier = nn.Linear(width, classes)
        self.join = join

    def forward(self, x):
        return self.classifier(self.join(self, self.block(self.first(x))))


def attention(net, f):
    tokens = f.flatten(2).transpose(1, 2)
    return (net.softmax(net.score(tokens)) * tokens).sum(1)


def pooled_token(net, f):
    return net.pool(f)[:, 0]


class Pool(nn.Module):
    """(B, 1, D): one token."""

    def forward(self, f):
        return f.mean((2, 3))[:, None]


BEFORE = {
    "attention weights": (attention, {"score": nn.Linear(8, 1), "softmax": nn.Softmax(1)}),
    "several attention weights": (
        lambda net, f: (
            (net.score(f).flatten(2).softmax(2)[:, :, None] * f.flatten(2)[:, None]).sum(3).mean(1)
        ),
        {"score": nn.Conv2d(8, 3, 1)},
    ),
    "a sigmoid gate": (
        lambda net, f: (f * net.gate(f)).mean((2, 3)),
        {"gate": nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sigmoid())},
    ),
    "a squeezed gate": (
        lambda net, f: (f * net.gate(f)).mean((2, 3)),
        {"gate": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())},
    ),
    "a token that was pooled": (pooled_token, {"pool": Pool()}),
    "one of two branches": (
        lambda net, f: torch.cat([net.left(f).mean((2, 3)), net.right(f).mean((2, 3))], 1),
        {"left": convolution(8, 4), "right": convolution(8, 4)},
    ),
    "one position": (lambda net, f: net.last(f).flatten(1), {"last": nn.Conv2d(8, 8, 8)}),
    "pooling": (lambda net, f: net.pool(f).flatten(1), {"pool": nn.AdaptiveAvgPool2d(1)}),
    "maximum pooling": (lambda net, f: net.pool(f).flatten(1), {"pool": nn.AdaptiveMaxPool2d(1)}),
    "a maximum": (lambda net, f: f.amax((2, 3)), {}),
}


@pytest.mark.parametrize("what", BEFORE)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_block_before(what, mode):
    join, parts = BEFORE[what]
    torch.manual_seed(0)
    model = Net(join, **parts).train(mode == "train")
    assert selftaught.explain(model, torch.randn(3, 3, 8, 8)).plan.layer == "block"


def test_an_earlier_layer_is_told():
    model = Net(lambda net, f: net.last(f).flatten(1), last=nn.Conv2d(8, 8, 8))
    with pytest.warns(
        UserWarning, match="'block': an earlier layer than the last one, for .* have one position"
    ):
        assert selftaught.explain(model, torch.randn(3, 3, 8, 8)).plan.layer == "block"


def test_one_channel_that_everything_goes_through_is_refused():
    model = Net(lambda net, f: net.last(f).flatten(1), width=36, last=nn.Conv2d(8, 1, 3))
    with pytest.raises(ExplanationError, match="'block' are one map times a number for each class"):
        selftaught.explain(model, torch.randn(3, 3, 8, 8))


def test_coarse_maps_are_told():
    model = Net(lambda net, f: net.last(f).mean((2, 3)), last=convolution(8, 8, stride=4))
    x = torch.randn(3, 3, 8, 8)
    with pytest.warns(UserWarning, match="'last': its 2x2 positions are coarse") as told:
        found = selftaught.explain(model, x)
    assert "coarse" in found.plan.note
    assert [warning.filename for warning in told] == [__file__]
    with pytest.warns(UserWarning, match="coarse") as told:
        selftaught.IntrospectiveLoss(model)(x, torch.tensor([0, 1, 2]))  # which calls us by way of torch
    assert [warning.filename for warning in told] == [__file__]


def test_a_module_that_hands_its_input_on_is_no_layer():
    """When it has run, what it hands on went another way already."""

    class HandsOn(nn.Module):
        def forward(self, f):
            return f

    def join(net, f):
        pooled = f.mean((2, 3))
        net.late(f)
        return pooled

    model = Net(join, late=HandsOn())
    assert selftaught.explain(model, torch.randn(3, 3, 8, 8)).plan.layer == "block"


def test_nothing_is_told_of_a_good_layer():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selftaught.explain(Net(lambda net, f: f.mean((2, 3))), torch.randn(3, 3, 8, 8))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("score", "have one channel"),
        ("pool", "have one position"),
        ("weights", "are nothing but rounding"),
        ("narrow", "are one map times a number for each class"),
    ],
)
def test_a_given_layer_that_says_nothing_is_refused(layer, message):
    joins = {
        "score": attention,
        "pool": pooled_token,
        "weights": lambda net, f: (
            (net.weights(f.flatten(2)).softmax(2)[:, :, None] * f.flatten(2)[:, None]).sum(3).mean(1)
        ),
        "narrow": lambda net, f: net.wide(net.one(net.narrow(f))).mean((2, 3)),
    }
    parts = {
        "score": {"score": nn.Linear(8, 1), "softmax": nn.Softmax(1)},
        "pool": {"pool": Pool()},
        # What is added to all scores of a head goes away in the softmax, and their mean gradient is zero.
        "weights": {"weights": nn.Conv1d(8, 3, 1)},
        "narrow": {"narrow": convolution(8, 8), "one": convolution(8, 1), "wide": nn.Conv2d(1, 8, 1)},
    }
    model = Net(joins[layer], **parts[layer]).double()
    with pytest.raises(ExplanationError, match=message):
        selftaught.explain(model, torch.randn(3, 3, 8, 8, dtype=torch.float64), layer=layer)


class Shared(nn.Module):
    """The textbook's network: one ReLU for all layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
        self.fc1, self.fc2 = nn.Linear(128, 16), nn.Linear(16, 5)
        self.relu = nn.ReLU()

    def forward(self, x):
        x = self.relu(self.conv2(self.relu(self.conv1(x))))
        return self.fc2(self.relu(self.fc1(x.flatten(1))))


def of_run(model, x, layer: str, run: int) -> torch.Tensor:
    """(B, C, *spatial): Grad-CAM at one run of a module, class by class."""
    outputs = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _a, out: outputs.append(out))
    logits = model(x)
    handle.remove()
    grads = [torch.autograd.grad(logits[:, k].sum(), outputs[run], retain_graph=True)[0] for k in range(5)]
    weights = torch.stack([grad.mean((2, 3)) for grad in grads], 1)
    return torch.einsum("bkc,bcij->bkij", weights, outputs[run]).detach()


@pytest.mark.parametrize("layer", [None, "relu"])
def test_runs_of_one_module_are_told_apart(layer):
    model, x = Shared(), torch.randn(4, 3, 8, 8)
    found = selftaught.explain(model, x, layer=layer)
    assert (found.plan.layer, found.plan.run, found.plan.head) == ("relu", 1, "mlp")
    torch.testing.assert_close(found.maps, of_run(model, x, "relu", 1), atol=1e-6, rtol=1e-4)
    again = selftaught.explain(model, x, plan=found.plan)
    assert torch.equal(again.maps, found.maps)


class Later(nn.Module):
    """Pooling, something that changes its nature, and a classifier."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.features, self.between, self.classifier = nn.Conv2d(3, 8, 3), between, nn.Linear(8, 5)

    def forward(self, x):
        return self.classifier(self.between(self.features(x).mean((2, 3))))


class Gate(nn.Module):
    """Passes all features on, or half of them after its buffer was changed."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("open", torch.ones(8))

    def forward(self, f):
        return f * self.open if bool((self.open != 1).any()) else f


def change(model: Later) -> None:
    if isinstance(model.between, Gate):
        model.between.open[::2] = 0
    with torch.no_grad():
        model.features.weight.mul_(400)


@pytest.mark.parametrize(
    "between",
    [nn.Hardtanh(), nn.ReLU(), nn.Identity(), Gate(), nn.Softshrink(0.01)],
    ids=lambda m: type(m).__name__,
)
def test_a_shortcut_is_checked_on_every_batch(between):
    """It held on the first batch, small numbers in the linear part of what lies between, and does not on the second."""
    torch.manual_seed(1)
    model = Later(between)
    with torch.no_grad():
        model.features.weight.mul_(0.05)
        model.features.bias.fill_(0.5)
    explainer = selftaught.saliency.Explainer(layer="features")
    for _ in range(2):
        x = torch.randn(64, 3, 8, 8)
        torch.testing.assert_close(
            explainer(model, x).maps, of_run(model, x, "features", 0), atol=1e-4, rtol=1e-4
        )
        change(model)
    assert (explainer.plan.head == "linear") == isinstance(between, nn.Identity)


class TestWhatTheLogitsBecome:
    """Copies in another precision, a temperature and a container do not hide the classifier."""

    class Wrapped(nn.Module):
        def __init__(self, after) -> None:
            super().__init__()
            self.inner, self.after = Net(lambda net, f: f.mean((2, 3))), after

        def forward(self, x):
            return self.after(self.inner(x))

    @pytest.mark.parametrize(
        ("after", "factor"),
        [
            (lambda logits: logits / 4, 0.25),
            (lambda logits: 3 * logits.clone(), 3.0),
            (lambda logits: logits.double(), 1.0),
            (lambda logits: logits.div_(4), 0.25),
            (lambda logits: {"logits": logits / 4}, 0.25),
        ],
    )
    def test_closed_form(self, after, factor):
        model, x = self.Wrapped(after), torch.randn(4, 3, 8, 8)
        found, plain = selftaught.explain(model, x), selftaught.explain(model.inner, x)
        assert (found.plan.head, plain.plan.head) == ("linear", "linear")
        torch.testing.assert_close(found.maps, factor * plain.maps, check_dtype=False)

    def test_a_temperature_that_changes(self):
        model, x = self.Wrapped(lambda logits: logits / model.temperature), torch.randn(4, 3, 8, 8)
        explainer = selftaught.saliency.Explainer()
        for model.temperature in (2.0, 0.5):
            expected = selftaught.explain(model.inner, x).maps / model.temperature
            torch.testing.assert_close(explainer(model, x).maps, expected, atol=1e-6, rtol=1e-4)

    def test_accelerate_in_bfloat16(self):
        accelerate = pytest.importorskip("accelerate")
        model, x, y = Net(lambda net, f: f.mean((2, 3))), torch.randn(8, 3, 8, 8), torch.arange(8) % 5
        expected = selftaught.explain(model, x).maps
        prepared = accelerate.Accelerator(mixed_precision="bf16", cpu=True).prepare(model)
        criterion = selftaught.IntrospectiveLoss(prepared)
        criterion(x, y).backward()
        assert criterion.explainer.plan.head == "linear"
        assert criterion.logits.dtype == torch.float32
        found = selftaught.explain(prepared, x)
        assert (found.maps - expected).abs().max() < 0.02 * expected.abs().max()


def test_one_class_of_a_thousand_that_is_not_linear_is_seen():
    """A term as small as 3e-4 of the squared features changes its map by a third."""

    class Bent(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.classifier, self.bend = nn.Conv2d(3, 512, 3), nn.Linear(512, 1000), 0.0

        def forward(self, x):
            f = self.features(x).mean((2, 3))
            logits = self.classifier(f)
            bent = torch.zeros_like(logits)
            bent[:, 37] = self.bend * f.square().sum(1)
            return logits + bent if self.bend else logits

    torch.manual_seed(3)
    model, explainer = Bent(), selftaught.saliency.Explainer(layer="features")
    x = torch.randn(4, 3, 6, 6)
    assert explainer(model, x).plan.head == "linear"
    model.bend = 3e-4
    assert explainer(model, x).plan.head == "general"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_hides_no_clipped_feature(dtype):
    """One of a hundred features leaves the linear part of Hardtanh in the second batch."""

    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.clip, self.classifier = (
                nn.Conv2d(3, 512, 1),
                nn.Hardtanh(),
                nn.Linear(512, 20),
            )

        def forward(self, x):
            return self.classifier(self.clip(self.features(x).relu().mean((2, 3))))

    torch.manual_seed(4)
    model, explainer = Clipped(), selftaught.saliency.Explainer(layer="features")
    x = torch.randn(8, 3, 8, 8)
    with torch.no_grad():
        pooled = model.features(x).relu().mean((2, 3))
        model.clip.max_val = float(pooled.quantile(0.99))
    with torch.autocast("cpu", dtype=dtype):
        explainer(model, 0.1 * x)
        explainer(model, x)
    assert explainer.plan.head != "linear"


def test_runs_that_become_more():
    class Repeated(Net):
        def __init__(self):
            super().__init__(lambda net, f: f.mean((2, 3)), again=convolution(8, 8))
            self.times = 2

        def forward(self, x):
            f = self.block(self.first(x))
            for _ in range(self.times):
                f = self.again(f)
            return self.classifier(f.mean((2, 3)))

    model, x, explainer = Repeated(), torch.randn(3, 3, 8, 8), selftaught.saliency.Explainer()
    for model.times in (2, 3, 1):
        found = explainer(model, x)
        assert (found.plan.layer, found.plan.run) == ("again", model.times - 1)
        torch.testing.assert_close(
            found.maps, of_run(model, x, "again", model.times - 1), atol=1e-6, rtol=1e-4
        )


def test_a_frozen_backbone_under_no_grad():
    class Frozen(Net):
        def forward(self, x):
            with torch.no_grad():
                f = self.block(self.first(x))
            return self.classifier(f.mean((2, 3)))

    model, x = Frozen(None), torch.randn(3, 3, 8, 8)
    found = selftaught.explain(model, x)
    assert (found.plan.layer, found.plan.head) == ("block", "linear")
    torch.testing.assert_close(
        found.maps,
        torch.einsum("kc,bcij->bkij", model.classifier.weight, model.block(model.first(x))).detach() / 64,
    )


def test_a_spectral_norm_is_not_moved_on():
    def network():
        torch.manual_seed(5)
        model = Net(lambda net, f: f.mean((2, 3)))
        model.classifier = nn.utils.parametrizations.spectral_norm(model.classifier)
        return model

    ours, plain, x = network(), network(), torch.randn(3, 3, 8, 8)
    explainer = selftaught.saliency.Explainer()
    for _ in range(3):
        explainer(ours, x)
        plain(x)
    for (name, found), expected in zip(ours.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(found, expected, msg=name)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "head",
    [
        [nn.LayerNorm(8), nn.Linear(8, 50)],
        [nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.0), nn.Linear(16, 50)],
        [nn.BatchNorm1d(8), nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 50)],
        [
            nn.LayerNorm(8, elementwise_affine=False),
            nn.Linear(8, 16),
            nn.SiLU(),
            nn.LayerNorm(16),
            nn.Linear(16, 50),
        ],
    ],
)
def test_heads_of_several_layers_have_a_closed_form(head, training):
    torch.manual_seed(2)
    body = [nn.Conv2d(3, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*body, *head).double().train(training)
    x = torch.randn(6, 3, 8, 8, dtype=torch.float64)
    for classes in (None, [3, 0, 49]):
        found = selftaught.explain(model, x, classes=classes)
        assert (found.plan.layer, found.plan.head) == ("1", "mlp")
        general = Plan(**{**vars(found.plan), "head": "general"})
        expected = selftaught.explain(model, x, plan=general, classes=classes).maps
        torch.testing.assert_close(found.maps, expected, atol=1e-12, rtol=1e-9)


def test_flattened_features_and_several_layers():
    model = nn.Sequential(
        convolution(3, 8),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, 16),
        nn.ReLU(),
        nn.Linear(16, 5),
    ).double()
    x = torch.randn(6, 3, 8, 8, dtype=torch.float64)
    found = selftaught.explain(model, x)
    assert (found.plan.layer, found.plan.head) == ("0", "mlp")
    torch.testing.assert_close(found.maps, of_run(model, x, "0", 0), atol=1e-12, rtol=1e-9)


def test_a_batch_norm_that_made_the_layer_is_not_behind_it():
    """As in a DenseNet: the features end with the BatchNorm."""
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    found = selftaught.explain(model.train(), torch.randn(4, 3, 8, 8), layer="0")
    assert found.plan.head == "channel-wise"


class TestTokens:
    class Vit(nn.Module):
        """Patch embedding, special tokens before or behind, one block of attention, and a head that `reads`."""

        def __init__(self, before: int, after: int, reads, mixes: bool = True) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 2, 2)
            self.before, self.after = (
                nn.Parameter(torch.randn(before, 8)),
                nn.Parameter(torch.randn(after, 8)),
            )
            self.place = nn.Dropout(0.1)
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
            self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 5)
            self.reads = reads

        def forward(self, x):
            tokens = self.embed(x).flatten(2).transpose(1, 2)
            parts = [part.expand(len(x), -1, -1) for part in (self.before, self.after)]
            tokens = self.place(torch.cat([parts[0], tokens, parts[1]], 1))
            return self.fc(self.reads(self.norm(self.block(tokens))))

    @pytest.mark.parametrize(
        ("before", "after", "reads", "layer"),
        [
            (1, 0, lambda t: t[:, 0], "block.norm1"),
            (2, 0, lambda t: t[:, :2].mean(1), "block.norm1"),
            (5, 0, lambda t: t[:, 5:].mean(1), "norm"),
            (0, 1, lambda t: t[:, -1], "block.norm1"),
            (0, 0, lambda t: t.mean(1), "norm"),
        ],
    )
    def test_a_grid_without_special_tokens(self, before, after, reads, layer):
        model, x = self.Vit(before, after, reads).eval(), torch.randn(3, 3, 8, 12)
        found = selftaught.explain(model, x)
        assert (found.plan.layer, found.plan.grid) == (layer, (4, 6))
        assert (found.plan.before, found.plan.after) == (before, after)
        assert found.maps.shape == (3, 5, 4, 6)
        outputs = []
        model.get_submodule(layer).register_forward_hook(lambda _m, _a, out: outputs.append(out))
        torch.backends.mha.set_fastpath_enabled(False)
        logits = model(x)
        for k in range(5):
            (grad,) = torch.autograd.grad(logits[:, k].sum(), outputs[0], retain_graph=True)
            cells = slice(before, before + 24)
            expected = (outputs[0][:, cells] * grad[:, cells].mean(1, keepdim=True)).sum(2)
            torch.testing.assert_close(found.maps[:, k].flatten(1), expected, atol=1e-6, rtol=1e-4)

    def test_unfolded_patches(self):
        class Unfolded(self.Vit):
            def __init__(self):
                super().__init__(1, 0, lambda t: t[:, 0])
                self.embed = nn.Linear(12, 8)

            def forward(self, x):
                tokens = self.embed(F.unfold(x, 2, stride=2).transpose(1, 2))
                tokens = self.place(torch.cat([self.before.expand(len(x), -1, -1), tokens], 1))
                return self.fc(self.reads(self.norm(self.block(tokens))))

        assert selftaught.explain(Unfolded(), torch.randn(3, 3, 8, 12)).maps.shape == (3, 5, 4, 6)

    def test_other_sizes_have_plans_of_their_own(self):
        explainer, model = selftaught.saliency.Explainer(), self.Vit(1, 0, lambda t: t[:, 0])
        for size in [(8, 8), (8, 12)]:
            shape = explainer(model, torch.randn(2, 3, *size)).maps.shape
            assert shape == (2, 5, size[0] // 2, size[1] // 2)
