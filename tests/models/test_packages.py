"""Classifiers of timm and torchvision: with a stand-in for the package always, with the real ones where they are."""

import enum
import importlib.util
import io
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import selftaught
from selftaught import models
from selftaught.data import pictures
from selftaught.data.preparation import Preparation
from selftaught.errors import InputError
from selftaught.models import packages, torchvision_network
from selftaught.training.run import train
from tests.training import quick

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Tiny(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


class TinyWeights(enum.Enum):
    FIRST = "first"
    DEFAULT = "second"

    @property
    def url(self) -> str:
        return f"https://example.org/tiny-{self.value}.pth"

    def transforms(self):
        resample = SimpleNamespace(value="bicubic")
        return SimpleNamespace(crop_size=[8], resize_size=[10], interpolation=resample, **IMAGENET)


@pytest.fixture
def standin(monkeypatch, tmp_path):
    """A torchvision with one network, whose own weights lie in torch hub's cache."""

    def get_model(name, weights=None, num_classes=1000):
        network = Tiny(num_classes)
        if weights is not None:
            network.load_state_dict(torch.load(hub / f"tiny-{weights.value}.pth"))
        return network

    hub = tmp_path / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    for kind in TinyWeights:
        torch.save(Tiny(1000).state_dict(), hub / f"tiny-{kind.value}.pth")
    package = ModuleType("torchvision")
    package.__version__ = "0.0"
    package.models = SimpleNamespace(
        list_models=lambda module: ["tiny"],
        get_model=get_model,
        get_model_weights=lambda name: TinyWeights,
    )
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for cached in (torchvision_network._head, torchvision_network._own_file):
        cached.cache_clear()
    yield hub
    for cached in (torchvision_network._head, torchvision_network._own_file):
        cached.cache_clear()


@pytest.fixture
def weights(tmp_path) -> Path:
    torch.manual_seed(1)
    save_file(Tiny(1000).state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def refusal(name: str, weights: object = None) -> str:
    with pytest.raises(InputError) as caught:
        models.create(name, 3, 3, 8, weights=None if weights is None else str(weights))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_body_is_the_files_and_the_head_is_new(standin, weights):
    tensors = packages.load_file(weights)
    heads = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = models.create("torchvision:tiny", 3, 3, 8, weights=str(weights))
        own = model.network.state_dict()
        assert all(torch.equal(own[key], tensors[key]) for key in own if not key.startswith("fc."))
        heads.append(model.network.fc.weight)
    assert heads[0].shape == (3, 8)
    assert not torch.equal(*heads)
    (note,) = models.notes("torchvision:tiny", str(weights))
    assert "(fc.bias, fc.weight) is left out" in note


def test_as_many_classes_as_in_the_file_get_a_new_head_too(standin, weights):
    model = models.create("torchvision:tiny", 1000, 3, 8, weights=str(weights))
    assert not torch.equal(model.network.fc.weight, packages.load_file(weights)["fc.weight"])


def test_without_a_file_the_packages_own_weights_are_used(standin):
    prints = set()
    for name, file in {"torchvision:tiny": "second", "torchvision:tiny.FIRST": "first"}.items():
        own = torch.load(standin / f"tiny-{file}.pth")["body.0.weight"]
        assert torch.equal(models.create(name, 3, 3, 8).network.body[0].weight, own)
        assert models.preparation(name) == Preparation((8, 8), 3, 0.8, "bicubic", **IMAGENET)
        assert models.notes(name) == ()
        prints.add(models.fingerprint(name))
    assert len(prints) == 2


@pytest.mark.parametrize("prefix", ["module.", "network."])
def test_a_wrappers_part_of_the_names_is_taken_off(standin, weights, prefix):
    tensors = {prefix + key: value for key, value in packages.load_file(weights).items()}
    save_file(tensors, weights)
    model = models.create("torchvision:tiny", 3, 3, 8, weights=str(weights))
    assert torch.equal(model.network.body[0].weight, tensors[f"{prefix}body.0.weight"])


def test_weights_of_another_network_are_refused(standin, weights, tmp_path):
    tensors = packages.load_file(weights)
    del tensors["body.0.bias"]
    save_file(tensors | {"more": torch.zeros(1), "body.0.weight": torch.zeros(4)}, weights)
    told = "1 of the network's tensors are missing, 1 belong to none, 1 have another shape (body.0.weight"
    assert told in refusal("torchvision:tiny", weights)


def test_what_is_no_file_of_weights_is_refused(standin, tmp_path):
    assert "is no file: check its path" in refusal("torchvision:tiny", tmp_path / "gone")
    torch.save({}, tmp_path / "w.pth")
    assert "pickled weights could run code: load them where you" in refusal(
        "torchvision:tiny", tmp_path / "w.pth"
    )
    (tmp_path / "w.safetensors").write_bytes(b"")
    assert "no whole safetensors file" in refusal("torchvision:tiny", tmp_path / "w.safetensors")
    for name in ("cnn6", "hf:x", "net.py:build"):
        assert f"of no use to model {name}: it belongs to timm:NAME" in refusal(name, tmp_path / "w.pth")


def test_unknown_names_are_refused_with_the_nearest(standin):
    assert refusal("torchvision:tine").endswith("did you mean torchvision:tiny?")
    assert "no weights BEST for tiny: there are FIRST, DEFAULT" in refusal("torchvision:tiny.BEST")
    assert "name it like torchvision:resnet50" in refusal("torchvision:a/b")
    assert "none of timm's own" in refusal("timm:hf-hub:a/b")
    assert "timm:NAME, one of torchvision torchvision:NAME" in refusal("resnet18000x")


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_without_the_package_it_says_what_to_install(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    for ask in (models.fingerprint, models.preparation):
        with pytest.raises(InputError, match=f"need the package {package}: pip install {package}$"):
            ask(f"{package}:resnet18")
    assert models.is_pretrained(f"{package}:resnet18")


def test_a_finished_run_needs_no_weights_but_the_package(standin, weights, tmp_path, monkeypatch):
    config = quick.config("le", model="torchvision:tiny", weights=str(weights), epochs=2, warmup=1)
    assert (config.optimizer, config.weights) == ("adamw", str(weights))
    moved = weights.rename(tmp_path / "moved.safetensors")
    again = quick.config("le", model="torchvision:tiny", weights=str(moved), epochs=2, warmup=1)
    assert again.trial_id == config.trial_id
    assert quick.config("le", model="torchvision:tiny", epochs=2, warmup=1).trial_id != config.trial_id
    train(again, tmp_path / "run")
    moved.unlink()
    model = selftaught.load(tmp_path / "run")
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 10)
    assert model.preparation.crop == 0.8
    monkeypatch.setitem(sys.modules, "torchvision", None)
    torchvision_network._head.cache_clear()
    with pytest.raises(InputError, match="pip install torchvision"):
        selftaught.load(tmp_path / "run")


def test_a_twin_teacher_has_the_weights_too_but_no_other_network(standin, weights):
    twin = quick.config("ban", model="torchvision:tiny", weights=str(weights))
    assert twin.teacher.weights == str(weights)
    own = "torchvision:tiny.FIRST"
    other = quick.config("kd", model="torchvision:tiny", weights=str(weights), teacher=own)
    assert other.teacher.weights is None


# --- with the real packages

NAMES = ["timm:test_resnet", "timm:test_vit", "torchvision:mobilenet_v3_small", "torchvision:squeezenet1_1"]


def real(name: str, folder: Path) -> tuple[dict[str, torch.Tensor], Path]:
    """Random weights of the network as a file."""
    package, _, called = name.partition(":")
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    module = packages.imported(package)
    network = module.create_model(called) if package == "timm" else module.models.get_model(called)
    tensors = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(tensors, folder / "real.safetensors")
    return tensors, folder / "real.safetensors"


@pytest.mark.parametrize("name", NAMES)
def test_real_networks_get_the_weights_and_are_explained_and_made_again(name, tmp_path):
    tensors, path = real(name, tmp_path)
    model = models.create(name, 5, 3, 96, weights=str(path))
    own = model.network.state_dict()
    same = [key for key, value in own.items() if torch.equal(value, tensors[key])]
    assert (
        len(own) - 4 <= len(same) < len(own)
    )  # the head, and ViT's class token and positions at another size
    x, y = torch.randn(2, 3, 96, 96), torch.tensor([0, 1])
    selftaught.IntrospectiveLoss(model)(x, y).backward()
    described = json.loads(json.dumps(models.description(model)))
    twin = models.create(name, 5, 3, 96, description=described, pretrained=False)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.eval()(x), model.eval()(x))
    assert "is left out" in models.notes(name, str(path))[0]


@pytest.mark.parametrize("name", [*NAMES, "torchvision:swin_t", "timm:convnext_tiny.fb_in22k_ft_in1k_384"])
def test_pictures_come_out_as_the_real_package_makes_them(name):
    package, _, called = name.partition(":")
    module = pytest.importorskip(package)
    if package == "timm":
        config = module.get_pretrained_cfg(called).to_dict()
        transform = module.data.create_transform(**module.data.resolve_data_config({}, pretrained_cfg=config))
    else:
        transform = module.models.get_model_weights(called).DEFAULT.transforms()
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    photograph, file = Image.fromarray(coarse).resize((450, 300), Image.Resampling.BICUBIC), io.BytesIO()
    photograph.save(file, "PNG")
    asked = models.preparation(name)
    pixels = pictures.stack([pictures.decode(file.getvalue(), asked)])[0] / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (asked.mean, asked.std))
    theirs = transform(photograph)
    assert pixels.shape == theirs.shape
    assert ((pixels - mean) / std - theirs).abs().mean() < 0.02 * theirs.std()


def test_real_weights_come_from_the_caches(tmp_path, monkeypatch):
    tensors, path = real("timm:test_resnet", tmp_path)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(path))
    model = models.create("timm:test_resnet", 5, 3, 96)
    assert torch.equal(model.network.conv1[0].weight, tensors["conv1.0.weight"])
    tensors, _ = real("torchvision:squeezenet1_1", tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(tensors, tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    model = models.create("torchvision:squeezenet1_1", 5, 3, 96)
    assert torch.equal(model.network.features[0].weight, tensors["features.0.weight"])


@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:mobilenet_v3_small"])
def test_real_networks_are_trained_and_loaded_without_their_weights(name, tmp_path):
    _, path = real(name, tmp_path)
    options = {"weights": str(path), "image_size": 32, "epochs": 1, "augment": "none"}
    train(quick.config("ce", model=name, **options), tmp_path / "run")
    path.unlink()
    assert selftaught.load(tmp_path / "run")(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
