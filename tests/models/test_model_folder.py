"""Which files a transformers model consists of, and what is refused before any is read."""

import json
import shutil

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from selftaught import models
from selftaught.errors import InputError
from selftaught.models import model_folder
from tests.models.saved import save


@pytest.fixture
def vit(tmp_path):
    save(tmp_path / "vit")
    return tmp_path / "vit"


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No network, and an empty cache of the Hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model_folder._from_hub.cache_clear()
    yield tmp_path / "hub"
    model_folder._from_hub.cache_clear()


def refused(name: str, complaint: str) -> None:
    for ask in (models.fingerprint, lambda name: models.create(name, 3, 3, 64)):
        with pytest.raises(InputError, match=complaint) as caught:
            ask(name)
        assert "\n" not in str(caught.value)


def shard(folder) -> None:
    """Divide the weights over two files."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    keys = sorted(tensors)
    names = {key: f"model-{1 + (at % 2):05}-of-00002.safetensors" for at, key in enumerate(keys)}
    for name in set(names.values()):
        part = {key: tensors[key] for key in keys if names[key] == name}
        save_file(part, folder / name, {"format": "pt"})
    index = {"metadata": {}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_folder_may_be_relative_or_at_home(vit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    absolute = models.fingerprint(f"hf:{vit}")
    assert models.fingerprint("hf:vit") == models.fingerprint("hf:./vit") == absolute
    assert models.fingerprint("hf:~/vit") == absolute


def test_a_model_of_the_hub_is_found_in_its_cache(vit, offline):
    repository = offline / "models--someone--vit"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    shutil.copytree(vit, repository / "snapshots" / "c0ffee")
    assert models.fingerprint("hf:someone/vit") == models.fingerprint(f"hf:{vit}")
    assert models.create("hf:someone/vit", 3, 3, 64)(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_without_a_network_the_hub_cannot_help(offline):
    refused("hf:someone/vit", "hf:someone/vit.*no such folder.*cannot be reached")


@pytest.mark.parametrize("name", ["hf:./nowhere", "hf:/no/such/folder", "hf:~/nowhere", "hf:two words"])
def test_what_is_neither_folder_nor_hub_id(name, offline):
    refused(name, "no such folder.*check the path")


def test_a_file_is_no_folder(vit):
    refused(f"hf:{vit}/model.safetensors", "is a file")


def test_a_folder_of_something_else(tmp_path):
    refused(f"hf:{tmp_path}", "no transformers model.*config.json")


def test_a_configuration_alone(vit):
    (vit / "model.safetensors").unlink()
    refused(f"hf:{vit}", "no weights.*save_pretrained")


def test_a_pickle_is_never_opened(vit):
    (vit / "model.safetensors").unlink()
    (vit / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
    refused(f"hf:{vit}", "pytorch_model.bin, a pickle.*save_pretrained")


def test_weights_in_several_files(vit):
    whole = models.create(f"hf:{vit}", 3, 3, 64)
    shard(vit)
    models.fingerprint(f"hf:{vit}")
    parts = models.create(f"hf:{vit}", 3, 3, 64)
    key = "network.vit.embeddings.cls_token"
    assert torch.equal(whole.state_dict()[key], parts.state_dict()[key])


def test_a_missing_part(vit):
    shard(vit)
    (vit / "model-00002-of-00002.safetensors").unlink()
    refused(f"hf:{vit}", "model-00002-of-00002.safetensors is missing")


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": {"a": 3}}'])
def test_a_damaged_index(vit, index):
    (vit / "model.safetensors").unlink()
    (vit / "model.safetensors.index.json").write_text(index)
    refused(f"hf:{vit}", "index.json is damaged")


def test_a_part_outside_the_folder_is_not_read(vit, tmp_path):
    (vit / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"weight_map": {"classifier.weight": "../outside.safetensors"}}
    (vit / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(f"hf:{vit}", "outside.safetensors is missing")


def test_the_fingerprint_is_of_what_is_read(vit):
    first = models.fingerprint(f"hf:{vit}")
    assert len(first) == 64
    (vit / "README.md").write_text("unread")
    assert models.fingerprint(f"hf:{vit}") == first
    seen = {first}
    (vit / "preprocessor_config.json").write_text('{"size": 32}')
    seen.add(models.fingerprint(f"hf:{vit}"))
    (vit / "config.json").write_text((vit / "config.json").read_text() + " ")
    seen.add(models.fingerprint(f"hf:{vit}"))
    tensors = load_file(vit / "model.safetensors")
    tensors["classifier.bias"] += 1
    save_file(tensors, vit / "model.safetensors", {"format": "pt"})
    seen.add(models.fingerprint(f"hf:{vit}"))
    assert len(seen) == 4


def test_a_copy_has_the_same_fingerprint(vit, tmp_path):
    shutil.copytree(vit, tmp_path / "copy")
    assert models.fingerprint(f"hf:{tmp_path / 'copy'}") == models.fingerprint(f"hf:{vit}")
