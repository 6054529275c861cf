"""The header of a stranger's safetensors file is checked before anything is made of it."""

import numpy as np
import pytest
from safetensors.numpy import save

from selftaught.files import tensors
from selftaught.files.reading import DamagedError
from tests.files.sealed import weights

PATH = "model.safetensors"


def test_a_file_of_numpys_is_read_as_it_was_written():
    written = {"a": np.arange(6, dtype=np.int64).reshape(2, 3), "b": np.zeros((0, 2), np.float16)}
    content = save(written, {"who": "me"})
    header = tensors.header(PATH, content, "remove it")
    assert header.tensors == {"a": ("I64", (2, 3)), "b": ("F16", (0, 2))}
    assert (header.metadata, header.elements) == ({"who": "me"}, 6)
    for name, array in tensors.arrays(PATH, content, "remove it").items():
        np.testing.assert_array_equal(array, written[name])


ENTRY = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
STRANGE = {
    "an unknown type": ({"w": ENTRY | {"dtype": "F7"}}, "'w' has the unknown type 'F7'"),
    "a shape of another size": ({"w": ENTRY | {"shape": [5]}}, "the shape of 'w' does not fit"),
    "a huge shape": ({"w": ENTRY | {"shape": [2**62, 4]}}, "the shape of 'w' does not fit"),
    "a negative side": ({"w": ENTRY | {"shape": [-2, -2]}}, "the shape of 'w' does not fit"),
    "a side that is no number": ({"w": ENTRY | {"shape": ["4"]}}, "the shape of 'w' does not fit"),
    "many axes": ({"w": ENTRY | {"shape": [1] * 99 + [4]}}, "the shape of 'w' does not fit"),
    "an end beyond the file": (
        {"w": ENTRY | {"shape": [8], "data_offsets": [0, 32]}},
        "its header does not fit its content",
    ),
    "a gap": ({"w": ENTRY | {"shape": [2], "data_offsets": [8, 16]}}, "its header does not fit its content"),
    "shared bytes": ({"w": ENTRY, "v": ENTRY}, "its header does not fit its content"),
    "no offsets": ({"w": {"dtype": "F32", "shape": [4]}}, "its header is none"),
    "no object": ([1], "its header is none"),
    "metadata that are no texts": ({"__metadata__": {"a": 1}, "w": ENTRY}, "its metadata are no texts"),
}


@pytest.mark.parametrize("what", STRANGE)
def test_a_strange_header_is_refused_in_one_line(what):
    header, message = STRANGE[what]
    with pytest.raises(DamagedError, match=message) as caught:
        tensors.header(PATH, weights(header), "remove it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\xff" * 8 + b"{}", weights()[:-1], weights() + b"x"])
def test_a_file_that_is_cut_off_or_grew_is_refused(content):
    with pytest.raises(DamagedError, match="is damaged"):
        tensors.header(PATH, content, "remove it")
