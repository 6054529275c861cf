"""Each method against its formula, written out."""

import copy
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F

import selftaught
from selftaught import models, similarity, targets
from selftaught.errors import InputError
from selftaught.methods import registry
from selftaught.methods.base import own
from selftaught.methods.ls import LabelSmoothing

METHODS = ["ce", "dropout", "ls", "cp", "le", "le-permut", "le-uniform"]


def setting(key, **options):
    """A method, an untouched twin of its model, and a batch."""
    of_model = registry.model_options(key, registry.settings(key) | options)
    model = models.create("resnet8", 5, 3, 16, **of_model).double().train()
    twin = copy.deepcopy(model)
    method = registry.create(key, model, **options)
    x, y = torch.randn(6, 3, 16, 16, dtype=torch.float64), torch.tensor([0, 4, 1, 1, 2, 3])
    return method, twin, x, y


def test_the_register():
    assert registry.names()[:7] == METHODS
    assert registry.settings("ce") == {}
    assert registry.settings("le-uniform") == {"alpha": 0.9, "weight": 0.1, "warmup": 0}
    assert list(registry.settings("le")) == [
        "alpha",
        "weight",
        "warmup",
        "saliency",
        "layer",
        "similarity",
        "relu",
        "refresh",
        "upsample",
        "centre",
    ]
    assert all(registry.summary(key) for key in METHODS)


@pytest.mark.parametrize("key", METHODS)
def test_a_step_is_the_formula(key):
    method, twin, x, y = setting(key)
    rng = torch.get_rng_state()
    step = method(x, y)
    step.loss.backward()

    torch.set_rng_state(rng)  # the same dropout masks and permutations
    if key in ("le", "le-permut"):
        q = targets.introspective(similarity.cosine(selftaught.explain(twin, x).maps, y), y, 0.9)
    logits = twin(x)
    log_p = F.log_softmax(logits, 1)
    ce = -log_p.gather(1, y[:, None]).mean()
    smooth = torch.full((6, 5), 0.1 / 4, dtype=torch.float64).scatter(1, y[:, None], 0.9)
    if key == "le-permut":
        q = targets.permuted(q, y)
    expected = {
        "ce": lambda: ce,
        "dropout": lambda: ce,
        "ls": lambda: -(smooth * log_p).sum(1).mean(),
        "cp": lambda: ce + 0.5 * (log_p.exp() * log_p).sum(1).mean(),
        "le": lambda: -(q * log_p).sum(1).mean() + 0.1 * ce,
        "le-permut": lambda: -(q * log_p).sum(1).mean() + 0.1 * ce,
        "le-uniform": lambda: -(smooth * log_p).sum(1).mean() + 0.1 * ce,
    }[key]()
    expected.backward()
    assert torch.allclose(step.loss, expected)
    assert torch.allclose(step.logits, logits)
    assert not step.logits.requires_grad
    assert not any(term.requires_grad for term in step.terms.values())
    for ours, theirs in zip(method.model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-12)


@pytest.mark.parametrize("key", METHODS)
def test_terms_make_up_the_loss(key):
    weights = {"soft": 1.0, "ce": 0.25, "ce-cp": 1.0}
    options = {"weight": 0.25} if key.startswith("le") else {}
    method, _, x, y = setting(key, **options)
    step = method(x, y)
    if set(step.terms) == {"ce"}:
        assert torch.allclose(step.terms["ce"], step.loss)
    else:
        assert torch.allclose(sum(weights[name] * value for name, value in step.terms.items()), step.loss)


@pytest.mark.parametrize("key", ["le", "le-permut", "le-uniform"])
def test_stage_one_is_plain_training(key):
    method, twin, x, y = setting(key, warmup=2)
    for epoch, warming_up in [(0, True), (1, True), (2, False), (3, False)]:
        method.start_epoch(epoch)
        loss = method(x, y).loss
        assert torch.allclose(loss, F.cross_entropy(twin(x), y)) == warming_up


def test_permuted_targets_keep_their_values_but_not_their_places():
    method, twin, x, y = setting("le-permut")
    expected = targets.introspective(similarity.cosine(selftaught.explain(twin, x).maps, y), y)
    method(x, y)
    found = method.criterion.targets
    assert torch.allclose(found.sort(1).values, expected.sort(1).values)
    assert torch.allclose(found.gather(1, y[:, None]), torch.tensor(0.9, dtype=torch.float64))
    assert not torch.allclose(found, expected)


def test_dropout_asks_the_model_for_it():
    model = models.create("resnet8", 5, 3, 16, dropout=0.25)
    rates = {name: m.p for name, m in model.named_modules() if isinstance(m, torch.nn.Dropout)}
    assert list(rates.values()) == [0.25] * 3
    assert all(name.startswith(f"features.stage{n}") for n, name in enumerate(rates, 1))


@pytest.mark.parametrize(
    ("key", "options", "message"),
    [
        ("le2", {}, "unknown method 'le2': did you mean 'le'"),
        ("ls", {"weight": 0.1}, "unknown setting of ls 'weight'"),
        ("ls", {"alpha": 1.1}, r"alpha must be in \(0, 1\], not 1.1"),
        ("cp", {"strength": -1.0}, "strength must be at least 0"),
        ("dropout", {"drop_rate": 1.0}, "drop_rate must be in"),
        ("le", {"alpha": 0.0}, "alpha must be in"),
        ("le-uniform", {"weight": float("nan")}, "weight must be at least 0"),
        ("le-permut", {"warmup": -1}, "warmup must be at least 0 epochs"),
        ("le", {"saliency": "gradcam"}, "did you mean 'grad-cam'"),
        ("le", {"similarity": "cosinus"}, "did you mean 'cosine'"),
        ("le", {"saliency": "grad", "relu": True}, "relu= belongs to saliency='grad-cam'"),
        ("le-permut", {"saliency": "grad", "upsample": True}, "upsample= belongs to saliency='grad-cam'"),
    ],
)
def test_refusals(key, options, message):
    with pytest.raises(InputError, match=message):
        registry.check(key, options)


def test_what_a_body_annotates_is_a_setting():
    class Own(LabelSmoothing):
        key = "own"
        note: ClassVar[str] = "no setting"
        alpha: float = 0.8
        share: float = own("a share", 0.25, ge=0, le=1)

    assert {name: declared.default for name, declared in Own.settings().items()} == {
        "alpha": 0.8,
        "share": 0.25,
    }
    assert (Own(torch.nn.Linear(2, 2)).alpha, Own(torch.nn.Linear(2, 2), share=1).share) == (0.8, 1)
    with pytest.raises(InputError, match=r"share must be in \[0, 1\], not 2"):
        Own.check({"share": 2.0})
