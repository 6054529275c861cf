"""The protocol reaches the optimiser, the batches and the normalisation."""

import copy

import pytest
import torch
import torch.nn.functional as F

from selftaught import IntrospectiveLoss
from selftaught.methods.ce import CrossEntropy
from selftaught.training.loop import Autosave, Position, train_epoch
from selftaught.training.optimising import lr_factor
from selftaught.training.presets import data_of, resolve
from selftaught.training.session import memory_format, start
from tests.training import quick


def test_the_optimiser_is_the_protocols():
    config = quick.config(lr=0.07, momentum=0.6, weight_decay=0.003)
    [group] = start(config, data_of(config)).optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.07, 0.6, 0.003)
    assert (group["nesterov"], group["dampening"]) == (False, 0)


def test_normalisation_is_that_of_the_images_trained_on():
    config = quick.config(train_size=100, val_fraction=0.5)
    images = data_of(config)
    session = start(config, images)
    pixels = images.train_images.double() / 255
    assert images.mean == pytest.approx((pixels.mean().item(),))
    assert images.std == pytest.approx((pixels.std(correction=0).item(),))
    evaluated = next(
        iter(session.evaluation_batches(images.test_images[:4], images.test_labels[:4]).epoch(0))
    )[0]
    mean, std = torch.tensor(images.mean).view(-1, 1, 1), torch.tensor(images.std).view(-1, 1, 1)
    assert torch.allclose(evaluated, (images.test_images[:4] / 255 - mean) / std, atol=1e-5)


@pytest.mark.parametrize(("padding", "flip"), [(0, False), (2, False), (0, True), (4, True)])
def test_augmentation_is_the_protocols(padding, flip):
    config = quick.config(padding=padding, flip=flip)
    batches = start(config, data_of(config)).batches
    assert (batches.padding, batches.flip, batches.batch_size) == (padding, flip, config.batch_size)


def test_the_papers_protocols(stand_ins):
    cifar = resolve("cifar10", "le")
    assert (cifar.epochs, cifar.batch_size, cifar.lr, cifar.momentum, cifar.weight_decay) == (
        160,
        128,
        0.1,
        0.9,
        1e-4,
    )
    assert (cifar.milestones, cifar.padding, cifar.flip, cifar.warmup) == ((80, 120), 4, True, 32)
    plain = resolve("cifar10", "ce", model="cnn8")
    assert (plain.epochs, plain.batch_size, plain.lr, plain.milestones, plain.flip) == (
        160,
        128,
        0.01,
        (),
        True,
    )
    mnist = resolve("mnist", "le")
    assert (mnist.epochs, mnist.batch_size, mnist.lr, mnist.momentum, mnist.warmup) == (50, 16, 0.01, 0.9, 10)
    assert (mnist.milestones, mnist.padding, mnist.flip, mnist.model) == ((), 0, False, "mlp")
    assert (cifar.settings["saliency"], mnist.settings["saliency"]) == ("grad-cam", "grad")


def lrs(config, steps):
    return [config.lr * lr_factor(config, step, 5) for step in range(steps)]


def test_the_rate_falls_to_a_tenth_after_each_milestone():
    config = quick.config(lr=1.0, epochs=4, milestones=[1, 3])
    assert lrs(config, 20) == pytest.approx([1.0] * 5 + [0.1] * 10 + [0.01] * 5)


def test_the_cosine_is_pytorchs():
    config = quick.config(lr=0.3, epochs=3, schedule="cosine")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=15)
    expected = []
    for _ in range(15):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert lrs(config, 15) == pytest.approx(expected)


def test_every_step_has_the_rate_of_the_schedule(tmp_path, monkeypatch):
    config, seen = quick.config(schedule="cosine", epochs=2), []
    original = CrossEntropy.forward
    session = start(config, data_of(config))
    monkeypatch.setattr(
        CrossEntropy,
        "forward",
        lambda *batch: seen.append(session.optimizer.param_groups[0]["lr"]) or original(*batch),
    )
    position = Position()
    for _ in range(2):
        train_epoch(session, position, lambda: None, lambda: False, Autosave(lambda: None, 60))
        position.next_epoch()
    assert seen == pytest.approx([config.lr * lr_factor(config, step, 5) for step in range(10)])


def test_adamw_is_pytorchs():
    config = quick.config(optimizer="adamw", lr=0.01, weight_decay=0.2)
    optimizer = start(config, data_of(config)).optimizer
    assert isinstance(optimizer.optimizer, torch.optim.AdamW)
    [group] = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.01, 0.2, (0.9, 0.999))


def test_three_steps_are_sgd_written_out():
    """v ← m·v + g + w·p, p ← p − lr·v, on the session's own batches."""
    config = quick.config(lr=0.05, momentum=0.9, weight_decay=0.01)
    session = start(config, data_of(config))
    twin = copy.deepcopy(session.model.module)
    velocity = [torch.zeros_like(p) for p in twin.parameters()]
    for x, y in list(session.batches.epoch(0))[:3]:
        session.optimizer.zero_grad()
        session.fabric.backward(session.method(x, y).loss)
        session.optimizer.step()
        grads = torch.autograd.grad(F.cross_entropy(twin(x), y), list(twin.parameters()))
        with torch.no_grad():
            for p, g, v in zip(twin.parameters(), grads, velocity, strict=True):
                v.mul_(0.9).add_(g + 0.01 * p)
                p -= 0.05 * v
    for ours, theirs in zip(session.model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("method", ["ce", "le"])
@pytest.mark.parametrize("model", ["mlp", "resnet8"])
def test_an_epoch_leaves_the_weights_of_a_plain_loop(model, method):
    """The trainer's own optimiser, metrics and wrappers change nothing of what a short loop does."""
    saliency = {"saliency": "grad"} if (model, method) == ("mlp", "le") else {}
    options = {"alpha": 0.9, "weight": 0.1, "warmup": 0, **saliency} if method == "le" else {}
    config = quick.config(
        method, model=model, image_size=16, train_size=70, lr=0.05, weight_decay=1e-3, **options
    )
    images = data_of(config)
    session, twin = start(config, images), start(config, images)
    train_epoch(session, Position(), lambda: None, lambda: False, Autosave(lambda: None, 60))
    network = twin.network.train()
    plain = F.cross_entropy
    criterion = (
        (lambda x, y: plain(network(x), y)) if method == "ce" else IntrospectiveLoss(network, **saliency)
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3, fused=False)
    for x, y in twin.batches.epoch(0):
        optimizer.zero_grad()
        criterion(x, y).backward()
        optimizer.step()
    for ours, theirs in zip(session.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [
        ("cpu", "32-true", torch.channels_last),
        ("cpu", "bf16-mixed", torch.channels_last),
        ("cuda", "32-true", torch.contiguous_format),
        ("cuda", "bf16-mixed", torch.channels_last),
    ],
)
def test_networks_lie_as_suits_the_convolutions(device, precision, expected):
    config = quick.config().model_copy(update={"device": device, "precision": precision})
    assert memory_format(config) == expected


def test_a_method_that_asks_hears_which_parts_of_the_pictures_come(monkeypatch):
    config, heard = quick.config(padding=1, flip=True), []
    session, forward = start(config, data_of(config)), CrossEntropy.forward

    def spy(self, x, y, index, view):
        heard.append(view)
        return forward(self, x, y, index, view)

    monkeypatch.setattr(CrossEntropy, "forward", spy)
    for needs_view in (False, True):
        monkeypatch.setattr(CrossEntropy, "needs_view", needs_view)
        train_epoch(session, Position(), lambda: None, lambda: False, Autosave(lambda: None, 60))
    steps = quick.STEPS_PER_EPOCH
    assert heard[:steps] == [None] * steps
    for ours, theirs in zip(heard[steps:], session.batches.views(0), strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_a_state_holds_what_the_method_itself_has():
    config = quick.config()
    session = start(config, data_of(config))
    session.method.register_parameter("scale", torch.nn.Parameter(torch.ones(2)))
    session.method.register_buffer("means", torch.zeros(3))
    session.network.register_buffer("unsaved", torch.zeros(1), persistent=False)
    tensors = session.method.scale, session.method.means, session.network.unsaved
    before = copy.deepcopy(session.state())
    with torch.no_grad():
        for tensor in tensors:
            tensor.add_(1)
    session.restore(before)
    assert [tensor.tolist() for tensor in tensors] == [[1, 1], [0, 0, 0], [0]]
