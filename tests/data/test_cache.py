import logging
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from selftaught.data import cache, parquet, pictures
from selftaught.data.dataset import Decoded


def _decoded(value=7):
    images, labels = torch.full((4, 1, 3, 4), value, dtype=torch.uint8), torch.tensor([0, 1, 1, 0])
    return Decoded(("é", "b"), images, labels, images[:2].clone(), labels[:2].clone())


class _Decoder:
    """Counts how often it is asked."""

    def __init__(self, decoded=None):
        self.decoded = decoded or _decoded()
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.decoded


def _same(one, other):
    assert one.classes == other.classes
    for name, tensor in one.tensors().items():
        assert torch.equal(tensor, other.tensors()[name])
        assert tensor.dtype == other.tensors()[name].dtype


def test_the_second_time_nothing_is_decoded(cache_folder):
    decode = _Decoder()
    _same(cache.cached("a", None, decode), _decoded())
    _same(cache.cached("a", None, decode), _decoded())
    assert decode.calls == 1
    assert [path.suffix for path in cache_folder.iterdir()] == [".safetensors"]


def test_source_size_and_decoder_make_the_key(monkeypatch):
    decode = _Decoder()
    cache.cached("a", None, decode)
    cache.cached("b", None, decode)
    cache.cached("a", (4, 4), decode)
    cache.cached("a", (4, 5), decode)
    monkeypatch.setattr(pictures, "VERSION", pictures.VERSION + 1)
    cache.cached("a", None, decode)
    assert decode.calls == 5


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def _change_a_pixel(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _of_something_else(path):
    save_file({"weight": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.write_bytes(b"garbage"), _truncate, _change_a_pixel, _of_something_else, Path.unlink],
)
def test_a_broken_cache_is_decoded_again_and_mended(cache_folder, damage):
    decode = _Decoder()
    cache.cached("a", None, decode)
    damage(next(cache_folder.iterdir()))
    _same(cache.cached("a", None, decode), _decoded())
    assert decode.calls == 2
    cache.cached("a", None, decode)
    assert decode.calls == 2


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    decode = _Decoder()
    with caplog.at_level(logging.WARNING):
        _same(cache.cached("a", None, decode), _decoded())
        _same(cache.cached("a", None, decode), _decoded())
    assert decode.calls == 2
    assert "not cached" in caplog.text


def test_a_write_that_fails_halfway_leaves_nothing(cache_folder, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    _same(cache.cached("a", None, _Decoder()), _decoded())
    assert list(cache_folder.iterdir()) == []


def test_an_error_while_decoding_is_not_kept(cache_folder):
    def fail():
        raise RuntimeError("broken picture")

    with pytest.raises(RuntimeError, match="broken picture"):
        cache.cached("a", None, fail)
    assert not cache_folder.exists()


def test_the_default_place(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache.folder() == Path("/home/someone/.cache/selftaught")


def test_a_file_that_changed_under_its_name_is_decoded_again(small):
    folder, images, _ = small
    before = parquet.read(parquet.find(folder))
    (folder / "train-00001.parquet").write_bytes((folder / "test-00000.parquet").read_bytes())
    after = parquet.read(parquet.find(folder))
    assert torch.equal(before.train_images[4:], torch.from_numpy(images[4:6]))
    assert torch.equal(after.train_images[4:], torch.from_numpy(images[6:]))


def test_fewer_files_are_other_data(small, monkeypatch):
    folder, images, _ = small
    first = parquet.read(parquet.find(folder))
    (folder / "train-00001.parquet").unlink()
    second = parquet.read(parquet.find(folder))
    assert (len(first.train_labels), len(second.train_labels)) == (6, 4)
    decoded_again = []
    monkeypatch.setattr(pictures, "decode", lambda *_: decoded_again.append(1))
    assert torch.equal(parquet.read(parquet.find(folder)).train_images, torch.from_numpy(images[:4]))
    assert not decoded_again
