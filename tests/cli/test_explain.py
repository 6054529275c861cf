"""`selftaught explain`: a picture and words for a trained run."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import selftaught
from selftaught import cli
from selftaught.report.explanations import default_saliency, explain_images, one_per_class
from selftaught.report.figures import explanation_grid
from selftaught.training.run import train
from tests.training import quick


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Finished runs: a convolutional one and an MLP."""
    folder = tmp_path_factory.mktemp("runs")
    options = {"image_size": 16, "epochs": 1, "warmup": 0}
    train(quick.config("le", model="resnet8", **options), folder / "resnet8")
    train(quick.config("ce", model="mlp", image_size=8, epochs=1), folder / "mlp")
    return folder


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(["explain", *map(str, arguments)])
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_test_images_of_the_run(runs, tmp_path, capsys):
    out = tmp_path / "new" / "grid.png"
    code, text, err = call(capsys, runs / "resnet8", "--count", 3, "--out", out)
    assert code == 0
    assert err == f"wrote {out}\n"
    lines = text.splitlines()
    assert len(lines) == 3
    assert all(f"(is {digit})" in line and f"most like {digit}:" in line for digit, line in enumerate(lines))
    with Image.open(out) as picture:
        assert picture.width > picture.height > 100
        assert len(set(picture.convert("L").tobytes())) > 50


def test_files_as_json(runs, tmp_path, capsys):
    rng = np.random.default_rng(0)
    grey, colour = tmp_path / "grey.png", tmp_path / "colour.jpg"
    Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(grey)
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(colour)
    code, text, _ = call(capsys, runs / "resnet8", grey, colour, "--out", tmp_path / "e.svg", "--json")
    assert code == 0
    found = json.loads(text)
    assert [item["image"] for item in found] == [str(grey), str(colour)]
    model = selftaught.load(runs / "resnet8")
    pixels = torch.from_numpy(np.asarray(Image.open(grey)).copy())[None, None]
    expected = dict(zip(model.classes, model(pixels).softmax(1)[0].tolist(), strict=True))
    assert found[0]["probabilities"] == pytest.approx(expected, abs=1e-6)
    assert found[0]["truth"] is None
    assert found[0]["reference"] == found[0]["prediction"]
    assert found[0]["similarity"][found[0]["reference"]] == pytest.approx(1, abs=1e-5)


def test_maps_and_scores_are_those_of_the_library(runs):
    model = selftaught.load(runs / "mlp")
    images = torch.randint(256, (2, 1, 8, 8), dtype=torch.uint8)
    labels = torch.tensor([3, 8])
    assert default_saliency(model) == "grad"
    for item, image, label in zip(
        explain_images(model, images, ["a", "b"], labels), images, labels, strict=True
    ):
        expected = selftaught.explain(model, image[None].float() / 255, "grad").maps
        assert item.maps == pytest.approx(expected[0, :, 0].numpy(), abs=1e-6)
        scores = selftaught.similarity.cosine(expected, label[None])[0]
        assert item.similarity == pytest.approx(scores.numpy(), abs=1e-5)
        assert (item.reference, item.truth) == (label, label)


def test_names_of_classes_are_text_and_not_markup(runs):
    model = selftaught.load(runs / "resnet8")
    images = torch.randint(256, (1, 1, 16, 16), dtype=torch.uint8)
    names = [r"$\frac{$", "a very long name of a class", *map(str, range(8))]
    figure = explanation_grid(explain_images(model, images, ["x"], torch.tensor([0])), names)
    figure.draw_without_rendering()
    assert [axis.get_title() for axis in figure.axes[:3]] == ["input", r"$\frac{$", "a very long…"]


def test_one_per_class_goes_round():
    labels = torch.tensor([2, 2, 2, 0, 1, 0])
    assert one_per_class(labels, 5) == [3, 4, 0, 5, 1]
    assert one_per_class(labels, 99) == [3, 4, 0, 5, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet8", "missing.png"], "cannot read missing.png: No such file"),
        (["resnet8", "{text}"], "not an image that can be read"),
        (["resnet8", "--out", "{folder}"], "is not a picture: name a .png"),
        (["resnet8", "--out", "x.txt"], "is not a picture: name a .png"),
        (["resnet8", "--count", "0"], "--count is 0"),
        (["resnet8", "--saliency", "gradcam"], "did you mean 'grad-cam'"),
        (["resnet8", "--layer", "nowhere"], "layer 'nowhere' is not in the model: did you mean 'features'"),
        (["mlp", "--saliency", "grad-cam"], "use saliency='grad'"),
        (["nowhere"], "is not a run directory"),
    ],
)
def test_refusals(runs, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    run, *rest = [argument.format(text=text, folder=tmp_path) for argument in arguments]
    code, out, err = call(capsys, runs / run, *rest)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "explanation.png").exists()
