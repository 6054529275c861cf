"""`selftaught export`: files that compute what the model computes, without this package."""

import importlib.util
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import selftaught
from selftaught import cli, models
from selftaught.errors import InputError, SelftaughtError
from selftaught.files.config import parse
from selftaught.training import export as exporting
from selftaught.training.export import export
from tests.models.saved import save
from tests.training.stored import store, trained
from tests.unsealed import unseal


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(["export", *map(str, arguments)])
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def images(count, shape):
    return torch.rand(count, *shape)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return store(tmp_path_factory.mktemp("runs") / "run")


def test_onnx(run, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "new" / "model.onnx"
    code, text, err = call(capsys, run, "-o", out)
    assert (code, err) == (0, "")
    assert text.startswith(f"wrote {out}: its logits differ from the model's by at most ")
    assert text.count("\n") == 1
    session = onnxruntime.InferenceSession(out)
    model = selftaught.load(run)
    for count in (1, 5):
        x = images(count, model.input_shape)
        [logits] = session.run(["logits"], {"images": x.numpy()})
        assert logits == pytest.approx(model(x).detach().numpy(), abs=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["cat", "dog", "owl"]
    told = {"channels": 3, "height": 16, "width": 16, "range": [0, 1], "resample": "bilinear", "crop": None}
    assert json.loads(about["input"]) == told | {"stretch": False, "levels": None}


def test_pt2(run, tmp_path, capsys):
    out = tmp_path / "model.pt2"
    code, text, err = call(capsys, run, "--out", out)
    assert (code, err, text.count("\n")) == (0, "", 1)
    extra = {"classes": "", "input": ""}
    program = torch.export.load(out, extra_files=extra)
    assert json.loads(extra["classes"]) == ["cat", "dog", "owl"]
    assert json.loads(extra["input"])["range"] == [0, 1]
    model = selftaught.load(run)
    for count in (5, 1):
        x = images(count, model.input_shape)
        assert torch.allclose(program.module()(x), model(x), atol=1e-5)


@pytest.mark.slow
def test_pt2_runs_without_this_package(run, tmp_path):
    out = tmp_path / "model.pt2"
    export(selftaught.load(run), out)
    model = selftaught.load(run)
    x = images(5, model.input_shape)
    np.savez(tmp_path / "x.npz", x=x.numpy(), logits=model(x).detach().numpy())
    script = (
        "import sys, numpy, torch\n"
        "program = torch.export.load('model.pt2')\n"
        "saved = numpy.load('x.npz')\n"
        "for part in (slice(5), slice(1)):\n"
        "    logits = program.module()(torch.from_numpy(saved['x'][part]))\n"
        "    assert numpy.allclose(logits.detach(), saved['logits'][part], atol=1e-5)\n"
        "assert 'selftaught' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [pytest.param("vit", ".onnx", marks=pytest.mark.slow), ("vit", ".pt2"), ("resnet", ".onnx")],
)
def test_models_of_transformers(tmp_path, kind, suffix):
    network = models.create(save(tmp_path / kind, kind), 3, 3, 32)
    model = trained(network, classes=3, shape=(3, 32, 32))
    assert export(model, tmp_path / f"m{suffix}") <= 1e-5
    assert (tmp_path / f"m{suffix}").stat().st_size > 1000


def test_grey_images_and_an_mlp(tmp_path):
    model = trained(models.create("mlp", 4, 1, 8), classes=4, shape=(1, 8, 8))
    assert export(model, tmp_path / "m.pt2") <= 1e-6


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch, suffix):
    model, out = trained(models.create("mlp", 4, 1, 8), classes=4, shape=(1, 8, 8)), tmp_path / f"m{suffix}"
    out.write_text("an earlier one")
    to_bytes, run = exporting._FORMATS[suffix]
    monkeypatch.setitem(exporting._FORMATS, suffix, (to_bytes, lambda *given: run(*given) * 1.001))
    with pytest.raises(
        SelftaughtError, match=r"is not written: .* logits are off by 1\.0e-03 of the largest"
    ):
        export(model, out)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert out.read_text() == "an earlier one"


class Undecided(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(192, 4)

    def forward(self, x):
        return self.head(x.flatten(1)) if x.sum() > 0 else -self.head(x.flatten(1))


def test_a_network_that_cannot_be_exported_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^the network cannot be exported: .") as refusal:
        export(trained(Undecided(), classes=4), tmp_path / "new" / "m.pt2")
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def without(monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))


def test_without_onnx_the_remedy_is_named(run, tmp_path, monkeypatch, capsys):
    without(monkeypatch, "onnxscript")
    code, text, err = call(capsys, run, "-o", tmp_path / "m.onnx")
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert "pip install 'selftaught[onnx]', or export to .pt2" in err
    assert not list(tmp_path.iterdir())


def test_without_onnxruntime_it_says_that_nothing_was_compared(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxscript")
    run = store(tmp_path / "run", shape=(1, 4, 4), model="mlp")
    without(monkeypatch, "onnxruntime")
    code, text, _ = call(capsys, run, "-o", tmp_path / "m.onnx")
    assert code == 0
    assert "not run: pip install onnxruntime" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "m.bin"], "name a file .onnx or .pt2"),
        (["-o", "folder.onnx"], "name a file .onnx or .pt2"),
        (["-o", "file/m.pt2"], "file is a file"),
        (["--model", "resnet14"], "holds the model 'resnet8', not 'resnet14'"),
    ],
)
def test_refusals(run, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").write_text("")
    code, text, err = call(capsys, run, *arguments)
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert message in err
    assert len(list(tmp_path.iterdir())) == 2


def test_a_run_is_not_written_into(run, capsys):
    before = sorted(run.iterdir())
    code, text, err = call(capsys, run, "-o", run / "model.pt2")
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert "config.json is there): name another folder" in err
    assert sorted(run.iterdir()) == before


def test_a_model_from_a_python_file_needs_consent(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build(num_classes, image_size):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size[0] * image_size[1], num_classes))\n"
    )
    network = models.create("net.py:build", 3, 3, 8)
    run = store(tmp_path / "run", shape=(3, 8, 8), network=network, model="net.py:build")
    config = json.loads((run / "config.json").read_text())
    config["model_fingerprint"] = models.fingerprint("net.py:build")
    (run / "config.json").write_text(json.dumps(config))
    unseal(run, trial_id=parse(config).trial_id)
    code, _, err = call(capsys, run, "-o", "m.pt2")
    assert (code, err.count("\n")) == (2, 1)
    assert "--model net.py:build" in err
    assert call(capsys, run, "-o", "m.pt2", "--model", "net.py:build")[0] == 0
    program = torch.export.load(io.BytesIO((tmp_path / "m.pt2").read_bytes()))
    assert program.module()(images(2, (3, 8, 8))).shape == (2, 3)
