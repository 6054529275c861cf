"""Image classifiers of transformers: weights, head, gradients, refusals. All networks are made here and tiny."""

import copy
import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

import selftaught
from selftaught import models
from selftaught.errors import InputError
from selftaught.models import transformers_network
from selftaught.models.architecture import Spec
from tests.models.saved import save
from tests.saliency import architectures

SIZE = 64


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("networks")
    for name in architectures.NAMES:
        torch.manual_seed(7)
        save(root / name, name)
    return {name: root / name for name in architectures.NAMES}


@pytest.fixture
def vit(tmp_path) -> Path:
    save(tmp_path / "vit")
    return tmp_path / "vit"


def edit(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def refusal(name: str, *args, **options) -> str:
    with pytest.raises(InputError) as caught:
        models.create(name, *(args or (3, 3, SIZE)), **options)
    message = str(caught.value)
    assert "\n" not in message
    assert name.removeprefix("hf:").split("/")[-1] in message
    return message


@pytest.mark.parametrize("name", architectures.NAMES)
def test_the_body_is_the_saved_one_and_the_head_is_new(folders, name):
    model = models.create(f"hf:{folders[name]}", 3, 3, SIZE)
    original = transformers.AutoModelForImageClassification.from_pretrained(folders[name])
    saved = original.state_dict()
    head = {key for key, value in model.network.state_dict().items() if value.shape != saved[key].shape}
    assert {value.shape[0] for key, value in model.network.state_dict().items() if key in head} == {3}
    assert all(
        torch.equal(value, saved[key]) for key, value in model.network.state_dict().items() if key not in head
    )
    assert model.training
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("name", ["vit", "swin", "convnext", "resnet"])
def test_the_logits_are_those_of_the_network_used_as_transformers_loads_it(folders, name):
    model = models.create(f"hf:{folders[name]}", 3, 3, SIZE).eval()
    config = transformers.AutoConfig.from_pretrained(folders[name], num_labels=3)
    plain = transformers.AutoModelForImageClassification.from_config(config).eval()
    plain.load_state_dict(model.network.state_dict())
    x = torch.randn(2, 3, SIZE, SIZE)
    torch.testing.assert_close(model(x), plain(x).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", architectures.NAMES)
def test_it_learns_from_its_explanations_and_is_explained_in_both_modes(folders, name):
    model = models.create(f"hf:{folders[name]}", 3, 3, SIZE)
    x, y = torch.randn(4, 3, SIZE, SIZE), torch.tensor([0, 1, 2, 0])
    selftaught.IntrospectiveLoss(model)(x, y).backward()
    reached = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any("classifier" in key for key in reached)
    assert any("embedd" in key or "stem" in key for key in reached)
    for mode in (True, False):
        explanation = selftaught.explain(model.train(mode), x)
        assert explanation.maps.shape[:2] == (4, 3)
        assert explanation.plan.layer.endswith(architectures.EXPECTED[name][0])
        assert model.training is mode


def test_the_seed_decides_the_head_alone(folders):
    def head(seed: int, **options) -> torch.Tensor:
        torch.manual_seed(seed)
        return models.create(f"hf:{folders['vit']}", 3, 3, SIZE, **options).network.classifier.weight

    first = head(1)
    assert torch.equal(first, head(1))
    assert torch.equal(first, head(1, dropout=0.5))
    assert not torch.equal(first, head(2))


def test_as_many_classes_as_before_get_a_new_head_too(folders):
    def heads(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return models.create(f"hf:{folders['vit']}", 5, 3, SIZE).network.classifier.weight

    assert not torch.equal(heads(1), weights(folders["vit"])["classifier.weight"])
    assert torch.equal(heads(1), heads(1))
    assert not torch.equal(heads(1), heads(2))


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_dropout_comes_before_the_head_and_leaves_the_keys_alone(folders, name):
    plain = models.create(f"hf:{folders[name]}", 3, 3, SIZE).eval()
    dropping = models.create(f"hf:{folders[name]}", 3, 3, SIZE, dropout=0.5)
    dropping.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, SIZE, SIZE)
    assert torch.equal(dropping.eval()(x), plain(x))
    dropping.dropout.train()
    assert not torch.equal(dropping(x), plain(x))
    for copied in (copy.deepcopy(dropping), pickle.loads(pickle.dumps(dropping))):
        assert torch.equal(copied.eval()(x), plain(x))
        copied.dropout.train()
        assert not torch.equal(copied(x), plain(x))
    x = torch.randn(4, 3, SIZE, SIZE)
    selftaught.IntrospectiveLoss(dropping.train())(x, torch.tensor([0, 1, 2, 0])).backward()


@pytest.mark.parametrize("name", ["vit", "swin", "resnet"])
def test_images_of_another_size_than_its_own(folders, name):
    model = models.create(f"hf:{folders[name]}", 3, 3, (48, 80))
    assert model(torch.randn(2, 3, 48, 80)).shape == (2, 3)
    assert selftaught.explain(model.eval(), torch.randn(2, 3, 48, 80)).maps.shape[:2] == (2, 3)


def test_creating_leaves_statistics_as_found(folders):
    model = models.create(f"hf:{folders['resnet']}", 3, 3, SIZE)
    counts = [value for key, value in model.state_dict().items() if key.endswith("num_batches_tracked")]
    assert len(counts) > 3
    assert not any(counts)


def test_nothing_is_printed_or_logged(folders, capfd, monkeypatch):
    for handler in logging.getLogger("transformers").handlers:
        if type(handler) is logging.StreamHandler:  # it has the stream that it found when it was imported
            monkeypatch.setattr(handler, "stream", sys.stderr)
    models.preparation(f"hf:{folders['vit']}")
    models.create(f"hf:{folders['vit']}", 3, 3, 48)
    logging.getLogger("transformers").warning("heard")
    said = capfd.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.endswith("heard\n")


@pytest.mark.slow
def test_nothing_reaches_the_terminal(folders):
    program = (
        "from selftaught import models\n"
        f"models.preparation('hf:{folders['vit']}')\n"
        f"print(models.create('hf:{folders['vit']}', 3, 3, 48).training)"
    )
    # A process of its own: transformers' logger writes to the stderr that it found when it was imported.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_loggers_are_left_as_found(folders):
    before = transformers.utils.logging.get_verbosity()
    models.create(f"hf:{folders['vit']}", 3, 3, SIZE)
    assert transformers.utils.logging.get_verbosity() == before
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_half_precision_weights_are_trained_in_float32(vit):
    save_file({key: value.half() for key, value in weights(vit).items()}, vit / "model.safetensors")
    edit(vit, dtype="float16")
    model = models.create(f"hf:{vit}", 3, 3, SIZE)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["vit", "swin", "resnet"])
def test_its_description_makes_it_again_without_the_folder(folders, name, tmp_path):
    model = models.create(f"hf:{folders[name]}", 4, 3, (48, 48))
    description = json.loads(json.dumps(models.description(model)))
    assert str(folders[name]) not in json.dumps(description)
    again = models.create("hf:gone", 4, 3, (48, 48), description=description)
    again.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 48, 48)
    assert torch.equal(again.eval()(x), model.eval()(x))


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"transformers": None},
        {"transformers": {"model_type": "nonsense"}},
        {"transformers": {"model_type": "bert"}},
    ],
)
def test_a_damaged_description_is_refused(description):
    refusal("hf:gone", 3, 3, SIZE, description=description)


def test_other_models_have_no_description():
    assert models.description(models.create("cnn6", 3)) is None


def test_what_is_said_of_it(folders):
    name = f"hf:{folders['vit']}"
    assert models.is_pretrained(name)
    assert models.is_spatial(name)
    assert not models.runs_code(name)
    assert str(folders["vit"]) in models.summary(name)


def test_grey_images_for_a_colour_model_are_refused(folders):
    assert "3 channels, not 1" in refusal(f"hf:{folders['vit']}", 3, 1, SIZE)


def test_a_grey_model_takes_grey_images(tmp_path):
    config = transformers.ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    assert models.preparation(f"hf:{tmp_path}").channels == 1
    assert models.create(f"hf:{tmp_path}", 3, 1, 32)(torch.zeros(2, 1, 32, 32)).shape == (2, 3)


def test_images_that_are_too_small_are_refused_with_its_own_size(folders):
    assert refusal(f"hf:{folders['vit']}", 3, 3, 8).endswith("use --image-size 64")


def test_a_size_it_cannot_be_fitted_to_is_refused(tmp_path):
    small = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.CLIPConfig(
        vision_config={**small, "image_size": 32, "patch_size": 8}, text_config={**small, "vocab_size": 10}
    )
    transformers.CLIPForImageClassification(config).save_pretrained(tmp_path)
    assert models.preparation(f"hf:{tmp_path}").size == (32, 32)
    assert models.create(f"hf:{tmp_path}", 3, 3, 32)(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    assert refusal(f"hf:{tmp_path}", 3, 3, 40).endswith("use --image-size 32")


def test_a_model_of_another_task_is_refused(vit):
    (vit / "config.json").write_text('{"model_type": "bert"}')
    assert "'bert' model" in refusal(f"hf:{vit}")
    with pytest.raises(InputError, match="'bert' model"):
        models.preparation(f"hf:{vit}")


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        "{}",
        '{"model_type": "nonsense"}',
        '{"model_type": "vit", "hidden_size": "many"}',
        '{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}',
    ],
)
def test_a_configuration_that_transformers_cannot_use_is_refused(vit, config):
    (vit / "own.py").write_text("raise SystemExit('the code of a stranger ran')")
    (vit / "config.json").write_text(config)
    assert "config.json" in refusal(f"hf:{vit}")


def test_a_configuration_that_makes_no_network_is_refused(vit):
    edit(vit, hidden_act="nonsense")
    assert "nonsense" in refusal(f"hf:{vit}")


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_damaged_weights_are_refused(vit, content):
    whole = (vit / "model.safetensors").read_bytes()
    (vit / "model.safetensors").write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert "cannot be loaded" in refusal(f"hf:{vit}")


def test_weights_of_another_network_are_refused(vit, folders):
    save_file(weights(folders["resnet"]), vit / "model.safetensors", {"format": "pt"})
    assert "do not fit" in refusal(f"hf:{vit}")


def test_weights_of_another_width_are_refused(vit):
    edit(vit, intermediate_size=48)
    assert "do not fit" in refusal(f"hf:{vit}")


def test_weights_without_a_head_are_enough(vit):
    body = {key: value for key, value in weights(vit).items() if not key.startswith("classifier")}
    save_file(body, vit / "model.safetensors", {"format": "pt"})
    assert models.create(f"hf:{vit}", 5, 3, SIZE).network.classifier.out_features == 5


def test_without_transformers_it_says_what_to_install(vit, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers.utils", None)
    with pytest.raises(InputError, match=r"pip install 'selftaught\[hf\]'"):
        models.create(f"hf:{vit}", 3, 3, SIZE)


def test_dropout_without_a_linear_head_is_refused():
    network = nn.ModuleDict({"head": nn.Conv2d(3, 4, 1)})
    with pytest.raises(InputError, match="no linear head to put dropout before"):
        transformers_network._wrapped("hf:x", network, {"head.weight"}, None, Spec(4, 3, 8, 8, dropout=0.1))
