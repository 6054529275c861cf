"""`selftaught predict`: the model's own probabilities, for all the images or for none."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import selftaught
from selftaught import cli, models
from selftaught.cli import inputs
from selftaught.cli.predict import predict
from selftaught.errors import InputError
from selftaught.files.config import parse
from tests.training.stored import store
from tests.unsealed import unseal

CLASSES = ("cat", "dog", "great grey owl")


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(["predict", *map(str, arguments)])
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return store(tmp_path_factory.mktemp("runs") / "run", CLASSES, temperature=2.5)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder with pictures of several kinds, and what systems leave in folders."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, shape in {
        "b.png": (20, 30, 3),
        "a.jpg": (16, 16, 3),
        "c/d e.webp": (40, 9, 3),
        "c/b.bmp": (5, 5),
    }.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
    for name in (".DS_Store", ".thumbnails/a.png", "c/Thumbs.db", "__MACOSX/._a.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no picture")
    return tmp_path / "photos"


NAMES = ["photos/a.jpg", "photos/b.png", "photos/c/b.bmp", "photos/c/d e.webp"]


def expected(run, names=NAMES, temperature=1.0):
    """The library called by hand, an image at a time."""
    model = selftaught.load(run)
    pictures = [model.prepare(Path(name).read_bytes()) for name in names]
    with torch.no_grad():
        return [(model(picture[None])[0] / temperature).softmax(0).tolist() for picture in pictures]


def test_json_has_every_probability(run, photos, capsys):
    code, text, err = call(capsys, run, "photos", "--json", "--top", 2)
    assert (code, err) == (0, "")
    found = json.loads(text)
    assert [item["image"] for item in found] == NAMES
    for item, values in zip(found, expected(run), strict=True):
        assert list(item["probabilities"]) == list(CLASSES)
        assert list(item["probabilities"].values()) == pytest.approx(values, abs=1e-6)
        best = max(range(3), key=values.__getitem__)
        assert item["class"] == CLASSES[best]
        assert item["probability"] == pytest.approx(values[best], abs=1e-6)
        assert [pair["probability"] for pair in item["top"]] == pytest.approx(sorted(values)[:0:-1], abs=1e-6)
    assert call(capsys, run, "photos", "--format", "json", "--top", 2)[1] == text


def test_csv_has_every_probability(run, photos, capsys):
    code, text, _ = call(capsys, run, "photos", "--format", "csv", "--top", 2)
    assert code == 0
    header = "image,class,probability,class_2,probability_2,p_cat,p_dog,p_great grey owl"
    assert text.splitlines()[0] == header
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["image"] for row in rows] == NAMES
    for row, values in zip(rows, expected(run), strict=True):
        assert [float(row[f"p_{name}"]) for name in CLASSES] == pytest.approx(values, abs=1e-5)
        order = sorted(range(3), key=lambda k: -values[k])
        assert [row["class"], row["class_2"]] == [CLASSES[k] for k in order[:2]]


def test_table_is_aligned(run, photos, capsys):
    code, text, _ = call(capsys, run, "photos", "--top", 99)
    assert code == 0
    header, *lines = text.splitlines()
    assert " ".join(header.split()) == "image class probability class 2 probability 2 class 3 probability 3"
    assert len(lines) == 4
    start = header.index("class")
    best = [CLASSES[int(np.argmax(values))] for values in expected(run)]
    for line, name, top in zip(lines, NAMES, best, strict=True):
        assert line.startswith(name)
        assert line[start:].startswith(top)
        assert line[start - 2 : start] == "  "


@pytest.mark.parametrize("size", [1, 3, 64])
def test_batches_change_nothing(run, photos, capsys, size):
    found = json.loads(call(capsys, run, "photos", "--json", "--batch-size", size)[1])
    values = [list(item["probabilities"].values()) for item in found]
    assert np.array(values) == pytest.approx(np.array(expected(run)), abs=1e-6)


def test_calibrated_divides_by_the_temperature_of_the_run(run, photos, capsys):
    found = json.loads(call(capsys, run, "photos/a.jpg", "--json", "--calibrated")[1])
    assert list(found[0]["probabilities"].values()) == pytest.approx(
        expected(run, NAMES[:1], 2.5)[0], abs=1e-6
    )


def test_calibrated_is_refused_without_a_temperature(photos, tmp_path, capsys):
    code, text, err = call(capsys, store(tmp_path / "run"), "photos", "--calibrated")
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert "train with --val-fraction 0.1" in err


def test_out_takes_its_format_from_the_name(run, photos, tmp_path, capsys):
    out = tmp_path / "new" / "found.csv"
    assert call(capsys, run, "photos", "-o", out) == (0, "", f"wrote {out}\n")
    assert out.read_text() == call(capsys, run, "photos", "--format", "csv")[1]
    call(capsys, run, "photos", "-o", out, "--json")
    assert len(json.loads(out.read_text())) == 4
    assert os.listdir(out.parent) == ["found.csv"]


def test_files_and_folders_in_the_order_given(run, photos, capsys):
    found = json.loads(call(capsys, run, "photos/b.png", "photos/c", "photos/b.png", "--json")[1])
    order = ["photos/b.png", "photos/c/b.bmp", "photos/c/d e.webp", "photos/b.png"]
    assert [item["image"] for item in found] == order


def test_files_beside_pictures_are_told_and_passed_over(run, photos, capsys):
    (photos / "notes.txt").write_text("mine")
    (photos / "c" / "d.xml").write_text("mine")
    code, table, err = call(capsys, run, "photos")
    assert (code, len(table.splitlines())) == (0, 5)
    assert err == "not used, because no image: photos/notes.txt and 1 more\n"


def test_names_that_are_no_text(run, photos, tmp_path, capsys):
    os.rename(b"photos/a.jpg", b"photos/a\xff\n.jpg")
    code, table, _ = call(capsys, run, "photos")
    assert code == 0
    assert len(table.splitlines()) == 5
    assert table.splitlines()[1].startswith(r"'photos/a\udcff\n.jpg'")
    assert json.loads(call(capsys, run, "photos", "--json")[1])[0]["image"] == "photos/a\udcff\n.jpg"
    call(capsys, run, "photos", "-o", "out.csv")
    assert b"photos/a\xff\n.jpg" in (tmp_path / "out.csv").read_bytes()


def test_a_grey_model_reads_photographs(photos, tmp_path, capsys):
    run = store(tmp_path / "grey", shape=(1, 8, 8), model="mlp")
    assert call(capsys, run, "photos")[0] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "photos/c/z.png is not an image that can be read: "),
        (b"not a picture", "photos/c/z.png is not an image that can be read: "),
        ("half", "photos/c/z.png is not an image that can be read: "),
        (None, "photos/c/z.png cannot be read (No such file or directory): check its path"),
    ],
)
@pytest.mark.parametrize("out", [[], ["-o", "out.csv"]])
def test_a_file_that_cannot_be_read_stops_it_before_anything_is_written(
    run, photos, tmp_path, capsys, content, message, out
):
    bad = photos / "c" / "z.png"
    if content == "half":
        whole = (photos / "b.png").read_bytes()
        bad.write_bytes(whole[: len(whole) // 2])
    elif content is None:
        bad.symlink_to("nowhere")
    else:
        bad.write_bytes(content)
    code, text, err = call(capsys, run, "photos", "--batch-size", 2, *out)
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(os.listdir(tmp_path)) == ["photos"]


@pytest.mark.parametrize("name", ["photos/a.jpg", "link.csv", "photos/new.jpg", "p.xlsx", "p", "run.json"])
@pytest.mark.parametrize("options", [[], ["--format", "csv"]])
def test_nothing_of_the_users_is_overwritten(run, photos, tmp_path, capsys, name, options):
    os.link(photos / "a.jpg", tmp_path / "link.csv")
    (tmp_path / "run.json").symlink_to(photos / "a.jpg")
    before = (photos / "a.jpg").read_bytes()
    code, text, err = call(capsys, run, "photos", "-o", name, *options)
    assert (code, text, err.count("\n")) == (2, "", 1)
    wrong = "is one of the images" if name in ("link.csv", "run.json") else "name a .csv, .json or .txt file"
    assert f"--out {name} " in err
    assert wrong in err
    assert (photos / "a.jpg").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["link.csv", "photos", "run.json"]


def test_a_folder_of_links_and_a_config_of_somebody_elses_are_no_mistake(run, tmp_path, capsys):
    (tmp_path / "links").mkdir()
    Image.new("RGB", (9, 9), "red").save(tmp_path / "outside.png")
    (tmp_path / "links" / "a.png").symlink_to(tmp_path / "outside.png")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "config.json").write_text('{"mine": true}')
    out = tmp_path / "project" / "p.csv"
    code, _, err = call(capsys, run, tmp_path / "links", "-o", out)
    assert code == 0, err
    assert "links/a.png" in out.read_text()


@pytest.mark.parametrize("name", ["result.json", "config.json", "mine.csv"])
def test_runs_are_not_written_into(photos, tmp_path, capsys, name):
    run = store(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    code, text, err = call(capsys, run, "photos", "-o", run / name)
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert f"--out {run / name} is where a run or a comparison lies (config.json is there): name" in err
    (tmp_path / "study.json").write_text("{}")
    assert call(capsys, run, "photos", "-o", "table.csv")[0] == 2
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert sorted(os.listdir(tmp_path)) == ["photos", "run", "study.json"]


@pytest.mark.parametrize("image", ["photos", "missing.png"])
def test_a_refusal_leaves_no_new_folder(run, photos, tmp_path, capsys, image):
    (photos / "c" / "z.png").write_bytes(b"no picture")
    assert call(capsys, run, image, "-o", "new/er/x.csv", "--batch-size", 1)[0] == 2
    assert os.listdir(tmp_path) == ["photos"]
    assert call(capsys, run, "photos/a.jpg", "-o", "new/er/x.csv") == (0, "", "wrote new/er/x.csv\n")
    assert os.listdir("new/er") == ["x.csv"]


@pytest.mark.parametrize("place", ["photos/x.jpg", "photos"])
def test_a_pipe_is_refused_rather_than_waited_for(run, photos, capsys, place):
    os.mkfifo(photos / "x.jpg")
    code, text, err = call(capsys, run, place)
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert "photos/x.jpg is not a regular file: remove it" in err


def test_a_file_that_may_not_be_read_is_named(run, photos, monkeypatch, capsys):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(inputs, "regular", refuse)
    code, text, err = call(capsys, run, "photos/a.jpg")
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert "cannot read photos/a.jpg: Permission denied; make it readable, or leave it out" in err


def test_json_and_another_format_contradict_each_other(run, photos):
    with pytest.raises(InputError, match="--json and --format csv contradict each other: give one"):
        predict(run, [photos], 1, "csv", None, 64, "cpu", False, None, as_json=True)


NOISY = """
from torch import nn
print("imported")
class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        print("built")
        self.head = nn.Linear(192, num_classes)
    def forward(self, x):
        print("called")
        return self.head(x.flatten(1))
"""


@pytest.mark.parametrize("out", [[], ["-o", "found.json"]])
def test_a_network_that_prints_does_not_get_into_the_output(photos, tmp_path, capsys, out):
    (tmp_path / "net.py").write_text(NOISY)
    network = models.create("net.py:Net", 3, 3, 8)
    run = store(tmp_path / "run", shape=(3, 8, 8), network=network, model="net.py:Net")
    config = json.loads((run / "config.json").read_text())
    config["model_fingerprint"] = models.fingerprint("net.py:Net")
    (run / "config.json").write_text(json.dumps(config))
    unseal(run, trial_id=parse(config).trial_id)
    capsys.readouterr()
    code, text, err = call(capsys, run, "photos", "--json", "--model", "net.py:Net", *out)
    assert code == 0
    assert len(json.loads((tmp_path / "found.json").read_text() if out else text)) == 4
    assert not (out and text)
    assert "built" in err
    assert "called" in err


def test_what_is_odd_about_the_files_is_said_once(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "b.jpg", "c.png"):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(name)
    for name in ("a.jpg", "b.jpg"):
        Path(name).write_bytes(Path(name).read_bytes()[:-2])
    Image.fromarray(rng.integers(0, 4096, (20, 20), dtype=np.uint16)).save("d.png")
    code, text, err = call(capsys, run, "a.jpg", "b.jpg", "c.png", "d.png", "--json", "--batch-size", "1")
    assert code == 0
    assert [row["image"] for row in json.loads(text)] == ["a.jpg", "b.jpg", "c.png", "d.png"]
    assert err.splitlines() == [
        "2 pictures (such as a.jpg) lack the end of the file but none of their pixels: read as other programs do",
        "1 picture (d.png) has grey values of more than 8 bits, of which 65,535 is taken for white: the network was "
        "trained on pictures of 8 bits",
    ]


def test_new_pictures_are_scaled_as_in_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).integers(100, 3000, (16, 16), dtype=np.uint16)
    Image.fromarray(values).save("deep.png")
    run = store(tmp_path / "run", CLASSES, levels=(100, 3000))
    share = np.clip((values.astype(float) - 100) / 2900, 0, 1)
    image = torch.from_numpy(np.floor(share * 255 + 0.5)).byte().expand(1, 3, 16, 16)
    with torch.no_grad():
        wanted = selftaught.load(run)(image).softmax(1)[0]
    code, text, err = call(capsys, run, "deep.png", "--json")
    assert (code, err) == (0, "")
    assert list(json.loads(text)[0]["probabilities"].values()) == pytest.approx(wanted.tolist(), rel=1e-5)
    Image.fromarray((values // 256).astype(np.uint8)).save("shallow.png")
    code, text, err = call(capsys, run, "shallow.png")
    assert (code, text) == (2, "")
    assert (
        "shallow.png is not an image that can be read: its values have 8 bits, but the network was trained"
        in err
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "missing.png cannot be read (No such file or directory)"),
        (["missing.png"], ": check its path"),
        ([], "(see selftaught predict --help)"),
        (["empty"], "empty holds no images"),
        (["mixed"], "mixed/1.heic is not an image that can be read (.heic): convert it"),
        ([], "IMAGES"),
        (["photos", "--top", "0"], "--top is 0 but should be at least 1"),
        (["photos", "--batch-size", "-1"], "--batch-size is -1"),
        (["photos", "--format", "jsno"], "unknown format 'jsno': did you mean 'json'"),
        (["photos", "--device", "gpu"], "unknown device 'gpu'"),
        (["photos", "-o", "photos"], "--out photos is not a file: choose another"),
        (["photos", "-o", "/dev/null"], "--out /dev/null is not a file: choose another"),
        (["photos", "-o", "mixed/notes.txt/x.csv"], "notes.txt is a file"),
        (["photos", "--model", "resnet14"], "holds the model 'resnet8'"),
    ],
)
def test_refusals(run, photos, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "notes.txt").write_text("mine")
    (tmp_path / "mixed" / "1.heic").write_text("mine")
    code, text, err = call(capsys, run, *arguments)
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert message.lower() in err.lower()
    assert sorted(os.listdir(tmp_path)) == ["empty", "mixed", "photos"]


def test_a_comparison_names_one_of_its_runs(photos, tmp_path, capsys):
    (tmp_path / "study" / "trials" / "0-unfinished").mkdir(parents=True)
    code, _, err = call(capsys, "study", "photos")
    assert (code, err) == (2, "selftaught: error: study is a comparison: none of its runs is finished\n")
    store(tmp_path / "study" / "trials" / "abc")
    code, _, err = call(capsys, "study", "photos")
    assert code == 2
    line = "selftaught: error: study is a comparison: name one of its runs, such as study/trials/abc (ce, seed 0)"
    assert err == f"{line}\n"
    for name, method, seed in (("aaa", "ls", 1), ("bbb", "ls", 0), ("ddd", "ce", 2)):
        store(tmp_path / "study" / "trials" / name, method=method)
        path = tmp_path / "study" / "trials" / name / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "seed": seed}))
    assert call(capsys, "study", "photos") == (2, "", f"{line}, study/trials/bbb (ls, seed 0)\n")


def test_what_is_no_run_is_refused(photos, capsys):
    code, _, err = call(capsys, "photos", "photos")
    assert (code, err.count("\n")) == (2, 1)
    assert "photos is not a run directory" in err


def test_images_are_read_a_batch_at_a_time(run, photos, monkeypatch):
    model, read = selftaught.load(run), []
    prepare = model.prepare
    monkeypatch.setattr(model, "prepare", lambda content: (read.append(1), prepare(content))[1])
    held = [(len(x), len(read)) for _, x in inputs.batches([photos / "a.jpg"] * 25, model, 10)]
    assert held == [(10, 10), (10, 20), (5, 25)]
