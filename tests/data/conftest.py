"""Every test has a cache of its own, and small Parquet files in the Hugging Face layout to read."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "selftaught"


@pytest.fixture
def digits_once(cache_folder, tmp_path_factory, monkeypatch) -> None:
    """The digits are decoded once for all tests that load them and look at something else."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "digits"))


def encode(array, kind="PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def random_pictures(count, size=(6, 5), channels=3, seed=0):
    shape = (count, *size, 3) if channels == 3 else (count, *size)
    return list(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def write_parquet(path, blobs, labels, classes=("ant", "bee"), picture="image", label="label", paths=None):
    """Written with pyarrow alone, so that the reader does not check itself."""
    struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = zip(blobs, paths or [None] * len(blobs), strict=True)
    pictures = pa.array([{"bytes": blob, "path": name} for blob, name in cells], type=struct)
    table = pa.table({picture: pictures, label: pa.array(labels)})
    if classes:
        features = {picture: {"_type": "Image"}, label: {"names": list(classes), "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


@pytest.fixture
def small(tmp_path):
    """A folder with two training files and one test file, and the arrays and labels that are in them."""
    pictures, labels = random_pictures(9), [0, 1, 0, 1, 1, 0, 0, 1, 0]
    folder = tmp_path / "small"
    for name, rows in (
        ("train-00000", slice(0, 4)),
        ("train-00001", slice(4, 6)),
        ("test-00000", slice(6, 9)),
    ):
        write_parquet(folder / f"{name}.parquet", [encode(p) for p in pictures[rows]], labels[rows])
    return folder, np.stack(pictures).transpose(0, 3, 1, 2), np.array(labels)
