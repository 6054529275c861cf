"""What holds of every method that learns from another network: who changes, who does not, and what is refused."""

import copy

import pytest
import torch
from torch import nn

from selftaught.errors import InputError
from selftaught.methods import registry
from tests.methods.lessons import TAUGHT, network, ready, state

ALL = {**{key: {} for key in registry.names()}, **TAUGHT}
FEATURES = ["hint", "at", "fsp"]


def steps(method, x, y, number, lr=0.02):
    """The losses of a few optimiser steps on one batch, past the warm-up where there is one."""
    optimizer = torch.optim.SGD(method.parameters(), lr=lr)
    found = []
    for _ in range(number):
        optimizer.zero_grad()
        step = method(x, y)
        step.loss.backward()
        optimizer.step()
        found.append(step.loss.item())
    return found


def calls_of(module):
    counts = []
    module.register_forward_pre_hook(lambda *_: counts.append(1))
    return counts


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("key", TAUGHT)
def test_a_teacher_stays_as_it_is(key, epoch):
    """Whoever else holds it may set it to train, and so may the method's own `train`."""
    method, x, y = ready(key, **TAUGHT[key])
    teacher = method.teacher.network
    method.start_epoch(epoch)
    before, _ = state(teacher)
    student = state(method.model)[0]
    for train in (method.train, teacher.train):
        train()
        steps(method, x, y, 2)
        after, modes = state(teacher)
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert not any(modes)
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    moved = [not torch.equal(student[name], value) for name, value in method.model.state_dict().items()]
    assert any(moved)


def test_a_teacher_is_not_saved_nor_trained_but_moves_along():
    method, _, _ = ready("hint")
    teacher = method.teacher.network
    own = {id(parameter) for parameter in method.parameters()}
    assert not own & {id(parameter) for parameter in teacher.parameters()}
    assert {name.split(".")[0] for name in method.state_dict()} == {"model", "regressor", "_extra_state"}
    method.to(torch.float32)
    assert {p.dtype for p in (*method.parameters(), *teacher.parameters())} == {torch.float32}


@pytest.mark.parametrize("key", ["dml", "hint"])
def test_what_is_trained_beside_the_student_is_a_part_of_the_method(key):
    method, x, y = ready(key)
    other, _, _ = ready(key)
    assert not torch.equal(method(x, y).loss, other(x, y).loss)
    other.load_state_dict(method.state_dict())
    extra = method.peer if key == "dml" else method.regressor
    assert {id(p) for p in extra.parameters()} < {id(p) for p in method.parameters()}
    twin = other.peer if key == "dml" else other.regressor
    assert all(map(torch.equal, extra.parameters(), twin.parameters()))


@pytest.mark.parametrize("key", ALL)
def test_the_student_stays_in_train_mode(key):
    method, x, y = ready(key, **ALL[key])
    before = state(method.model)[0]
    for epoch in (0, 1):
        method.start_epoch(epoch)
        method(x, y)
        assert all(part.training for part in method.model.modules())
    counted = {name: value for name, value in method.model.state_dict().items() if "num_batches" in name}
    assert counted
    assert all(value == before[name] + 2 for name, value in counted.items())


@pytest.mark.parametrize("key", ALL)
def test_a_step_runs_each_network_once(key):
    method, x, y = ready(key, **ALL[key])
    others = [getattr(method, name) for name in ("teacher", "peer") if hasattr(method, name)]
    others = [getattr(other, "network", other) for other in others]
    student, rest = calls_of(method.model), [calls_of(other) for other in others]
    stages = calls_of(method.model.features.stage2)
    for epoch in (0, 1):
        method.start_epoch(epoch)
        if key in ("le", "le-permut"):
            method(x, y)  # its first step probes how the network can be explained
        for counts in (student, stages, *rest):
            counts.clear()
        method(x, y).loss.backward()
        assert [len(counts) for counts in (student, stages, *rest)] == [1] * (2 + len(rest))


@pytest.mark.parametrize("key", ALL)
def test_a_step_takes_no_hooks_along(key):
    method, x, y = ready(key, **ALL[key])
    method(x, y)
    teachers = [method.teacher.network] if hasattr(method, "teacher") else []
    parts = [part for network in (method.model, *teachers) for part in network.modules()]
    assert not any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in parts)


@pytest.mark.parametrize(
    ("key", "student"),
    [*((key, "resnet8") for key in ALL), *((key, "mlp") for key in ALL if key not in FEATURES)],
)
def test_the_loss_falls(key, student):
    options = {} if key.startswith("le") else dict(ALL[key])
    if student == "mlp" and "saliency" in registry.settings(key):
        options["saliency"] = "grad"
    if key == "fsp":
        options["flow_weight"] = 0.001
    method, x, y = ready(key, student, "resnet8" if student != "mlp" else "mlp", **options)
    for epoch in (0, 1):
        method.start_epoch(epoch)
        losses = steps(method, x, y, 6)
        if key not in ("dropout", "cwtm-permut", "cwtm-random", "dkpp", "le-permut"):
            assert losses[-1] < losses[0]
        else:  # what is drawn anew at each step moves the loss as well
            assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.parametrize("key", ALL)
def test_half_precision_by_autocast(key):
    method, x, y = ready(key, dtype=torch.float32, **ALL[key])
    for epoch in (0, 1):
        method.start_epoch(epoch)
        rng = torch.get_rng_state()
        exact = copy.deepcopy(method)(x, y).loss
        torch.set_rng_state(rng)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            step = method(x, y)
        step.loss.backward()
        assert step.loss.dtype == torch.float32
        assert step.loss.item() == pytest.approx(exact.item(), rel=0.1)
        assert all(p.grad.isfinite().all() for p in method.model.parameters() if p.grad is not None)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("key", ["kd", "dml", *FEATURES])
def test_networks_wrapped_by_fabric(key, precision):
    """Each by itself, as the trainer has them; what the method makes of them computes in their precision."""
    from lightning_fabric import Fabric

    method, x, y = ready(key, dtype=torch.float32, **ALL[key])
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    teacher = (
        fabric.setup_module(copy.deepcopy(method.teacher.network)) if hasattr(method, "teacher") else None
    )
    peers = [fabric.setup_module(copy.deepcopy(method.peer))] if hasattr(method, "peer") else []
    model = fabric.setup_module(copy.deepcopy(method.model))
    wrapped = registry.create(key, model, teacher, peers, x[:2], **ALL[key])
    if hasattr(method, "regressor"):
        wrapped.regressor.load_state_dict(method.regressor.state_dict())
    expected, step = method(x, y), wrapped(x, y)
    fabric.backward(step.loss)
    torch.testing.assert_close(
        step.loss, expected.loss, rtol=0.1 if precision == "bf16-mixed" else 1e-6, atol=1e-6
    )
    assert all(p.grad.isfinite().all() for p in wrapped.parameters() if p.grad is not None)


@pytest.mark.parametrize("key", TAUGHT)
def test_no_teacher_is_refused(key):
    source = registry.find(key).learns_from
    with pytest.raises(
        InputError, match=rf"^{key.replace('+', '.')} learns from a {source} and got none: give one"
    ):
        registry.create(key, network("resnet8"))


def test_learning_from_oneself_is_refused():
    student = network("resnet8")
    with pytest.raises(InputError, match="kd cannot learn from the network it trains"):
        registry.create("kd", student, nn.DataParallel(student))


def test_as_many_peers_as_are_trained_are_asked_for():
    with pytest.raises(InputError, match="dml trains 1 further networks, not 0: give as many peers"):
        registry.create("dml", network("resnet8"))


def test_what_a_method_learns_from_and_with():
    found = {key: (registry.find(key).learns_from, registry.find(key).peers) for key in registry.names()}
    assert found == {
        **dict.fromkeys(
            ["ce", "dropout", "ls", "cp", "le", "le-permut", "le-uniform", "cwtm-random", "probe"], ("", 0)
        ),
        **dict.fromkeys(
            ["kd", "cwtm", "cwtm-permut", "dkpp", "hint", "at", "fsp", "le-teacher"], ("teacher", 0)
        ),
        **dict.fromkeys(["ban", "ban+l"], ("twin", 0)),
        "takd": ("assistant", 0),
        "dml": ("", 1),
    }
    with pytest.raises(InputError, match="unknown method 'kdd': did you mean 'kd'"):
        registry.find("kdd")


@pytest.mark.parametrize(
    ("key", "options", "message"),
    [
        ("kd", {"temperature": 0.0}, "temperature must be greater than 0, not 0.0"),
        ("ban", {"temperature": float("nan")}, "temperature must be greater than 0"),
        ("kd", {"temperature": float("inf")}, "temperature must be greater than 0"),
        ("kd", {"weight": -0.1}, "weight must be at least 0"),
        ("ban", {"weight": 0.1}, "unknown setting of ban 'weight'"),
        ("cwtm", {"temperature": 4.0}, "unknown setting of cwtm 'temperature'"),
        ("cwtm-random", {"beta": 1.0}, r"beta must be in \[0, 1\), not 1.0"),
        ("cwtm-random", {"beta": -0.5}, r"beta must be in \[0, 1\)"),
        ("dml", {"weight": float("inf")}, "weight must be at least 0"),
        ("at", {"attention_weight": -1.0}, "attention_weight must be at least 0"),
        ("fsp", {"warmup": -1}, "warmup must be at least 0 epochs"),
        ("fsp", {"flow_weight": 0.0}, "flow_weight must be greater than 0"),
        ("hint", {"stage": 0}, "stage must be at least 1, not 0"),
        ("hint", {"stage": 2.0}, "stage must be like 2, not 2.0"),
        ("hint", {"stage": True}, "stage must be like 2, not True"),
        ("hint", {"stage": "2"}, "stage must be like 2, not '2'"),
        ("kd", {"temperature": "4"}, "temperature must be like 4.0, not '4'"),
        ("kd", {"temperature": True}, "temperature must be like 4.0, not True"),
    ],
)
def test_refused_settings(key, options, message):
    with pytest.raises(InputError, match=message):
        registry.check(key, options)


def test_whole_numbers_are_numbers():
    registry.check("kd", {"temperature": 2})
    registry.check("hint", {"stage": 3})
