"""LE and LE-Permut with every saliency method and every similarity: the step is Algorithm 1's, by slow oracles."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

import selftaught
from selftaught.methods import registry
from tests.oracles import losses as loss_oracle
from tests.oracles import similarity as similarity_oracle
from tests.oracles import targets as target_oracle

SALIENCY = ["grad-cam", "grad", "grad-input", "guided-backprop"]
MEASURES = {
    "cosine": similarity_oracle.cosine,
    "multiscale-mse": similarity_oracle.multiscale_mse,
    "wasserstein": similarity_oracle.wasserstein,
}


def convolutional():
    layers = [
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).double()


def perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 16), nn.ReLU(), nn.Linear(16, 4)).double()


COMBINATIONS = [
    *itertools.product([convolutional], SALIENCY, MEASURES),
    *itertools.product([perceptron], SALIENCY[1:], MEASURES),
]


@pytest.mark.parametrize("key", ["le", "le-permut"])
@pytest.mark.parametrize(("build", "saliency", "measure"), COMBINATIONS)
def test_a_step_is_algorithm_1(build, saliency, measure, key):
    model = build().train()
    x, y = torch.randn(5, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2])
    twin = copy.deepcopy(model)
    method = registry.create(key, model, saliency=saliency, similarity=measure, warmup=1)
    method.start_epoch(1)
    step = method(x, y)

    maps = selftaught.explain(twin, x, saliency).maps.numpy()
    similarity = similarity_oracle.pairwise(MEASURES[measure], maps, y.tolist())
    q = target_oracle.introspective(similarity, y.tolist(), 0.9)
    found = method.criterion.targets.numpy()
    if key == "le-permut":
        np.testing.assert_allclose(np.sort(found, axis=1), np.sort(q, axis=1), atol=1e-10)
        np.testing.assert_allclose(found[range(5), y], 0.9)
        q = found
    logits = twin(x).detach().numpy()
    expected = loss_oracle.soft_cross_entropy(logits, q)
    expected += 0.1 * np.mean(loss_oracle.cross_entropies(logits, y.tolist()))
    assert step.loss.item() == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(step.logits, logits, atol=1e-12)
    step.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    np.testing.assert_allclose(sum(step.terms.values()).item() - 0.9 * step.terms["ce"].item(), expected)


@pytest.mark.parametrize("key", ["le", "le-permut"])
def test_the_measures_and_maps_differ(key):
    """Each combination is one of its own: a similarity or a saliency that is ignored would be seen here."""
    x, y = torch.randn(5, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2])
    model = convolutional()
    options = [{"saliency": s, "similarity": m} for s, m in itertools.product(SALIENCY, MEASURES)]
    values = set()
    for settings in options:
        method = registry.create(key, copy.deepcopy(model), **settings)
        torch.manual_seed(0)
        values.add(round(method(x, y).loss.item(), 9))
    assert len(values) == len(options)
