"""What a run keeps of its explanations along the way: which epochs and images, undisturbed training, and the file."""

import contextlib
import dataclasses
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from torch import nn

import selftaught
from selftaught.errors import InputError
from selftaught.files import trace
from selftaught.training import tracing
from selftaught.training.loop import Autosave, Position, train_epoch
from selftaught.training.presets import data_of
from selftaught.training.run import train
from selftaught.training.session import start
from tests.training import quick, stored
from tests.unsealed import unseal

SALIENCIES = ["grad-cam", "grad", "grad-input", "guided-backprop"]


@dataclasses.dataclass
class Data:
    """As much of `ImageData` as is looked at."""

    test_images: torch.Tensor
    test_labels: torch.Tensor
    num_classes: int


def data(classes=4, count=40, shape=(3, 8, 8)):
    labels = torch.randperm(count) % classes
    return Data(torch.randint(256, (count, *shape), dtype=torch.uint8), labels, classes)


def conv(classes, channels=3):
    return nn.Sequential(
        nn.Conv2d(channels, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Dropout(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, classes),
    )


@pytest.mark.parametrize(
    ("length", "warmup", "expected"),
    [(160, 32, (1, 32, 80, 160)), (50, 10, (1, 10, 25, 50)), (8, 0, (1, 4, 8)), (2, 1, (1, 2)), (1, 0, (1,))],
)
def test_epochs(length, warmup, expected):
    config = stored.config(method="le", saliency="grad-cam", warmup=0)
    long = config.model_copy(update={"epochs": length, "settings": config.settings | {"warmup": warmup}})
    assert tracing.epochs(long) == expected


@pytest.mark.parametrize(
    ("method", "kept"), [("ce", ()), ("le-uniform", ()), ("le", (1, 3)), ("le-permut", (1, 3))]
)
def test_methods_that_explain_have_epochs(method, kept):
    assert tracing.epochs(quick.config(method, warmup=None if method == "ce" else 1)) == kept


@pytest.mark.parametrize(
    ("of_config", "saliency"),
    [({"saliency": "grad"}, "grad"), ({"saliency": "grad-cam", "similarity": "wasserstein"}, "grad-cam")],
)
def test_a_snapshot_is_what_the_library_says(of_config, saliency):
    images, model = data(classes=6), stored.trained(conv(6), classes=6, method="le", **of_config)
    found = tracing.snapshot(model, images)
    index = found["index"]
    assert found["labels"].tolist() == [0, 2, 3, 5]
    assert index.tolist() == [images.test_labels.tolist().index(label) for label in (0, 2, 3, 5)]
    assert found["classes"].tolist() == list(range(6))
    torch.testing.assert_close(found["images"], images.test_images[index])
    expected = selftaught.explain(model.eval(), found["images"].float() / 255, saliency)
    maps = expected.maps.sum(2) if saliency == "grad" else expected.maps
    torch.testing.assert_close(found["maps"], maps, atol=1e-6, rtol=0)
    measure = selftaught.similarity.get(of_config.get("similarity", "cosine"))
    torch.testing.assert_close(
        found["similarity"], measure(expected.maps, found["labels"]), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(found["probabilities"], expected.logits.softmax(1), atol=1e-6, rtol=0)


def test_of_many_classes_ten_are_kept_and_the_labels_are_among_them():
    images, model = data(classes=30, count=90), stored.trained(conv(30), classes=30, method="le")
    found = tracing.snapshot(model, images)
    assert found["labels"].tolist() == [0, 10, 19, 29]
    assert found["classes"].tolist() == [0, 1, 2, 3, 4, 5, 6, 10, 19, 29]
    everything = selftaught.explain(model, found["images"].float() / 255).maps
    torch.testing.assert_close(found["maps"], everything[:, found["classes"]], atol=1e-6, rtol=0)
    assert found["similarity"][torch.arange(4), [0, 7, 8, 9]].tolist() == pytest.approx([1] * 4, abs=1e-5)


def test_fewer_images_where_there_are_fewer_classes_and_small_maps():
    model = stored.trained(conv(3), classes=3, shape=(3, 70, 70), method="le", saliency="grad")
    found = tracing.snapshot(model, data(3, 9, (3, 70, 70)))
    assert found["labels"].tolist() == [0, 1, 2]
    assert found["maps"].shape == (3, 3, 24, 24)
    lonely = data(3, 9, (3, 70, 70))
    lonely.test_labels = torch.full((9,), 2)
    assert tracing.snapshot(model, lonely)["labels"].tolist() == [2]


class Hostile(nn.Module):
    """Raises, draws random numbers and changes its buffer, also in eval mode."""

    def __init__(self, error=None):
        super().__init__()
        self.body, self.error = conv(4), error
        self.register_buffer("calls", torch.zeros(1), persistent=False)

    def forward(self, x):
        self.calls += random.random() + np.random.rand() + torch.rand(1)
        if self.error is not None:
            raise self.error
        return self.body(x)


def state_of(model):
    return (
        {name: value.clone() for name, value in [*model.named_parameters(), *model.named_buffers()]},
        {name: parameter.grad for name, parameter in model.named_parameters()},
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()),
        [len(module._forward_hooks) + len(module._backward_hooks) for module in model.modules()],
    )


def assert_same(a, b):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_same(a[name], b[name])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert a == b


@pytest.mark.parametrize("saliency", SALIENCIES)
@pytest.mark.parametrize("error", [None, RuntimeError("no"), MemoryError()], ids=["fine", "error", "memory"])
def test_everything_is_left_as_found(saliency, error):
    model = stored.trained(Hostile(), classes=4, method="le", saliency=saliency).train()
    model.model.body[3].eval()  # a part that the user keeps in another mode
    model(torch.rand(4, 3, 8, 8)).sum().backward()
    model.model.body[0].weight.requires_grad_(False)
    model.model.error = error
    images = data()
    before = state_of(model)
    found = tracing.snapshot(model, images)
    assert bool(found) == (error is None)
    assert_same(state_of(model), before)


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_a_training_with_snapshots_ends_as_one_without(saliency):
    config = quick.config(
        "le", model="resnet8", image_size=16, epochs=2, warmup=1, saliency=saliency, augment="crop"
    )
    images = data_of(config)
    ends = []
    for watched in (False, True):
        session, position = start(config, images), Position()
        trained = stored.trained(session.network, shape=(1, 16, 16), method="le", saliency=saliency)
        for _ in range(2):
            train_epoch(session, position, lambda: None, lambda: False, Autosave(lambda: None, 1e9))
            if watched:
                session.network.train()
                assert tracing.snapshot(trained, images)
                assert session.network.training
            position.next_epoch()
        ends.append(session.state())
    assert_same(*ends)


def dead(network):
    for parameter in network.parameters():
        parameter.data.zero_()
    return network


def overflowing(network):
    network[-1].weight.data.fill_(torch.inf)
    return network


@pytest.mark.parametrize(
    "network", [dead(conv(4)), overflowing(conv(4)), nn.Sequential(nn.Flatten(), nn.Linear(192, 4))]
)
def test_what_cannot_be_explained_has_no_snapshot(network):
    assert tracing.snapshot(stored.trained(network, classes=4, method="le"), data()) == {}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run and its configuration."""
    directory = tmp_path_factory.mktemp("runs") / "le"
    config = quick.config("le", warmup=1, epochs=4)
    train(config, directory)
    return directory, config


def test_a_run_writes_and_gives_back_its_snapshots(run):
    directory, config = run
    snapshots = trace.read(directory)
    assert tuple(snapshots) == tracing.epochs(config) == (1, 2, 4)
    images = data_of(config)
    for kept in snapshots.values():
        assert (kept.images == images.test_images[torch.from_numpy(kept.index)].numpy()).all()
        assert kept.maps.shape[:2] == kept.similarity.shape == (4, 10)
    assert not np.array_equal(snapshots[1].maps, snapshots[4].maps)
    last = tracing.snapshot(selftaught.load(directory), images)
    for name, value in last.items():
        assert getattr(snapshots[4], name) == pytest.approx(value.numpy(), abs=1e-5)


def test_packing_is_reproducible_and_whole(tmp_path):
    model = stored.trained(conv(4), classes=4, method="le", saliency="grad")
    first = tracing.snapshot(model, data())
    turned = {name: value.clone() for name, value in reversed(first.items())}
    content = trace.pack({1: first, 9: first})
    assert content == trace.pack({9: turned, 1: turned})
    (tmp_path / "t").write_bytes(content)
    kept = load_file(tmp_path / "t")
    assert len(kept) == 2 * len(first)
    for name, value in first.items():
        assert (kept[f"e9.{name}"] == value.numpy()).all()


def test_reading_needs_no_torch(run):
    code = (
        "import sys; from selftaught.files import trace\n"
        f"print(len(trace.read({str(run[0])!r})), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3 False\n"


@pytest.fixture
def copy(run, tmp_path):
    """The run's directory, to be damaged."""
    for path in run[0].iterdir():
        if path.name in ("config.json", "result.json", trace.TRACE):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    unseal(tmp_path)
    return tmp_path


def change(directory, **tensors):
    path = directory / trace.TRACE
    kept = load_file(path)
    for name, alter in tensors.items():
        name = name.replace("_", ".")
        value = alter(kept.pop(name, None))
        if value is not None:
            kept[name] = np.ascontiguousarray(value)
    save_file(kept, path)


def put(position, value):
    def alter(array):
        array = array.copy()
        array[position] = value
        return array

    return alter


DAMAGE = {
    "missing tensor": {"e1_maps": lambda a: None},
    "an epoch too late": {f"e99_{name}": lambda a: np.zeros(1) for name in ("maps",)},
    "another tensor": {"e1_extra": lambda a: np.zeros(1)},
    "a strange name": {"strange": lambda a: np.zeros(1)},
    "epoch 0": {"e0_maps": lambda a: np.zeros(1)},
    "float64": {"e1_maps": lambda a: a.astype(np.float64)},
    "fewer classes": {"e1_probabilities": lambda a: a[:, :9]},
    "fewer maps": {"e1_maps": lambda a: a[:, :9]},
    "no map": {"e1_maps": lambda a: a[..., :0]},
    "not finite": {"e1_maps": put((0, 0, 0, 0), np.nan)},
    "other pixels": {"e1_images": put((0, 0, 0, 0), 77)},
    "four channels": {f"e{k}_images": lambda a: a.repeat(4, axis=1) for k in (1, 2, 4)},
    "large maps": {f"e{k}_maps": lambda a: a.repeat(40, axis=2) for k in (1, 2, 4)},
    "no probability": {"e1_probabilities": put((0, 0), 1.5)},
    "no similarity": {"e1_similarity": put((0, 1), -2)},
    "no class": {f"e{k}_classes": put(9, 10) for k in (1, 2, 4)},
    "classes out of order": {f"e{k}_classes": lambda a: a[::-1] for k in (1, 2, 4)},
    "a label not explained": {f"e{k}_labels": put(0, 10) for k in (1, 2, 4)},
    "a negative position": {f"e{k}_index": put(0, -1) for k in (1, 2, 4)},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_in_one_line_that_names_the_file(copy, damage):
    assert len(trace.read(copy)) == 3
    change(copy, **DAMAGE[damage])
    with pytest.raises(InputError, match=r"trace\.safetensors is damaged \(.+\): remove ") as caught:
        trace.read(copy)
    assert "\n" not in str(caught.value)


@settings(max_examples=30)
@given(st.binary(max_size=200), st.integers(0, 400), st.booleans())
def test_any_bytes_are_read_or_refused(run, tmp_path_factory, noise, position, insert):
    directory = tmp_path_factory.mktemp("noise")
    for name in ("config.json", "result.json"):
        (directory / name).write_bytes((run[0] / name).read_bytes())
    unseal(directory)
    content = (run[0] / trace.TRACE).read_bytes() if insert else b""
    (directory / trace.TRACE).write_bytes(content[:position] + noise + content[position + len(noise) :])
    with contextlib.suppress(InputError):
        assert all(np.isfinite(kept.maps).all() for kept in trace.read(directory).values())


def test_a_run_without_a_trace_has_none(copy):
    (copy / trace.TRACE).unlink()
    assert trace.read(copy) == {}
    (copy / trace.TRACE).write_bytes(trace.pack({}))
    assert trace.read(copy) == {}
    with pytest.raises(InputError, match="is not a run directory"):
        trace.read(copy / "nothing")
