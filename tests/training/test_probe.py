"""The linear probe against scikit-learn on the same features, and where scikit-learn has nothing to fit."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from selftaught.training import probe


def made(count: int, classes: int, width: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (N, D) in clouds around a centre for each class, with labels (N,) of which every class has some."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, width, generator=generator)
    scales = torch.rand(width, generator=generator) * 10 + 0.1
    return (centres[labels] + torch.randn(count, width, generator=generator)) * scales + 3, labels


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("width", [6, 200])  # fewer features than images, and more
def test_it_is_logistic_regression_on_standardised_features(classes, balanced, width):
    features, labels = made(90, classes, width)
    labels[:20] = 0  # uneven
    found = probe.fit(features, labels, classes, balanced, strength=0.1)
    reference = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=0.1, tol=1e-8, max_iter=10_000, class_weight="balanced" if balanced else None),
    ).fit(features.double().numpy(), labels.numpy())
    ours = found(features).double().softmax(1).numpy()
    np.testing.assert_allclose(ours, reference.predict_proba(features.double().numpy()), atol=2e-3)
    assert found.weight.dtype == found.bias.dtype == torch.float32
    assert found.weight.shape == (classes, features.shape[1])


def test_the_strength_is_right_on_most_held_out_images():
    """Many features that say nothing ask for a strong penalty, few that say all for a weak one."""
    torch.manual_seed(0)
    labels = torch.arange(200) % 2
    noise = torch.randn(200, 400)
    clear = torch.randn(200, 3)
    clear[:, 0] += 3 * labels
    weak = probe.fit(clear, labels, 2).strength
    strong = probe.fit(torch.cat([0.5 * labels[:, None] + noise[:, :1], noise[:, 1:]], 1), labels, 2).strength
    assert strong < weak


def test_a_class_without_images_comes_last():
    features, labels = made(40, 3)
    found = probe.fit(features, 2 * labels, 6)  # classes 0, 2 and 4
    assert found(features).argsort(1)[:, :3].sort(1).values.unique(dim=0).tolist() == [[1, 3, 5]]
    assert found(features).isfinite().all()


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_images_to_hold_any_out(count):
    features = torch.eye(count, 4)
    found = probe.fit(features, torch.arange(count), 3)
    assert found.strength == probe.UNTRIED
    assert (found(features).argmax(1) == torch.arange(count)).all()


def test_constant_features_do_no_harm():
    features, labels = made(30, 3)
    features[:, 1] = 7.0
    found = probe.fit(features, labels, 3)
    assert found.weight.isfinite().all()
    assert (found(features).argmax(1) == labels).float().mean() > 0.6


def test_a_learning_curve_has_a_quarter_and_a_half_of_the_images():
    features, labels = made(80, 4)
    points = list(probe.curve(features, labels, 4))
    assert [size for size, _ in points] == [20, 40]
    few, seldom = made(6, 4)
    assert [size for size, _ in probe.curve(few, seldom, 4)] == []
