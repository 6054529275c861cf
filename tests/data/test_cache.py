import logging
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from selftaught.data import cache, pictures


def _tensors(value=7):
    return {
        "images": torch.full((4, 1, 3, 4), value, dtype=torch.uint8),
        "grey": torch.tensor([True, False]),
        "sums": torch.arange(6).view(3, 2),
        "none": torch.zeros(0, 5, dtype=torch.int32),
    }


def _same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one
    )


def test_what_was_written_is_read(cache_folder):
    assert cache.read("a") is None
    cache.write("a", _tensors())
    assert _same(cache.read("a"), _tensors())
    assert [path.suffix for path in cache_folder.iterdir()] == [".safetensors"]


def test_each_key_and_each_version_of_the_decoder_has_its_own(monkeypatch):
    cache.write("a", _tensors(1))
    cache.write("b", _tensors(2))
    assert _same(cache.read("a"), _tensors(1))
    assert _same(cache.read("b"), _tensors(2))
    monkeypatch.setattr(pictures, "VERSION", pictures.VERSION + 1)
    assert cache.read("a") is None


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def _change_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _swap_with_another(path):
    cache.write("b", _tensors(8))
    next(other for other in path.parent.iterdir() if other != path).replace(path)


def _become_a_folder(path):
    path.unlink()
    (path / "within").mkdir(parents=True)


def _become_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def _swap_shapes(path):
    tensors = _tensors()
    tensors["sums"] = tensors["sums"].view(2, 3)
    content = path.read_bytes()
    save_file(tensors, path, {"xxh3_128": content[content.index(b"xxh3_128") + 11 :][:32].decode()})


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"garbage"),
        lambda path: path.write_bytes(b""),
        _truncate,
        _change_a_bit,
        _swap_shapes,
        _swap_with_another,
        _become_a_folder,
        _become_a_pipe,
        lambda path: save_file({"weight": torch.zeros(3)}, path),
    ],
)
def test_a_damaged_entry_is_named_and_can_be_written_again(cache_folder, damage):
    cache.write("a", _tensors())
    path = next(cache_folder.iterdir())
    damage(path)
    with pytest.raises(cache.DamagedError, match=f"{path} are damaged: they are made anew"):
        cache.read("a")
    cache.write("a", _tensors())
    assert _same(cache.read("a"), _tensors())


def test_a_missing_entry_is_none(cache_folder):
    cache.write("a", _tensors())
    next(cache_folder.iterdir()).unlink()
    assert cache.read("a") is None


def test_every_flipped_bit_is_found(cache_folder):
    cache.write("a", _tensors())
    path = next(cache_folder.iterdir())
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for place in {*random.integers(0, len(content), 60).tolist(), *range(8), len(content) - 1}:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(cache.DamagedError):
            cache.read("a")
    path.write_bytes(content)
    assert _same(cache.read("a"), _tensors())


def test_a_reader_keeps_what_it_has_when_the_entry_is_replaced_and_changes_no_file():
    cache.write("a", _tensors(1))
    mine = cache.read("a")
    cache.write("a", _tensors(2))
    assert _same(mine, _tensors(1))
    cache.read("a")["images"].zero_()
    assert _same(cache.read("a"), _tensors(2))


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        cache.write("a", _tensors())
    assert "not cached" in caplog.text
    assert cache.read("a") is None


def test_a_full_disk_leaves_nothing_behind(cache_folder, monkeypatch, caplog):
    def full(*_):
        raise OSError("no space left on device")

    for step in ("replace", "save_file"):
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            patch.setattr(os if step == "replace" else cache, step, full)
            cache.write("a", _tensors())
        assert list(cache_folder.iterdir()) == []
        assert "no space left" in caplog.text


def _write_again_and_again(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        cache.write("a", {"images": torch.full((200, 1, 64, 64), 3, dtype=torch.uint8)})


def test_writers_at_once_and_a_killed_one_never_show_half_an_entry(cache_folder):
    expected = {"images": torch.full((200, 1, 64, 64), 3, dtype=torch.uint8)}
    cache.write("a", expected)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_again_and_again, args=(1.0,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        assert _same(cache.read("a"), expected)
        reads += 1
        if reads == 20:
            os.kill(writers[0].pid, signal.SIGKILL)
    for writer in writers:
        writer.join()
    assert reads > 20
    assert [writer.exitcode for writer in writers] == [-signal.SIGKILL, 0]
    assert _same(cache.read("a"), expected)


def test_what_killed_writers_left_is_removed_after_a_day(cache_folder):
    cache_folder.mkdir(parents=True)
    old, young = cache_folder / "old.tmp", cache_folder / "young.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    cache.write("a", _tensors())
    assert not old.exists()
    assert young.exists()


def test_the_default_place(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache.folder() == Path("/home/someone/.cache/selftaught")
