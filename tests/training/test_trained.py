"""A finished run as a model: from its directory alone, never from code that nobody permitted."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import selftaught
from selftaught import models
from selftaught.data import pictures
from selftaught.data.preparation import Preparation
from selftaught.errors import InputError
from selftaught.files import claiming, record
from selftaught.files.config import parse
from selftaught.files.sealing import sha256
from selftaught.training.trained import load
from tests.models.saved import save
from tests.training import stored
from tests.unsealed import unseal

NET = """
from torch import nn

def build(num_classes, in_channels, image_size):
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""


def rewrite(run, **changes) -> None:
    """Change fields of the run's configuration (model_fingerprint) or of its data (all others)."""
    fingerprint = changes.pop("model_fingerprint", None)
    result = json.loads((run / record.RESULT).read_text())
    if fingerprint:
        config = json.loads((run / record.CONFIG).read_text()) | {"model_fingerprint": fingerprint}
        (run / record.CONFIG).write_text(json.dumps(config))
        result["trial_id"] = parse(config).trial_id
    result["data"] |= changes
    (run / record.RESULT).write_text(json.dumps(result))


def refusal(*args, **options) -> str:
    with pytest.raises(InputError) as caught:
        load(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def file_run(tmp_path):
    """A run of a Python file's model, and the model's name."""
    (tmp_path / "net.py").write_text(NET)
    name = f"{tmp_path / 'net.py'}:build"
    run = stored.store(tmp_path / "run", network=models.create(name, 3, 3, 16), model=name)
    rewrite(run, model_fingerprint=models.fingerprint(name))
    return run, name


def encoded(width: int = 40, height: int = 30) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_a_built_in_model_comes_back_with_its_preprocessing(tmp_path):
    network = models.create("resnet8", 3, 3, 16)
    run = stored.store(tmp_path / "run", network=network)
    model = selftaught.load(run)
    assert not model.training
    assert model.classes == ("cat", "dog", "owl")
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    expected = network.eval()((images / 255 - 0.4) / 0.3)
    torch.testing.assert_close(model(images), expected)
    torch.testing.assert_close(model(images / 255), expected)


@pytest.mark.parametrize(
    ("channels", "crop", "resample"), [(3, None, "bilinear"), (3, 0.8, "bicubic"), (1, 1.0, "nearest")]
)
def test_pictures_are_prepared_as_in_the_training(tmp_path, channels, crop, resample):
    run = stored.store(tmp_path / "run", shape=(channels, 16, 20))
    rewrite(run, crop=crop, resample=resample)
    model = load(run)
    prepared = model.prepare(encoded())
    wanted = Preparation(size=(16, 20), channels=channels, crop=crop, resample=resample)
    assert torch.equal(prepared, pictures.stack([pictures.decode(encoded(), wanted)])[0])
    assert (prepared.shape, prepared.dtype) == ((channels, 16, 20), torch.uint8)
    assert model(prepared[None]).shape == (1, 3)


def test_bytes_that_are_no_picture_are_refused_with_a_reason(tmp_path):
    model = load(stored.store(tmp_path / "run"))
    with pytest.raises(ValueError, match="not a picture"):
        model.prepare(b"nonsense")


def test_loading_leaves_the_random_numbers_alone(tmp_path):
    run = stored.store(tmp_path / "run")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load(run)
    assert torch.equal(torch.rand(3), expected)


def test_a_method_with_dropout_comes_back(tmp_path):
    load(stored.store(tmp_path / "run", method="dropout", drop_rate=0.3))


@pytest.mark.parametrize("architecture", ["vit", "resnet", "swin"])
def test_a_transformers_model_does_without_its_folder(tmp_path, architecture):
    name = save(tmp_path / "pretrained", architecture)
    network = models.create(name, 3, 3, 48)
    run = stored.store(tmp_path / "run", shape=(3, 48, 48), network=network, model=name)
    shutil.rmtree(tmp_path / "pretrained")
    run = shutil.move(run, tmp_path / "moved")
    model = load(run)
    images = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    torch.testing.assert_close(model(images), network.eval()((images / 255 - 0.4) / 0.3))
    assert selftaught.explain(model, images / 255).maps.shape[:2] == (2, 3)


@pytest.mark.parametrize("name", [record.WEIGHTS, record.MODEL])
def test_a_damaged_file_is_refused(tmp_path, name):
    source = save(tmp_path / "pretrained")
    network = models.create(source, 3, 3, 64)
    run = stored.store(tmp_path / "run", shape=(3, 64, 64), network=network, model=source)
    content = bytearray((run / name).read_bytes())
    content[-3] ^= 1
    (run / name).write_bytes(content)
    assert f"{run / name} is damaged" in refusal(run)
    (run / name).unlink()
    assert f"{run / name} is damaged (it is missing)" in refusal(run)


def test_weights_without_a_digest_that_are_no_weights_are_refused(tmp_path):
    run = stored.store(tmp_path / "run")
    result = json.loads((run / record.RESULT).read_text()) | {"sha256": {}}
    (run / record.RESULT).write_text(json.dumps(result))
    load(run)
    (run / record.WEIGHTS).write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
    assert "is damaged" in refusal(run)


def test_weights_of_another_model_are_refused(tmp_path):
    run = stored.store(tmp_path / "run", network=models.create("resnet8", 3, 3, 16), model="resnet14")
    assert "does not fit the model 'resnet14'" in refusal(run)
    run = stored.store(tmp_path / "wider", network=models.create("resnet8", 4, 3, 16))
    assert "size mismatch" in refusal(run)


def test_code_runs_only_where_the_caller_names_it(file_run, tmp_path):
    run, name = file_run
    (tmp_path / "net.py").write_text("raise SystemExit('code ran that nobody permitted')")
    message = refusal(run)
    assert f"model={name!r}" in message
    assert f"--model {name}" in message


def test_named_by_the_caller_it_is_loaded_from_wherever_it_lies(file_run, tmp_path):
    run, name = file_run
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(tmp_path / "net.py", tmp_path / "elsewhere" / "mine.py")
    model = load(run, model=f"{moved}:build")
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 3)
    assert "cannot be read" in refusal(run, model=name)


@pytest.mark.parametrize("change", ["another file", "another function", "a built-in model"])
def test_another_model_than_the_runs_is_refused(file_run, tmp_path, change):
    run, name = file_run
    other = {
        "another file": name,
        "another function": name.replace(":build", ":other"),
        "a built-in model": "resnet8",
    }
    if change == "another file":
        (tmp_path / "net.py").write_text("raise SystemExit('code ran that is not the run's')")
    assert "is not what made the model" in refusal(run, model=other[change])


def test_a_built_in_model_runs_no_file(tmp_path):
    (tmp_path / "net.py").write_text("raise SystemExit('code ran that is not the run's')")
    run = stored.store(tmp_path / "run")
    assert "is not what made the model" in refusal(run, model=f"{tmp_path / 'net.py'}:build")
    assert "holds the model 'resnet8', not 'resnet14'" in refusal(run, model="resnet14")
    assert load(run, model="resnet8").classes == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    "changes", [{"image_size": [2000, 2048]}, {"channels": 4, "image_size": [2048, 2048]}]
)
def test_a_network_that_is_larger_than_its_weights_is_not_built(tmp_path, changes, monkeypatch):
    """A record may come from a stranger: the first layer of this one would take 60 gigabytes."""
    run = stored.store(tmp_path / "run", shape=(3, 16, 16), model="mlp")
    channels = changes.get("channels", 3)
    rewrite(run, mean=[0.5] * channels, std=[0.5] * channels, **changes)
    filled = []
    monkeypatch.setattr(
        torch.nn.init, "kaiming_uniform_", lambda tensor, *_, **__: filled.append(tensor.numel())
    )
    message = refusal(run)
    assert f"{run / record.WEIGHTS} is damaged" in message
    assert "far fewer than those of the model of this record" in message
    assert sum(filled) == 0


@pytest.mark.parametrize(
    "described", [{"hidden_size": 2_000_000}, {"num_hidden_layers": 10**7}, {"image_size": 60_000}]
)
def test_a_description_of_a_larger_network_is_refused_before_it_is_built(tmp_path, described):
    """Which is random, and would be drawn before it is known to be a parameter."""
    source = save(tmp_path / "pretrained")
    network = models.create(source, 3, 3, 64)
    run = stored.store(tmp_path / "run", shape=(3, 64, 64), network=network, model=source)
    description = json.loads((run / record.MODEL).read_text())
    description["transformers"] |= described
    (run / record.MODEL).write_text(json.dumps(description))
    unseal(run, sha256={record.MODEL: sha256((run / record.MODEL).read_bytes())})
    message = refusal(run)
    assert message.startswith(f"{run / record.WEIGHTS} is damaged (its ")
    assert message.endswith("and the command that made it trains it again")


def test_weights_of_an_unknown_type_are_refused(tmp_path):
    run = stored.store(tmp_path / "run")
    unseal(run)
    content = (run / record.WEIGHTS).read_bytes()
    (run / record.WEIGHTS).write_bytes(content.replace(b'"F32"', b'"F99"', 1))
    assert "has the unknown type 'F99'" in refusal(run)


def test_a_result_that_is_a_folder_is_refused(tmp_path):
    run = stored.store(tmp_path / "run")
    (run / record.RESULT).unlink()
    (run / record.RESULT).mkdir()
    assert f"{run / record.RESULT} is damaged (it is a folder)" in refusal(run)


@pytest.mark.parametrize("what", ["a link", "a folder"])
def test_a_lock_that_is_none_is_left_alone(tmp_path, what):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "run").mkdir()
    lock = tmp_path / "run" / record.LOCK
    lock.symlink_to(tmp_path / "mine") if what == "a link" else lock.mkdir()
    with (
        pytest.raises(InputError, match="is no lock but a link or a folder: remove it"),
        claiming.locked(tmp_path / "run"),
    ):
        pass
    assert (tmp_path / "mine").read_text() == "mine"
