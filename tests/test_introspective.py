"""IntrospectiveLoss in a user's own loop."""

import copy
import itertools
import socket

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import nn

import selftaught
from selftaught import IntrospectiveLoss, models, similarity, targets
from selftaught.errors import ExplanationError, InputError
from tests import distributed

SALIENCIES = ["grad-cam", "grad", "grad-input", "guided-backprop"]


def batch(size=6, channels=3, image=16, classes=5):
    return torch.randn(size, channels, image, image), torch.randint(classes, (size,))


def network(name="resnet8", classes=5, **options) -> nn.Module:
    return models.create(name, classes, 3, 16, **options)


def expected_targets(model, x, y, saliency="grad-cam", alpha=0.9, like="cosine"):
    """explain → similarity → Eq. 6, each on its own."""
    maps = selftaught.explain(model, x, saliency).maps
    return targets.introspective(similarity.get(like)(maps, y), y, alpha)


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("saliency", SALIENCIES)
@pytest.mark.parametrize("like", ["cosine", "multiscale-mse", "wasserstein"])
def test_targets_and_gradients_are_the_formulas(saliency, like, training):
    model = network(dropout=0.2).double().train(training)
    twin = copy.deepcopy(model)
    x, y = batch()
    x = x.double()
    state = torch.get_rng_state()
    q = expected_targets(model, x, y, saliency, alpha=0.8, like=like)
    criterion = IntrospectiveLoss(model, saliency=saliency, similarity=like, alpha=0.8, weight=0.3)
    loss = criterion(x, y)
    loss.backward()

    torch.set_rng_state(state)  # the same dropout masks
    logits = twin(x)
    log_p = logits.log_softmax(1)
    expected = -(q * log_p).sum(1).mean() + 0.3 * F.nll_loss(log_p, y)
    expected.backward()
    assert torch.allclose(criterion.targets, q, atol=1e-12)
    assert torch.allclose(criterion.logits, logits)
    assert torch.allclose(loss, expected)
    for name, grad in gradients(twin).items():
        assert torch.allclose(gradients(model)[name], grad, atol=1e-12), name
    for (name, ours), theirs in zip(model.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(ours, theirs), f"{name}: BatchNorm must see the batch exactly once"


@pytest.mark.parametrize("like", ["cosine", "multiscale-mse", "wasserstein"])
def test_upsampled_maps_are_compared_at_the_size_of_the_input(like):
    model, (x, y) = network().double(), batch()
    x = x.double()
    maps = similarity.upsampled(selftaught.explain(model, x).maps, (16, 16))
    expected = targets.introspective(similarity.get(like)(maps, y), y)
    criterion = IntrospectiveLoss(model, similarity=like, upsample=True)
    criterion(x, y)
    assert torch.allclose(criterion.targets, expected, atol=1e-12)
    as_they_are = IntrospectiveLoss(model, similarity=like)
    as_they_are(x, y)
    assert (as_they_are.targets - expected).abs().max() > 1e-4


def test_only_grad_cam_has_maps_to_upsample():
    with pytest.raises(InputError, match="upsample= belongs to saliency='grad-cam', not to 'grad'"):
        IntrospectiveLoss(network(), saliency="grad", upsample=True)


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_one_forward_per_step(saliency):
    model, (x, y) = network(), batch()
    calls = []
    model.register_forward_hook(lambda *_: calls.append(model.training))
    criterion = IntrospectiveLoss(model, saliency=saliency)
    criterion(x, y)  # the first batch also decides how to explain
    calls.clear()
    for _ in range(3):
        criterion(*batch()).backward()
    assert calls == [True] * 3


def test_targets_are_never_stale_and_carry_no_gradient():
    model, (x, y) = network(), batch()
    criterion = IntrospectiveLoss(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(3):
        expected = expected_targets(model, x, y)
        loss = criterion(x, y)
        assert torch.allclose(criterion.targets, expected, atol=1e-6)
        assert not criterion.targets.requires_grad
        assert not criterion.logits.requires_grad
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_warmup_is_plain_cross_entropy():
    model, (x, y) = network(), batch()
    twin = copy.deepcopy(model)
    criterion = IntrospectiveLoss(model)
    criterion.warmup = True
    loss = criterion(x, y)
    loss.backward()
    plain = F.cross_entropy(twin(x), y)
    plain.backward()
    assert torch.equal(loss, plain)
    assert all(
        torch.equal(a, b) for a, b in zip(gradients(model).values(), gradients(twin).values(), strict=True)
    )
    assert torch.equal(criterion.targets, F.one_hot(y, 5).float())
    assert criterion.similarities is None
    criterion.warmup = False
    assert criterion(x, y) != plain
    assert torch.equal(criterion.targets, targets.introspective(criterion.similarities, y))
    assert not criterion.similarities.requires_grad


def test_gradient_accumulation():
    model, (x, y) = network().double().eval(), batch(8)
    x = x.double()
    twin = copy.deepcopy(model)
    IntrospectiveLoss(twin)(x, y).backward()
    criterion = IntrospectiveLoss(model)
    losses = [criterion(x[part], y[part]) / 2 for part in (slice(0, 4), slice(4, 8))]
    for loss in losses:  # both graphs alive at once
        loss.backward()
    for name, grad in gradients(twin).items():
        assert torch.allclose(gradients(model)[name], grad, atol=1e-12), name


@pytest.mark.parametrize("saliency", SALIENCIES)
@pytest.mark.parametrize("name", ["cnn6", "cnn8", "resnet8"])
def test_channels_last(name, saliency):
    model, (x, y) = network(name).double(), batch()
    x = x.double()
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
    ours, theirs = IntrospectiveLoss(model, saliency), IntrospectiveLoss(twin, saliency)
    loss = ours(x, y)
    assert torch.allclose(theirs(x.to(memory_format=torch.channels_last), y), loss)
    assert torch.allclose(theirs.targets, ours.targets, atol=1e-10)


def discriminating(name) -> nn.Module:
    """A model whose maps differ between classes, so that its targets are far from even ones."""
    model = network(name)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias += torch.randn_like(module.bias)
    for _ in range(20):
        model.train()(torch.randn(16, 3, 16, 16))
    return model.eval()


@pytest.mark.parametrize("saliency", SALIENCIES)
@pytest.mark.parametrize("name", ["cnn6", "cnn8", "resnet8"])
def test_autocast(name, saliency):
    model, (x, y) = discriminating(name), batch(16)
    seen = []

    def run(enabled):
        criterion = IntrospectiveLoss(model, saliency)
        inner = criterion.similarity
        criterion.similarity = lambda maps, labels: (
            seen.append((maps.dtype, inner(maps, labels))),
            seen[-1][1],
        )[1]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            return criterion(x, y), criterion.targets

    run(False)
    loss, found = run(True)
    loss.backward()
    (_, exact), (dtype, rounded) = seen
    assert dtype == torch.float32, "map arithmetic is done in float32"
    assert found.dtype == torch.float32
    # What is left is bfloat16's own error in the activations; even targets would be far off.
    assert (rounded - exact).abs().mean() < 0.2 * exact.std()
    assert all(p.grad.isfinite().all() for p in model.parameters())


class TestCompiled:
    """Hooks and function modes do not reach into compiled code; the loss must be right all the same."""

    @pytest.mark.parametrize(
        ("name", "saliency", "called_before"),
        [
            *(("resnet8", saliency, False) for saliency in SALIENCIES),
            *(("cnn8", saliency, True) for saliency in ("grad-cam", "guided-backprop")),
            *(
                pytest.param(name, saliency, before, marks=pytest.mark.slow)
                for name, saliency, before in itertools.product(
                    ("resnet8", "cnn8"), SALIENCIES, (True, False)
                )
            ),
        ],
    )
    def test_equal_to_eager(self, name, saliency, called_before):
        torch._dynamo.reset()
        model, (x, y) = network(name), batch()
        twin = copy.deepcopy(model)
        compiled = torch.compile(model, backend="aot_eager")
        if called_before:
            compiled(x)
            twin(x)
        ours, theirs = IntrospectiveLoss(compiled, saliency), IntrospectiveLoss(twin, saliency)
        for _ in range(2):
            loss, expected = ours(x, y), theirs(x, y)
            loss.backward()
            expected.backward()
            assert torch.allclose(loss, expected, atol=1e-5)
            assert torch.allclose(ours.targets, theirs.targets, atol=1e-5)
        for name_, grad in gradients(twin).items():
            assert torch.allclose(gradients(model)[name_], grad, atol=1e-4), name_

    def test_closed_form_runs_compiled_code(self):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        criterion = IntrospectiveLoss(torch.compile(network(), backend="aot_eager"))
        for _ in range(3):
            criterion(*batch()).backward()
        assert torch._dynamo.utils.counters["frames"]["ok"] == 1
        assert not torch._dynamo.utils.counters["graph_break"]

    @pytest.mark.parametrize("saliency", ["grad-cam", "grad"])
    def test_compiled_in_place_and_compiled_part(self, saliency):
        torch._dynamo.reset()
        model, (x, y) = network(), batch()
        twin = copy.deepcopy(model)
        part = copy.deepcopy(model)
        model.compile(backend="aot_eager")
        part.features = torch.compile(part.features, backend="aot_eager")
        expected = IntrospectiveLoss(twin, saliency)(x, y)
        assert torch.allclose(IntrospectiveLoss(model, saliency)(x, y), expected, atol=1e-5)
        assert torch.allclose(IntrospectiveLoss(part, saliency)(x, y), expected, atol=1e-5)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_ddp_gradients_equal_one_process(compiled, tmp_path):
    saliencies = ["grad-cam"] if compiled else ["grad-cam", "guided-backprop"]
    models_ = [distributed.plain_cnn(linear_head=compiled) for _ in saliencies]
    x, y = batch(8)
    x = x.double()
    mp.spawn(distributed.work, (free_port(), saliencies, compiled, models_, x, y, tmp_path), nprocs=2)
    found = [torch.load(tmp_path / str(rank)) for rank in (0, 1)]
    for case, (saliency, model) in enumerate(zip(saliencies, models_, strict=True)):
        IntrospectiveLoss(model, saliency=saliency)(x, y).backward()
        for index, parameter in enumerate(model.parameters()):
            for rank in (0, 1):
                gradient = found[rank][case][index]
                assert torch.allclose(gradient, parameter.grad, atol=1e-12), (saliency, rank, index)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("saliency", ["grad-cam", "grad"])
def test_inside_fabric(saliency, precision):
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    inner, (x, y) = network(), batch()
    model, optimizer = fabric.setup(inner, torch.optim.SGD(inner.parameters(), lr=0.1))
    criterion = IntrospectiveLoss(model, saliency=saliency)
    reference = expected_targets(copy.deepcopy(inner), x, y, saliency)
    loss = criterion(x, y)
    fabric.backward(loss)
    optimizer.step()
    assert (criterion.targets - reference).abs().max() < (1e-5 if precision == "32-true" else 0.05)


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_any_number_of_classes(classes):
    model = network(classes=classes)
    x, y = batch(classes=classes)
    criterion = IntrospectiveLoss(model)
    criterion(x, y).backward()
    assert torch.allclose(criterion.targets.sum(1), torch.ones(6), atol=1e-5)
    assert torch.allclose(criterion.targets.gather(1, y[:, None]), torch.tensor(0.9))
    if classes == 2:
        assert torch.equal(criterion.targets, targets.smooth(y, 2, 0.9))


@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 4, 7)])
def test_inputs_of_any_shape(shape):
    model = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    x, y = torch.randn(3, *shape), torch.tensor([0, 3, 1])
    model(x)
    criterion = IntrospectiveLoss(model, saliency="grad")
    criterion(x, y).backward()
    assert criterion.targets.shape == (3, 4)
    assert not x.requires_grad


def test_evaluating_the_loss_without_gradients():
    model, (x, y) = network().eval(), batch()
    for saliency in SALIENCIES:
        criterion = IntrospectiveLoss(model, saliency=saliency)
        with torch.no_grad():
            loss = criterion(x, y)
        assert not loss.requires_grad
        assert torch.allclose(loss, criterion(x, y))


def test_a_step_learns_after_evaluation_in_between():
    """The decision made in train mode must not be used in eval mode, where the head's dropout is off."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(6, 4)
    )
    x, y = batch(classes=4)
    criterion = IntrospectiveLoss(model)
    for training, head in [(True, "channel-wise"), (False, "linear"), (True, "channel-wise")]:
        model.train(training)
        state = torch.get_rng_state()
        expected = expected_targets(model, x, y)
        torch.set_rng_state(state)
        criterion.explainer(model, x) if training else None  # decide first: the probe must not move the RNG
        torch.set_rng_state(state)
        criterion(x, y)
        assert criterion.explainer.plan.head == head
        assert torch.allclose(criterion.targets, expected, atol=1e-6)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"alpha": 0.0}, "alpha must be in"),
            ({"alpha": 1.5}, "alpha must be in"),
            ({"weight": -1.0}, "weight must be"),
            ({"saliency": "gradcam"}, "did you mean 'grad-cam'"),
            ({"similarity": "cosinus"}, "did you mean 'cosine'"),
            ({"similarity": F.cosine_similarity}, "unknown similarity <built-in method"),
            ({"saliency": None}, "unknown saliency None"),
            ({"alpha": "0.9"}, "alpha must be like 0.9"),
            ({"weight": None}, "weight must be"),
            ({"refresh": True}, "refresh must be like 1.0"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(InputError, match=message):
            IntrospectiveLoss(network(), **options)

    def test_replicas_on_several_devices(self):
        wrapped = nn.DataParallel(network())
        IntrospectiveLoss(wrapped)
        wrapped.device_ids = [0, 1]  # there is no machine with two in the tests
        with pytest.raises(ExplanationError, match="use DistributedDataParallel"):
            IntrospectiveLoss(wrapped)

    def test_no_network(self):
        with pytest.raises(InputError, match=r"model must be a torch.nn.Module, not function"):
            IntrospectiveLoss(lambda x: x)

    @pytest.mark.parametrize("warmup", [False, True])
    @pytest.mark.parametrize(
        "labels",
        [torch.full((6,), 5), torch.full((6,), -1), torch.zeros(6), torch.zeros(5, dtype=torch.int64)],
    )
    def test_labels(self, labels, warmup):
        criterion = IntrospectiveLoss(network())
        criterion.warmup = warmup
        with pytest.raises(InputError, match="labels must"):
            criterion(batch()[0], labels)

    def test_zero_maps_are_not_uniform_targets(self):
        model, (x, y) = network(), batch()
        nn.init.zeros_(model.head.classifier.weight)
        with pytest.raises(ExplanationError, match="every grad-cam map is zero"):
            IntrospectiveLoss(model)(x, y)

    def test_synchronised_batch_norm(self):
        model = nn.SyncBatchNorm.convert_sync_batchnorm(network())
        with pytest.raises(ExplanationError, match="SyncBatchNorm"):
            IntrospectiveLoss(model, saliency="grad")(*batch())


class TestLikeCrossEntropy:
    """What a user of `nn.CrossEntropyLoss` would be told."""

    def test_a_model_that_cannot_learn(self):
        model = models.create("resnet8", 4, 3, 16).requires_grad_(False)
        loss = IntrospectiveLoss(model)(torch.randn(4, 3, 16, 16), torch.arange(4))
        with pytest.raises(RuntimeError, match="does not require grad"):
            loss.backward()

    def test_labels_that_are_a_list(self):
        with pytest.raises(InputError, match="labels must be an int64 tensor of class indices, not list"):
            IntrospectiveLoss(models.create("resnet8", 4, 3, 16))(torch.randn(4, 3, 16, 16), [0, 1, 2, 3])
