"""`selftaught explain`: a picture and words for a trained run."""

import json
import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import selftaught
from selftaught import _streams, cli, models
from selftaught.training.run import train
from tests.models.saved import save
from tests.training import quick
from tests.training.stored import store


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


def photographs(folder, count, shape):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{i:02}.png")
    return folder


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


def test_many_classes_and_many_images(tmp_path, capsys):
    classes = tuple(f"class {k}" for k in range(30))
    run = store(tmp_path / "run", classes, (3, 16, 16))
    folder = photographs(tmp_path / "photos", 23, (20, 20, 3))
    out = tmp_path / "new" / "grid.png"
    code, text, err = call(capsys, run, folder, "--classes", 4, "-o", out)
    assert (code, err) == (0, f"wrote {out.parent}/grid-1.png to grid-2.png\n")
    assert [line.partition(":")[0] for line in text.splitlines()] == [
        str(path) for path in sorted(folder.iterdir())
    ]
    sizes = [Image.open(out.parent / f"grid-{i}.png").size for i in (1, 2)]
    assert len({width for width, _ in sizes}) == 1
    assert 2000 < sizes[0][1] > 4 * sizes[1][1]
    assert sorted(os.listdir(out.parent)) == ["grid-1.png", "grid-2.png"]
    some = sorted(folder.iterdir())[:3]
    values = json.loads(call(capsys, run, *some, "--classes", 4, "-o", out, "--json")[1])
    assert len(values) == 3
    assert all(len(item["similarity"]) == 4 and len(item["probabilities"]) == 30 for item in values)
    assert all(item["prediction"] in item["similarity"] for item in values)


def test_a_photograph_is_drawn_under_its_maps_unless_told_otherwise(tmp_path, capsys):
    run = store(tmp_path / "run", shape=(3, 64, 64))
    folder = photographs(tmp_path / "photos", 1, (80, 80, 3))

    def picture(*options):
        out = tmp_path / "e.png"
        assert call(capsys, run, folder, "-o", out, *options)[0] == 0
        with Image.open(out) as opened:
            return opened.size, opened.tobytes()

    assert picture() == picture("--overlay") != picture("--no-overlay")


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_models_of_transformers(tmp_path, capsys, kind):
    name = save(tmp_path / kind, kind)
    network = models.create(name, 3, 3, 64)
    run = store(tmp_path / "run", shape=(3, 64, 64), network=network, model=name)
    out = tmp_path / "e.png"
    code, text, _ = call(capsys, run, photographs(tmp_path / "photos", 2, (70, 90, 3)), "-o", out, "--json")
    assert code == 0
    for item in json.loads(text):
        assert item["similarity"][item["prediction"]] == pytest.approx(1, abs=1e-4)
        assert sum(item["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert out.stat().st_size > 10_000


def test_names_in_any_script(tmp_path, capsys):
    run = store(tmp_path / "run", ("猫", "🐕", "x\ny"), (3, 16, 16))
    folder = photographs(tmp_path / "写真", 1, (20, 20, 3))
    out = tmp_path / "e.pdf"
    code, text, err = call(capsys, run, folder, "-o", out)
    assert (code, err, text.count("\n")) == (0, f"wrote {out}\n", 1)


def test_all_pictures_or_none(tmp_path, capsys):
    run = store(tmp_path / "run", shape=(3, 16, 16))
    folder = photographs(tmp_path / "photos", 25, (20, 20, 3))
    (folder / "z.png").write_bytes(b"no picture")
    code, text, err = call(capsys, run, folder, "-o", tmp_path / "new" / "e.png")
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert "z.png is not an image that can be read" in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("count", "out"), [(1, "00.png"), (21, "0.png"), (1, "../run/e.png")])
def test_nothing_of_the_users_is_overwritten(tmp_path, monkeypatch, capsys, count, out):
    """Of 21 images two pictures are made, 0-1.png and 0-2.png."""
    run = store(tmp_path / "run", shape=(3, 16, 16))
    folder = photographs(tmp_path / "photos", count, (20, 20, 3))
    if count > 20:
        (folder / "00.png").rename(folder / "0-2.png")
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    code, text, err = call(capsys, run, ".", "-o", out)
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert ("config.json is there" if "run" in out else "is one of the images and would replace it") in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["resnet8", "missing.png"],
            "missing.png cannot be read (No such file or directory): check its path",
        ),
        (["resnet8", "{text}"], "not an image that can be read"),
        (["resnet8", "--out", "{folder}"], "is not a picture: name a .png"),
        (["resnet8", "--out", "x.txt"], "is not a picture: name a .png"),
        (["resnet8", "--count", "0"], "--count is 0"),
        (["resnet8", "--classes", "1"], "--classes is 1 but should be from 2 to 100"),
        (["resnet8", "--classes", "101"], "--classes is 101 but should be from 2 to 100"),
        (["resnet8", "--device", "gpu"], "unknown device 'gpu'"),
        (["resnet8", "{empty}"], "holds no images"),
        (["resnet8", "--model", "mlp"], "holds the model 'resnet8'"),
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
    empty = tmp_path / "empty"
    empty.mkdir()
    run, *rest = [argument.format(text=text, folder=tmp_path, empty=empty) for argument in arguments]
    code, out, err = call(capsys, runs / run, *rest)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "explanation.png").exists()


def test_what_is_doubtful_is_a_line_without_code(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    theirs = warnings.formatwarning("beware", UserWarning, "/somewhere/theirs.py", 3, "x = 1")
    _streams.plain_warnings()
    doubt = UserWarning("Grad-CAM explains 'a': its 2x2 positions\nare coarse")
    told = warnings.formatwarning(doubt, UserWarning, selftaught.saliency.explainer.__file__, 3)
    assert told == "selftaught: note: Grad-CAM explains 'a': its 2x2 positions are coarse\n"
    assert warnings.formatwarning("beware", UserWarning, "/somewhere/theirs.py", 3, "x = 1") == theirs
