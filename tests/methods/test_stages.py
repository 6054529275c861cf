"""The features that hints, attention and flows compare, and the networks whose features cannot be compared."""

import gc
import weakref

import pytest
import torch
from torch import nn

from selftaught import models
from selftaught.errors import InputError
from selftaught.methods import registry, stages
from selftaught.methods.base import Casting


def companions(key, student, teacher, size=16, **options):
    """What a trainer asks for before it binds."""
    student, teacher = (
        models.create(name, 5, 3, size) if isinstance(name, str) else name for name in (student, teacher)
    )
    casting = Casting(nn.Identity, torch.randn(2, 3, size, size))
    return registry.create(key, **options).companions(student, teacher, casting)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet8", [(16, 15, 15), (32, 8, 8), (64, 4, 4)]),
        ("cnn6", [(16, 7, 7), (32, 3, 3), (64, 1, 1)]),
        ("mlp", []),
    ],
)
def test_shapes(name, expected):
    assert stages.shapes(models.create(name, 5, 3, 15), torch.randn(2, 3, 15, 15)) == expected


def test_a_run_is_the_forward_pass():
    model, x = models.create("cnn8", 5, 3, 16), torch.randn(4, 3, 16, 16)
    model.eval()
    logits, outputs = stages.run(model, x)
    assert torch.equal(logits, model(x))
    for index, output in enumerate(outputs, 1):
        assert torch.equal(output, model.features[:index](x))
    assert len(outputs) == 4
    outputs[1].sum().backward()
    assert model.features.stage1.conv1.weight.grad.abs().sum() > 0


def test_shapes_leave_the_model_and_the_rng_as_found():
    model = models.create("resnet8", 5, dropout=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    stages.shapes(model, torch.randn(2, 3, 16, 16, generator=torch.Generator()))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(part.training for part in model.modules())


def test_hooks_go_after_an_exception_too():
    model = models.create("resnet8", 5)
    with pytest.raises(RuntimeError):
        stages.run(model, torch.randn(2, 4, 16, 16))
    assert not any(part._forward_hooks for part in model.modules())


def test_a_step_does_not_keep_the_features():
    model = models.create("resnet8", 5)
    gc.disable()  # a cycle would keep every step's graph until the collector comes
    try:
        feature = weakref.ref(stages.run(model, torch.randn(2, 3, 16, 16))[1][0])
        assert feature() is None
    finally:
        gc.enable()


def test_compiled_networks_are_seen_too():
    model, x = models.create("resnet8", 5).eval(), torch.randn(2, 3, 16, 16)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        compiled(x)
        logits, outputs = stages.run(compiled, x)
        torch.testing.assert_close(logits, model(x))
    assert [output.shape[1] for output in outputs] == [16, 32, 64]


@pytest.mark.parametrize("key", ["hint", "at", "fsp"])
def test_networks_without_stages_are_refused(key):
    needed = 2 if key == "hint" else 3
    stages_text = rf"with {needed} stages \(resnet\.\.\., cnn\.\.\.\), this one has 0"
    with pytest.raises(InputError, match=rf"{key} needs a student {stages_text}: use another --method"):
        companions(key, "mlp", "resnet14")
    with pytest.raises(InputError, match=rf"{key} needs a teacher {stages_text}: use another --teacher"):
        companions(key, "resnet8", "mlp")
    objective = registry.create(key)
    with pytest.raises(InputError, match=rf"{key} needs a student"):
        objective.bind(models.create("mlp", 5), models.create("resnet14", 5))
    foreign = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    with pytest.raises(InputError, match=rf"{key} needs a student"):
        companions(key, foreign, "resnet14")


def test_a_stage_that_the_network_does_not_have_is_refused():
    with pytest.raises(InputError, match="hint needs a student with 4 stages"):
        companions("hint", "resnet8", "resnet14", stage=4)
    assert companions("hint", "cnn8", "cnn10", stage=4)["regressor"].out_channels == 256


def test_features_that_do_not_fit_are_refused_before_training():
    with pytest.raises(
        InputError,
        match=r"fsp compares the channels of three stages: the student's are \[16, 32, 64\] and the teacher's "
        r"\[32, 64, 128\]; use a --teacher of the student's family",
    ):
        companions("fsp", "cnn6", "cnn10")
    with pytest.raises(
        InputError,
        match=r"hint compares maps of stage 2: the student's are \(8, 8\) and the teacher's \(4, 4\); use a --teacher",
    ):
        companions("hint", "resnet8", "cnn10")
    with pytest.raises(
        InputError, match=r"at compares the sizes of the stages' maps: the student's are \[\(16, 16\)"
    ):
        companions("at", "resnet8", "cnn10")


def test_flows_of_maps_of_other_sizes_are_compared():
    assert companions("fsp", "resnet8", "cnn6") == {}


def test_attention_compares_the_stages_that_both_have():
    objective = registry.create("at", weight=0.0)
    student, teacher = models.create("cnn6", 5, 3, 16), models.create("cnn10", 5, 3, 16)
    x, y = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])
    assert objective.companions(student, teacher, Casting(nn.Identity, x)) == {}
    objective.bind(student, teacher)
    step = objective.step(x, y)
    step.loss.backward()
    assert step.terms["at"] > 0
