"""What a model's image processor says, as a preparation: against the processor itself."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor

from selftaught import models
from selftaught.data import pictures
from selftaught.data.preparation import Preparation
from selftaught.errors import InputError
from tests.models.saved import save

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
PROCESSORS = {
    "stretched": {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}},
    "stretched, oblong": {"image_processor_type": "ViTImageProcessor", "size": {"height": 24, "width": 32}},
    "of old": {"feature_extractor_type": "ViTFeatureExtractor", "size": 32, "resample": 2},
    "cut out": {
        "image_processor_type": "MobileNetV2ImageProcessor",
        "size": {"shortest_edge": 40},
        "crop_size": {"height": 32, "width": 32},
        "resample": 3,
    },
    "stretched and cut": {
        "image_processor_type": "DeiTImageProcessor",
        "size": {"height": 40, "width": 40},
        "crop_size": {"height": 32, "width": 32},
        "do_center_crop": True,
    },
    "a share": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 28},
        "crop_pct": 0.875,
    },
    "large, stretched": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
    "share and cut": {
        "image_processor_type": "PoolFormerImageProcessor",
        "size": {"shortest_edge": 36},
        "crop_size": {"height": 36, "width": 36},
        "crop_pct": 0.9,
    },
    "not normalised": {"image_processor_type": "ViTImageProcessor", "size": 32, "do_normalize": False},
    "nearest": {"image_processor_type": "ViTImageProcessor", "size": 32, "resample": 0},
}


@pytest.fixture(scope="module")
def photograph() -> bytes:
    """An oblong, smooth colour picture."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize((90, 60), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def name_for(folder, **processor) -> str:
    (folder / "config.json").write_text('{"model_type": "vit", "image_size": 48}')
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return f"hf:{folder}"


@pytest.mark.parametrize("settings", PROCESSORS.values(), ids=PROCESSORS)
def test_pictures_come_out_as_the_processor_makes_them(settings, photograph, tmp_path):
    settings = {"image_mean": MEAN, "image_std": STD, **settings}
    preparation = models.preparation(name_for(tmp_path, **settings))
    pixels = pictures.stack([pictures.decode(photograph, preparation)]) / 255
    ours = (pixels - torch.tensor(preparation.mean).view(3, 1, 1)) / torch.tensor(preparation.std).view(
        3, 1, 1
    )
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    theirs = processor(Image.open(io.BytesIO(photograph)), return_tensors="pt")["pixel_values"]
    assert ours.shape == theirs.shape
    # Scaled pictures have whole sides there; where they do not divide evenly, ours lies a fraction of a pixel off.
    assert (ours - theirs).abs().mean() < 0.02 * theirs.std()


def test_every_field_is_read(tmp_path):
    name = name_for(tmp_path, image_mean=MEAN, image_std=STD, **PROCESSORS["cut out"])
    assert models.preparation(name) == Preparation((32, 32), 3, 0.8, "bicubic", tuple(MEAN), tuple(STD))


def test_what_the_file_leaves_out_is_the_processors_default(tmp_path):
    preparation = models.preparation(name_for(tmp_path, image_processor_type="MobileNetV2ImageProcessor"))
    assert preparation == Preparation((224, 224), 3, 0.875, "bilinear", (0.5,) * 3, (0.5,) * 3)


def test_one_number_is_for_all_channels(tmp_path):
    preparation = models.preparation(
        name_for(tmp_path, image_processor_type="ViTImageProcessor", image_mean=0.5, image_std=0.25)
    )
    assert (preparation.mean, preparation.std) == ((0.5,) * 3, (0.25,) * 3)


def test_without_normalisation_pixels_stay_between_0_and_1(tmp_path):
    preparation = models.preparation(name_for(tmp_path, **PROCESSORS["not normalised"]))
    assert (preparation.mean, preparation.std) == ((0.0,) * 3, (1.0,) * 3)


def test_without_resizing_the_size_is_the_models(tmp_path):
    preparation = models.preparation(
        name_for(tmp_path, image_processor_type="ViTImageProcessor", do_resize=False)
    )
    assert (preparation.size, preparation.crop) == ((48, 48), None)


def test_without_a_processor_it_is_what_most_were_trained_with_and_that_is_said(tmp_path):
    imagenet = {"crop": 0.875, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    vit, resnet = save(tmp_path / "vit"), save(tmp_path / "resnet", "resnet")
    assert models.preparation(vit) == Preparation(size=(64, 64), channels=3, **imagenet)
    assert models.preparation(resnet) == Preparation(size=(224, 224), channels=3, **imagenet)
    assert models.notes(vit)[0].endswith("its images: ImageNet's mean and standard deviation are taken")
    assert "224x224 pixels unless --image-size" in models.notes(resnet)[0]
    assert models.notes(name_for(tmp_path, image_processor_type="ViTImageProcessor")) == ()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"rescale_factor": 1 / 127.5}, "1/255"),
        ({"do_rescale": False}, "1/255"),
        ({"image_processor_type": "MobileViTImageProcessor"}, "blue, green, red"),
        ({"image_mean": [0.5], "image_std": [0.5]}, "normalises 1 channels, the model takes 3"),
        ({"image_std": [0, 1, 1]}, "not positive"),
        ({"size": {"height": -4, "width": 4}}, "not positive"),
        ({"resample": 17}, "17"),
        ({"image_mean": "grey"}, "channels"),
        ({"image_processor_type": "Nonsense"}, "Unrecognized image processor"),
        ({"auto_map": {"AutoImageProcessor": "own.Own"}, "image_processor_type": "Own"}, "custom code"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(settings, complaint, tmp_path):
    (tmp_path / "own.py").write_text("raise SystemExit('the code of a stranger ran')")
    name = name_for(tmp_path, **{"image_processor_type": "ViTImageProcessor", **settings})
    with pytest.raises(InputError, match=complaint) as caught:
        models.preparation(name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_json_is_refused(tmp_path):
    name = name_for(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(InputError, match=r"preprocessor_config.json cannot be used"):
        models.preparation(name)
