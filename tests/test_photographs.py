"""The whole way of a practitioner: a folder of photographs in mixed sizes, a network from transformers, a report."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from transformers import (
    ConvNextImageProcessorPil,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from selftaught.cli import _run

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def photographs(folder: Path, source: Path, count: int) -> Path:
    """CIFAR-10 images enlarged to mixed sizes and shapes, as JPEG, one sub-folder per class."""
    table = pq.read_table(sorted((source / "cifar10").glob("test-*.parquet"))[0]).slice(0, count)
    random = np.random.default_rng(0)
    for number, row in enumerate(table.to_pylist()):
        [picture] = [value["bytes"] for value in row.values() if isinstance(value, dict)]
        [label] = [value for value in row.values() if isinstance(value, int)]
        size = tuple(int(side) for side in random.integers(40, 200, 2))
        place = folder / CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.open(io.BytesIO(picture)).convert("RGB").resize(size).save(place / f"{number}.jpg", quality=90)
    return folder


def save_vit(folder: Path) -> str:
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        num_labels=1000,
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return f"hf:{folder}"


def save_resnet(folder: Path) -> str:
    config = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=1000
    )
    ResNetForImageClassification(config).save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": 48}, crop_pct=0.875).save_pretrained(folder)
    return f"hf:{folder}"


def compare(folder: Path, model: str, out: Path, trials: int, epochs: int, jobs: int) -> dict:
    arguments = ["compare", str(folder), "--model", model, "--methods", "ce,le-uniform,le", "--out", str(out)]
    budget = f"--trials {trials} --jobs {jobs} --epochs {epochs} --warmup 1 --lr 1e-3 -q".split()
    assert _run([*arguments, *budget]) == 0
    return json.loads((out / "comparison.json").read_text())


@pytest.mark.parametrize("save", [save_vit, save_resnet])
def test_a_few_photographs_and_a_network_from_transformers(tmp_path, real_data, save):
    folder = photographs(tmp_path / "photos", real_data, 120)
    found = compare(folder, save(tmp_path / "network"), tmp_path / "out", trials=1, epochs=2, jobs=1)
    assert [row["method"] for row in found["rows"]] == ["ce", "le-uniform", "le", "probe"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(name in page for name in CLASSES)


@pytest.mark.slow
@pytest.mark.parametrize("save", [save_vit, save_resnet])
def test_two_thousand_photographs(tmp_path, real_data, save):
    folder = photographs(tmp_path / "photos", real_data, 2000)
    found = compare(folder, save(tmp_path / "network"), tmp_path / "out", trials=2, epochs=6, jobs=2)
    # Networks of random weights, six epochs on 1,440 images: not good, but better than chance.
    assert all(row["accuracy"] > 0.15 for row in found["rows"])
    assert all(row["trials"] == 2 for row in found["rows"])
