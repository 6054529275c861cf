"""A sealed file notices every change of its content."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.files import sealing
from selftaught.files.reading import DamagedError

VALUES = {"name": "grün", "numbers": [1, 2.5, 1e-7, -0.0], "none": None, "inner": {"b": True, "a": "\udcff"}}


def unseal(path, content, known=("name",)):
    return sealing.unseal(path, content, known, "remove it")


def test_what_was_sealed_comes_back(tmp_path):
    values = unseal(tmp_path, sealing.seal(VALUES))
    assert values.pop("digest") == sealing.digest(VALUES)
    assert values == VALUES


def test_the_digest_is_that_of_the_canonical_json():
    content = {"b": 1, "a": [1.5, "x"]}
    expected = sealing.sha256(b'{"a":[1.5,"x"],"b":1}')
    assert json.loads(sealing.seal(content))["digest"] == expected


@given(st.data())
def test_one_flipped_bit_anywhere_is_noticed(tmp_path_factory, data):
    content = bytearray(sealing.seal({"accuracy": 0.88, "nll": 1.5e-07, "classes": ["a", "b"], "n": 10}))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DamagedError, match="is damaged"):
        unseal(tmp_path_factory.getbasetemp() / "f.json", bytes(content), ("accuracy", "nll", "classes", "n"))


def test_other_line_ends_are_no_damage(tmp_path):
    """Git for Windows writes them when it checks an archive out."""
    content = sealing.seal({"a": 1})
    unseal(tmp_path, content.replace(b"\n", b"\r\n"))
    assert sealing.sha256(content, "a.json") == sealing.sha256(content.replace(b"\n", b"\r\n"), "a.json")
    assert sealing.sha256(b"\n", "a.png") != sealing.sha256(b"\r\n", "a.png")


def test_without_a_digest_only_known_keys_are_taken(tmp_path):
    assert unseal(tmp_path, b'{"name": "x"}') == {"name": "x"}
    with pytest.raises(DamagedError, match="nobody knows what its 'nbme' is"):
        unseal(tmp_path, b'{"nbme": "x"}')
    assert unseal(tmp_path, b'{"nbme": "x"}', None) == {"nbme": "x"}


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"[" * 100_000, b"\xff", b'{"a": 1E5}'])
def test_what_is_no_json_object_is_refused(tmp_path, content):
    with pytest.raises(DamagedError, match="is damaged"):
        unseal(tmp_path, content, None)
