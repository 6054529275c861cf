"""The features that hints, attention and flows compare, and the networks whose features cannot be compared."""

import gc
import weakref

import pytest
import torch
from torch import nn

from selftaught import models
from selftaught.errors import InputError
from selftaught.methods import features, registry


def made(key, student, teacher, size=16, **options):
    """The method of two networks, each by name or as it is."""
    student, teacher = (
        models.create(name, 5, 3, size) if isinstance(name, str) else name for name in (student, teacher)
    )
    return registry.create(key, student, teacher, example=torch.randn(2, 3, size, size), **options)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet8", [(16, 15, 15), (32, 8, 8), (64, 4, 4)]),
        ("cnn6", [(16, 7, 7), (32, 3, 3), (64, 1, 1)]),
        ("mlp", []),
    ],
)
def test_shapes(name, expected):
    network = models.create(name, 5, 3, 15)
    assert features.shapes(network, torch.randn(2, 3, 15, 15), features.built_in(network)) == expected


def test_a_run_is_the_forward_pass():
    model, x = models.create("cnn8", 5, 3, 16), torch.randn(4, 3, 16, 16)
    model.eval()
    logits, outputs = features.run(model, x, features.built_in(model))
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
    features.shapes(model, torch.randn(2, 3, 16, 16, generator=torch.Generator()), features.built_in(model))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(part.training for part in model.modules())


def test_hooks_go_after_an_exception_too():
    model = models.create("resnet8", 5)
    with pytest.raises(RuntimeError):
        features.run(model, torch.randn(2, 4, 16, 16), features.built_in(model))
    assert not any(part._forward_hooks for part in model.modules())


def test_a_step_does_not_keep_the_features():
    model = models.create("resnet8", 5)
    gc.disable()  # a cycle would keep every step's graph until the collector comes
    try:
        feature = weakref.ref(features.run(model, torch.randn(2, 3, 16, 16), features.built_in(model))[1][0])
        assert feature() is None
    finally:
        gc.enable()


def test_compiled_networks_are_seen_too():
    model, x = models.create("resnet8", 5).eval(), torch.randn(2, 3, 16, 16)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        compiled(x)
        logits, outputs = features.run(compiled, x, features.built_in(compiled))
        torch.testing.assert_close(logits, model(x))
    assert [output.shape[1] for output in outputs] == [16, 32, 64]


@pytest.mark.parametrize("key", ["hint", "at", "fsp"])
def test_networks_without_blocks_are_refused(key):
    needed = 2 if key == "hint" else 3
    for role, remedy, networks in (
        ("student", "blocks", ("mlp", "resnet14")),
        ("teacher", "teacher_blocks", ("resnet8", "mlp")),
    ):
        with pytest.raises(
            InputError, match=rf"^{key} needs {needed} blocks of the {role}, not 0: .* {remedy}="
        ):
            made(key, *networks)
    with pytest.raises(InputError, match=f"{key} has to see the shapes of features: give example="):
        registry.create(key, models.create("resnet8", 5), models.create("resnet14", 5))


def test_a_block_that_the_network_does_not_have_is_refused():
    with pytest.raises(InputError, match="hint needs 4 blocks of the student, not 3"):
        made("hint", "resnet8", "resnet14", stage=4)
    assert made("hint", "cnn8", "cnn10", stage=4).regressor.out_channels == 256
    with pytest.raises(
        InputError, match=r"^blocks of the student: layer 'features.stage9' is not in the model: did you mean"
    ):
        made("at", "resnet8", "resnet14", blocks="features.stage1,features.stage9")
    with pytest.raises(
        InputError, match=r"^blocks of the teacher: layer 'features.stage4' is not in the model"
    ):
        made("at", "cnn8", "resnet14", blocks="features.stage4")
    with pytest.raises(InputError, match="blocks names 1 blocks and teacher_blocks 2: name as many"):
        made("at", foreign(4), "resnet8", blocks="0", teacher_blocks="features.stage1, features.stage2")
    with pytest.raises(InputError, match=r"the output of block '3' is of shape \(2, 5\), neither maps"):
        made("at", foreign(4), foreign(4), blocks="3")


def foreign(channels):
    """A network without the built-in ones' names."""
    layers = nn.Conv2d(3, channels, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(channels, 5))


def test_networks_of_anybody_can_be_compared_by_the_names_of_their_blocks():
    x, y = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])
    method = made(
        "hint", foreign(4), "resnet8", blocks="0", teacher_blocks="features.stage1", stage=1, warmup=1
    )
    step = method(x, y)
    step.loss.backward()
    _, [theirs] = features.run(method.teacher.network, x, ["features.stage1"])
    expected = method.regressor(method.model[0](x)) - theirs
    torch.testing.assert_close(step.loss, expected.square().mean())
    assert method.model[0].weight.grad.abs().sum() > 0


class Tokens(nn.Module):
    """A transformer in little: a block returns its tokens (B, N, D) in a tuple, as those of the Hub do."""

    class Block(nn.Linear):
        def forward(self, x):
            return (super().forward(x),)

    def __init__(self):
        super().__init__()
        self.block, self.head = self.Block(3, 6), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.block(x.flatten(2).mT)[0].mean(1))


def test_tokens_are_maps_of_one_column():
    network, x = Tokens(), torch.randn(2, 3, 4, 4)
    _, [maps] = features.run(network, x, ["block"])
    assert torch.equal(maps, network.block(x.flatten(2).mT)[0].mT[..., None])
    method = made("at", Tokens(), network, blocks="block")
    assert method(torch.randn(2, 3, 16, 16), torch.tensor([0, 1])).terms["at"] > 0


def test_features_that_do_not_fit_are_refused_before_training():
    with pytest.raises(
        InputError,
        match=r"fsp compares the channels of three blocks: the student's are \[16, 32, 64\] and the teacher's "
        r"\[32, 64, 128\]; use a --teacher of the student's family",
    ):
        made("fsp", "cnn6", "cnn10")
    with pytest.raises(
        InputError,
        match=r"hint compares maps of block 2: the student's are \(8, 8\) and the teacher's \(4, 4\); use a --teacher",
    ):
        made("hint", "resnet8", "cnn10")
    with pytest.raises(
        InputError, match=r"at compares the sizes of the blocks' maps: the student's are \[\(16, 16\)"
    ):
        made("at", "resnet8", "cnn10")


def test_flows_of_maps_of_other_sizes_are_compared():
    made("fsp", "resnet8", "cnn6")


def test_attention_compares_the_blocks_that_both_have():
    method = made("at", "cnn6", "cnn10", weight=0.0)
    step = method(torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 3]))
    step.loss.backward()
    assert step.terms["at"] > 0
