"""A checkpoint knows what it is and which lines of the metrics belong to it; torch reads it as before."""

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selftaught.files import checkpoints, record
from selftaught.files.reading import DamagedError
from selftaught.files.sealing import sha256

METRICS = b'{"epoch": 1}\n{"epoch": 2}\n'


def saved() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(5.0), "n": 3}, buffer)
    return checkpoints.sealed(buffer.getvalue(), len(METRICS), sha256(METRICS))


@pytest.fixture
def run(tmp_path):
    (tmp_path / record.CHECKPOINT).write_bytes(saved())
    (tmp_path / record.METRICS).write_bytes(METRICS)
    return tmp_path


def metrics(run) -> bytes:
    return checkpoints.metrics(run / record.METRICS, run / record.CHECKPOINT, "train again")


def test_torch_reads_a_sealed_checkpoint(run):
    state = torch.load(run / record.CHECKPOINT, weights_only=True)
    assert state["n"] == 3
    assert state["a"].tolist() == [0, 1, 2, 3, 4]
    assert checkpoints.read(run / record.CHECKPOINT).metrics_bytes == len(METRICS)


@given(st.data())
def test_one_flipped_bit_anywhere_is_found(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "flipped.pt"
    content = bytearray(saved())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="is damaged"):
        checkpoints.read(path)


@pytest.mark.parametrize("content", [b"", b"PK", saved()[:-1], saved()[:200], saved() + b"x", b"\0" * 500])
def test_what_is_cut_off_or_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(DamagedError, match="remove it to start from the beginning"):
        checkpoints.read(tmp_path / "c.pt")


def test_one_of_an_older_version_has_no_seal(tmp_path):
    torch.save({"n": 3}, tmp_path / "c.pt")
    assert checkpoints.read(tmp_path / "c.pt") is None


def test_lines_after_the_checkpoint_do_not_count_and_are_no_damage(run):
    (run / record.METRICS).write_bytes(METRICS + b'{"epoch": 3}\n{"epo')
    assert metrics(run) == METRICS


def test_lines_before_the_checkpoint_must_be_those_that_it_knows(run):
    (run / record.METRICS).write_bytes(METRICS.replace(b"2", b"3"))
    with pytest.raises(DamagedError, match=r"metrics\.jsonl is damaged .*: train again"):
        metrics(run)
    (run / record.METRICS).unlink()
    with pytest.raises(DamagedError, match=r"metrics\.jsonl is damaged \(it is missing\)"):
        metrics(run)


def test_without_a_checkpoint_no_line_counts(run):
    (run / record.CHECKPOINT).unlink()
    assert metrics(run) == b""
