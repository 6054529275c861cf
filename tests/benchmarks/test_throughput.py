import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import throughput
from selftaught.training.presets import data_of
from tests.benchmarks import pages


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return pages.smoke(throughput, "Training throughput", tmp_path_factory.mktemp("pages"))


def test_every_network_has_its_table_with_everyone_in_it(page):
    settings = throughput.settings(smoke=True)
    assert [table["heading"] for table in page["tables"]] == [setting.heading for setting in settings]
    for table, setting in zip(page["tables"], settings, strict=True):
        assert table["columns"] == throughput.COLUMNS
        assert [row["contestant"] for row in table["rows"]] == [
            "trainer, ce",
            f"trainer, le ({setting.saliency})",
            "plain loop, 0 workers",
            "plain loop, 2 workers",
            "floor, contiguous",
            "floor, channels_last",
        ]
        for row in table["rows"]:
            assert row["images/s"] > 0
            assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert table["rows"][0]["ratio"] == 1


@pytest.mark.parametrize("setting", throughput.settings(smoke=True), ids=lambda setting: setting.model)
def test_the_trainer_and_the_plain_loop_see_the_same_pictures(setting):
    """Without augmentation, which is drawn anew for each."""
    with throughput.pictures(setting) as (data, pixels):
        config = throughput.config_of(setting, data, "ce")
        images = data_of(config)
    plain = config.model_copy(update={"padding": 0, "flip": False})
    dataset = throughput.Pictures(pixels, plain, images.mean, images.std)
    theirs = sorted((y, x.flatten().tolist()) for x, y in (dataset[i] for i in range(len(dataset))))
    mean, std = (torch.tensor(values)[:, None, None] for values in (images.mean, images.std))
    ours = (images.train_images / 255 - mean) / std
    ours = sorted((y, x.flatten().tolist()) for x, y in zip(ours, images.train_labels.tolist(), strict=True))
    assert [y for y, _ in ours] == [y for y, _ in theirs]
    assert np.allclose([x for _, x in ours], [x for _, x in theirs], atol=1e-5)


def test_crops_and_flips_of_the_plain_loop_keep_the_size():
    setting = throughput.settings(smoke=True)[0]
    with throughput.pictures(setting) as (data, pixels):
        config = throughput.config_of(setting, data, "ce")
        assert (config.padding, config.flip) == (4, True)
        assert Image.open(f"{data}/train/class0/00000.png").size == (setting.size, setting.size)
    dataset = throughput.Pictures(pixels, config, (0.5,) * 3, (0.25,) * 3)
    seen = [dataset[0][0] for _ in range(20)]
    assert {tuple(x.shape) for x in seen} == {(3, setting.size, setting.size)}
    assert any(not x.equal(seen[0]) for x in seen)
