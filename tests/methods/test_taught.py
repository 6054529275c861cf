"""What holds of every method that learns from another network: who changes, who does not, and what is refused."""

import copy

import pytest
import torch
from torch import nn

from selftaught import models
from selftaught.errors import InputError
from selftaught.methods import registry
from selftaught.methods.base import Casting
from tests.methods.lessons import TAUGHT, network, ready, state

ALL = {**{key: {} for key in registry.names()}, **TAUGHT}
FEATURES = ["hint", "at", "fsp"]


def steps(objective, x, y, number, lr=0.02):
    """The losses of a few optimiser steps on one batch, in the second stage where there is one."""
    parts = [objective.model, *(getattr(objective, name, None) for name in ("peer", "regressor"))]
    parameters = [p for part in parts if part is not None for p in part.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=lr)
    found = []
    for _ in range(number):
        optimizer.zero_grad()
        step = objective.step(x, y)
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
    objective, x, y = ready(key, **TAUGHT[key])
    objective.start_epoch(epoch)
    before, _ = state(objective.teacher)
    student = state(objective.model)[0]
    steps(objective, x, y, 3)
    after, modes = state(objective.teacher)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(modes)
    assert not any(p.requires_grad or p.grad is not None for p in objective.teacher.parameters())
    moved = [not torch.equal(student[name], value) for name, value in objective.model.state_dict().items()]
    assert any(moved)


@pytest.mark.parametrize("key", TAUGHT)
def test_a_teacher_in_train_mode_with_gradients_is_neither_once_bound(key):
    objective = registry.create(key, **TAUGHT[key])
    student, teacher = network("resnet8"), network("resnet8")
    x, y = torch.randn(6, 3, 16, 16, dtype=torch.float64), torch.tensor([0, 4, 1, 1, 2, 3])
    made = objective.companions(student, teacher, Casting(lambda: network("resnet8"), x[:2]))
    assert teacher.training
    objective.bind(student, teacher, {name: part.double() for name, part in made.items()})
    assert not any(part.training for part in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    teacher.train()  # by whoever else holds it
    before, _ = state(teacher)
    objective.start_epoch(0)
    objective.step(x, y).loss.backward()
    after, modes = state(teacher)
    assert not any(modes)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("key", ALL)
def test_the_student_stays_in_train_mode(key):
    objective, x, y = ready(key, **ALL[key])
    before = state(objective.model)[0]
    for epoch in (0, 1):
        objective.start_epoch(epoch)
        objective.step(x, y)
        assert all(part.training for part in objective.model.modules())
    counted = {name: value for name, value in objective.model.state_dict().items() if "num_batches" in name}
    assert counted
    assert all(value == before[name] + 2 for name, value in counted.items())


@pytest.mark.parametrize("key", ALL)
def test_a_step_runs_each_network_once(key):
    objective, x, y = ready(key, **ALL[key])
    others = [getattr(objective, name) for name in ("teacher", "peer") if hasattr(objective, name)]
    student, rest = calls_of(objective.model), [calls_of(other) for other in others]
    stages = calls_of(objective.model.features.stage2)
    for epoch in (0, 1):
        objective.start_epoch(epoch)
        if key in ("le", "le-permut"):
            objective.step(x, y)  # its first step probes how the network can be explained
        for counts in (student, stages, *rest):
            counts.clear()
        objective.step(x, y).loss.backward()
        assert [len(counts) for counts in (student, stages, *rest)] == [1] * (2 + len(rest))


@pytest.mark.parametrize("key", ALL)
def test_a_step_takes_no_hooks_along(key):
    objective, x, y = ready(key, **ALL[key])
    objective.step(x, y)
    parts = [*objective.model.modules(), *getattr(objective, "teacher", nn.Identity()).modules()]
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
    objective, x, y = ready(key, student, "resnet8" if student != "mlp" else "mlp", **options)
    for epoch in (0, 1):
        objective.start_epoch(epoch)
        losses = steps(objective, x, y, 6)
        if key not in ("dropout", "cwtm-permut", "cwtm-random", "dkpp", "le-permut"):
            assert losses[-1] < losses[0]
        else:  # what is drawn anew at each step moves the loss as well
            assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.parametrize("key", ALL)
def test_half_precision_by_autocast(key):
    objective, x, y = ready(key, dtype=torch.float32, **ALL[key])
    for epoch in (0, 1):
        objective.start_epoch(epoch)
        rng = torch.get_rng_state()
        exact = copy.deepcopy(objective).step(x, y).loss
        torch.set_rng_state(rng)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            step = objective.step(x, y)
        step.loss.backward()
        assert step.loss.dtype == torch.float32
        assert step.loss.item() == pytest.approx(exact.item(), rel=0.1)
        assert all(p.grad.isfinite().all() for p in objective.model.parameters() if p.grad is not None)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("key", ["kd", "dml", *FEATURES])
def test_networks_wrapped_by_fabric(key, precision):
    from lightning_fabric import Fabric

    objective, x, y = ready(key, dtype=torch.float32, **ALL[key])
    expected = copy.deepcopy(objective).step(x, y)
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    wrapped = {
        name: fabric.setup_module(getattr(objective, name))
        for name in ("model", "teacher", "peer", "regressor")
        if hasattr(objective, name)
    }
    objective.bind(wrapped.pop("model"), wrapped.pop("teacher", None), wrapped)
    step = objective.step(x, y)
    fabric.backward(step.loss)
    torch.testing.assert_close(
        step.loss, expected.loss, rtol=0.1 if precision == "bf16-mixed" else 1e-6, atol=1e-6
    )
    assert not getattr(objective, "teacher", nn.Identity().eval()).training


@pytest.mark.parametrize("key", TAUGHT)
def test_no_teacher_is_refused(key):
    source = registry.find(key).learns_from
    with pytest.raises(
        InputError, match=rf"^{key.replace('+', '.')} learns from a {source} and got none: give one"
    ):
        registry.create(key).bind(network("resnet8"))
    if key in FEATURES:
        assert (
            registry.create(key).companions(network("resnet8"), None, Casting(nn.Identity, torch.zeros(2)))
            == {}
        )


def test_learning_from_oneself_is_refused():
    student = network("resnet8")
    with pytest.raises(InputError, match="kd cannot learn from the network it trains"):
        registry.create("kd").bind(student, nn.DataParallel(student))


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


@pytest.mark.parametrize(("key", "name"), [("dml", "peer"), ("hint", "regressor")])
def test_a_companion_that_is_missing_is_refused(key, name):
    teacher = network("resnet14") if registry.find(key).learns_from else None
    with pytest.raises(InputError, match=f"{key} trains a {name} along: bind it with what its companions"):
        registry.create(key).bind(network("resnet8"), teacher)


def test_the_companions():
    x = torch.randn(2, 3, 16, 16)
    student, teacher = (models.create(name, 5, 3, 16) for name in ("cnn6", "cnn10"))
    twin = models.create("cnn6", 5, 3, 16)
    made = {
        key: registry.create(key).companions(student, teacher, Casting(lambda: twin, x))
        for key in registry.names()
        if key != "fsp"
    }
    assert made["dml"] == {"peer": twin}
    regressor = made["hint"]["regressor"]
    assert (regressor.in_channels, regressor.out_channels, regressor.kernel_size) == (32, 64, (1, 1))
    assert [key for key, companions in made.items() if companions] == ["dml", "hint"]


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
        registry.create(key, **options)


def test_whole_numbers_are_numbers():
    assert registry.create("kd", temperature=2).temperature == 2
    assert registry.create("hint", stage=3).stage == 3
