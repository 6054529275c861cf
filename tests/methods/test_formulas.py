"""Each method that learns from another network: its step against its paper's formula, and what would break it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from selftaught import losses
from selftaught.methods import registry
from selftaught.methods.base import Step
from selftaught.methods.dml import MutualLearning
from selftaught.methods.taught import Distillation
from tests.methods.lessons import ready, seen, tables
from tests.oracles import methods as oracle

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-6}
few_examples = settings(max_examples=15)

STEPS = {
    "kd": ("kd", {}, oracle.kd),
    "kd, other settings": ("kd", {"temperature": 2.0, "weight": 0.7}, lambda g: oracle.kd(g, 2.0, 0.7)),
    "takd": ("takd", {}, oracle.kd),
    "ban": ("ban", {}, oracle.ban),
    "ban, T = 20": ("ban", {"temperature": 20.0}, lambda g: oracle.ban(g, 20.0)),
    "ban+l": ("ban+l", {}, oracle.kd),
    "cwtm": ("cwtm", {}, oracle.cwtm),
    "dml": ("dml", {"weight": 0.3}, lambda g: oracle.dml(g, 0.3)),
    "hint, stage 1": ("hint", {"warmup": 1}, oracle.hint_stage_1),
    "hint, stage 1, of stage 3": ("hint", {"warmup": 1, "stage": 3}, lambda g: oracle.hint_stage_1(g, 3)),
    "hint, stage 2": ("hint", {}, oracle.kd),
    "at": ("at", {}, oracle.at),
    "at, other weight": ("at", {"attention_weight": 5.0}, lambda g: oracle.at(g, attention_weight=5.0)),
    "fsp, stage 1": ("fsp", {"warmup": 1}, oracle.fsp_stage_1),
    "fsp, stage 2": ("fsp", {}, oracle.kd),
    "le-teacher": ("le-teacher", {}, oracle.le_teacher),
    "le-teacher, other settings": (
        "le-teacher",
        {"alpha": 0.6, "weight": 0.3, "temperature": 1.5},
        lambda g: oracle.le_teacher(g, 0.6, 0.3, 1.5),
    ),
    "le-teacher, stage 1": ("le-teacher", {"warmup": 1}, oracle.cross_entropy),
}


def check_step(key, options, expected, dtype=torch.float64):
    method, x, y = ready(key, dtype=dtype, **options)
    given = seen(method, x, y)
    step = method(x, y)
    assert step.loss.dtype == dtype
    # T² magnifies the rounding of a KL that is small, being softened.
    magnified = max(1, getattr(method, "temperature", 1) ** 2 / 16)
    tolerance = TOLERANCE[dtype]
    assert step.loss.item() == pytest.approx(expected(given), rel=tolerance, abs=tolerance * magnified)
    np.testing.assert_array_equal(step.logits, given.own)
    assert not step.logits.requires_grad
    assert not any(term.requires_grad for term in step.terms.values())
    assert step.loss.requires_grad


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_the_formula(name, dtype):
    check_step(*STEPS[name], dtype)


def table_loss(key, expected, batch, classes, scale, **options):
    method, x, y = tables(key, batch, classes, scale, **options)
    loss = method(x, y).loss.item()
    assert loss == pytest.approx(expected(seen(method, x, y)), rel=1e-10, abs=1e-10)


@few_examples
@drawn(
    batch=st.integers(1, 7),
    classes=st.sampled_from([2, 3, 10, 100]),
    scale=st.sampled_from([0.1, 3.0]),
    temperature=st.sampled_from([0.5, 1.0, 4.0, 20.0]),
    weight=st.sampled_from([0.0, 0.1, 2.0]),
    seed=st.integers(0, 2**31),
)
def test_every_shape_and_setting(batch, classes, scale, temperature, weight, seed):
    torch.manual_seed(seed)
    shape = {"batch": batch, "classes": classes, "scale": scale}
    for key in ("kd", "ban+l", "takd"):
        table_loss(
            key,
            lambda g: oracle.kd(g, temperature, weight),
            **shape,
            temperature=temperature,
            weight=weight,
        )
    table_loss("ban", lambda g: oracle.ban(g, temperature), **shape, temperature=temperature)
    table_loss(
        "le-teacher",
        lambda g: oracle.le_teacher(g, 0.7, weight, temperature),
        **shape,
        alpha=0.7,
        weight=weight,
        temperature=temperature,
    )
    table_loss("cwtm", oracle.cwtm, **shape)
    table_loss("dml", lambda g: oracle.dml(g, weight), **shape, weight=weight)


@pytest.mark.parametrize(
    ("key", "options", "weights"),
    [
        ("kd", {"weight": 0.25}, {"kd": 1, "ce": 0.25}),
        ("takd", {"weight": 0.25}, {"kd": 1, "ce": 0.25}),
        ("dkpp", {"weight": 0.25}, {"kd": 1, "ce": 0.25}),
        ("ban", {}, {"kd": 1}),
        ("ban+l", {"weight": 0.25}, {"kd": 1, "ce": 0.25}),
        ("cwtm", {}, {"cwtm": 1}),
        ("cwtm-permut", {}, {"cwtm": 1}),
        ("cwtm-random", {}, {"cwtm": 1}),
        ("dml", {"weight": 0.25}, {"ce": 1, "kl": 0.25, "peer_ce": 1, "peer_kl": 0.25}),
        ("hint", {"warmup": 1}, {"hint": 1}),
        ("hint", {"weight": 0.25}, {"kd": 1, "ce": 0.25}),
        ("at", {"weight": 0.25, "attention_weight": 7.0}, {"kd": 1, "ce": 0.25, "at": 7.0}),
        ("fsp", {"warmup": 1}, {"flow12": 1, "flow23": 1}),
        ("fsp", {"weight": 0.25}, {"kd": 1, "ce": 0.25}),
        ("le-teacher", {"weight": 0.25}, {"soft": 1, "ce": 0.25}),
        ("le-teacher", {"weight": 0.25, "warmup": 1}, {"ce": 1}),
    ],
)
def test_the_terms_make_up_the_loss(key, options, weights):
    method, x, y = ready(key, **options)
    step = method(x, y)
    assert set(step.terms) == set(weights)
    torch.testing.assert_close(sum(weights[name] * term for name, term in step.terms.items()), step.loss)


def swapped(student, teacher, temperature):
    log_p, log_q = ((logits / temperature).log_softmax(1) for logits in (student, teacher))
    return temperature**2 * F.kl_div(log_q, log_p.exp(), reduction="batchmean")


def without_t_squared(student, teacher, temperature):
    return F.kl_div(
        (student / temperature).log_softmax(1), (teacher / temperature).softmax(1), reduction="batchmean"
    )


def default_reduction(student, teacher, temperature):
    arguments = (student / temperature).log_softmax(1), (teacher / temperature).softmax(1)
    return temperature**2 * torch.nn.KLDivLoss()(*arguments)


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("mistake", [swapped, without_t_squared, default_reduction])
@pytest.mark.parametrize("name", ["kd", "takd", "ban", "ban+l", "at", "hint, stage 2", "fsp, stage 2"])
def test_a_wrong_divergence_would_be_caught(monkeypatch, name, mistake):
    monkeypatch.setattr(losses, "distillation", mistake)
    with pytest.raises(AssertionError):
        check_step(*STEPS[name])


@pytest.mark.parametrize("name", ["kd", "takd", "ban+l", "at", "hint, stage 2", "fsp, stage 2"])
def test_a_weight_on_the_wrong_term_would_be_caught(monkeypatch, name):
    def wrong(self, student, teacher, y):
        kd, ce = self.knowledge(student, teacher), F.cross_entropy(student, y)
        return Step(self.weight * kd + ce, student.detach(), {})

    monkeypatch.setattr(Distillation, "distilled", wrong)
    with pytest.raises(AssertionError):
        check_step(*STEPS[name])


def test_a_weight_of_dml_on_the_label_would_be_caught(monkeypatch):
    right = MutualLearning.forward

    def wrong(self, x, y, *others):
        step = right(self, x, y)
        terms = step.terms
        loss = self.weight * (terms["ce"] + terms["peer_ce"]) + terms["kl"] + terms["peer_kl"]
        return replace(step, loss=loss.requires_grad_())

    monkeypatch.setattr(MutualLearning, "forward", wrong)
    with pytest.raises(AssertionError, match="comparison failed"):
        check_step(*STEPS["dml"])


def test_a_mutual_divergence_the_wrong_way_round_is_caught_by_its_gradient(monkeypatch):
    check_mutual_gradients()
    right = losses.mutual
    monkeypatch.setattr(losses, "mutual", lambda own, peer: _attached(peer.detach(), own))
    with pytest.raises(AssertionError):
        check_mutual_gradients()
    monkeypatch.setattr(
        losses, "mutual", _attached
    )  # a missing detach: each also learns to be easy for the other
    with pytest.raises(AssertionError):
        check_mutual_gradients()
    monkeypatch.setattr(losses, "mutual", right)
    check_mutual_gradients()


def _attached(own, peer):
    return F.kl_div(own.log_softmax(1), peer.softmax(1), reduction="batchmean")


def check_mutual_gradients():
    """Zhang et al.: each network's gradient is (1/b) · [(p - y) + weight · (p - other's p)]."""
    method, x, y = tables("dml", weight=0.3)
    given = seen(method, x, y)
    method(x, y).loss.backward()
    one_hot = F.one_hot(y, 5).double().numpy()
    for module, own, other in (
        (method.model, given.own, given.peer),
        (method.peer, given.peer, given.own),
    ):
        p, q = oracle.losses.softmax(own), oracle.losses.softmax(other)
        np.testing.assert_allclose(module.logits.grad, ((p - one_hot) + 0.3 * (p - q)) / 8, atol=1e-12)


def test_both_networks_of_dml_learn_and_start_apart():
    method, x, y = ready("dml")
    own, other = (torch.nn.utils.parameters_to_vector(m.parameters()) for m in (method.model, method.peer))
    assert not torch.equal(own, other)
    method(x, y).loss.backward()
    for module in (method.model, method.peer):
        assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_every_method_of_the_paper_is_there_in_the_order_of_the_design():
    without = "ce dropout ls cp le le-permut le-uniform le-teacher"
    taught = "kd cwtm cwtm-permut cwtm-random dkpp ban ban+l dml hint at fsp takd"
    assert registry.names() == [*without.split(), *taught.split(), "probe"]
