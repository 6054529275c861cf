"""The protocol reaches the optimiser, the batches and the normalisation."""

import copy

import pytest
import torch
import torch.nn.functional as F

from selftaught import data
from selftaught.training.presets import data_of, resolve
from selftaught.training.session import start
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
    assert (session.mean, session.std) == data.channel_stats(images.train_images)
    for other in (images.val_images, images.test_images):
        assert session.mean != data.channel_stats(other)[0]
    evaluated = next(
        iter(session.evaluation_batches(images.test_images[:4], images.test_labels[:4]).epoch(0))
    )[0]
    mean, std = torch.tensor(session.mean).view(-1, 1, 1), torch.tensor(session.std).view(-1, 1, 1)
    assert torch.allclose(evaluated, (images.test_images[:4] / 255 - mean) / std, atol=1e-5)


@pytest.mark.parametrize(("padding", "flip"), [(0, False), (2, False), (0, True), (4, True)])
def test_augmentation_is_the_protocols(padding, flip):
    config = quick.config(padding=padding, flip=flip)
    batches = start(config, data_of(config)).batches
    assert (batches.padding, batches.flip, batches.batch_size) == (padding, flip, config.batch_size)


def test_the_papers_protocols(monkeypatch, real_data):
    monkeypatch.setenv("SELFTAUGHT_DATA", str(real_data))
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


def test_three_steps_are_sgd_written_out():
    """v ← m·v + g + w·p, p ← p − lr·v, on the session's own batches."""
    config = quick.config(lr=0.05, momentum=0.9, weight_decay=0.01)
    session = start(config, data_of(config))
    twin = copy.deepcopy(session.model.module)
    velocity = [torch.zeros_like(p) for p in twin.parameters()]
    for x, y in list(session.batches.epoch(0))[:3]:
        session.optimizer.zero_grad()
        session.fabric.backward(session.objective.step(x, y).loss)
        session.optimizer.step()
        grads = torch.autograd.grad(F.cross_entropy(twin(x), y), list(twin.parameters()))
        with torch.no_grad():
            for p, g, v in zip(twin.parameters(), grads, velocity, strict=True):
                v.mul_(0.9).add_(g + 0.01 * p)
                p -= 0.05 * v
    for ours, theirs in zip(session.model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
