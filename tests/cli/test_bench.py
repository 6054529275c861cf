"""`selftaught bench`: time and memory of a step of each method, for the user's own network too."""

import json
from pathlib import Path

import pytest

from selftaught import cli
from selftaught.methods import registry
from selftaught.training import cost
from tests.commands import call

QUICK = ["--image-size", "8", "--train-size", "40", "--batch-size", "8"]
NET = """
from torch import nn

def build(num_classes, in_channels):
    convolution = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.ReLU())
    return nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""

STEPPING = [method for method in registry.names() if not registry.find(method).head_only]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measure = cost.measure
    monkeypatch.setattr(cost, "measure", lambda configs, **_: measure(configs, steps=2))
    Path("net.py").write_text(NET)


@pytest.fixture
def bench(capsys):
    """Runs the command in this process: (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(["bench", "digits", *QUICK, *arguments])
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return call


def transformer() -> str:
    """A small transformer in a folder, as if somebody had trained it."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1)
    transformers.ViTForImageClassification(config).save_pretrained("vit")
    return "hf:vit"


def test_time_and_memory_of_each_method(bench):
    code, out, err = bench("--methods", "ce,le,dml", "--json")
    assert (code, err) == (0, "")
    costs = json.loads(out)
    assert list(costs) == ["ce", "le", "dml"]
    assert all(c["seconds"] > 0 and c["memory"] > 2**18 for c in costs.values())
    assert costs["ce"]["relative"] == costs["ce"]["relative_memory"] == 1.0
    assert costs["le"]["relative_memory"] == pytest.approx(1, abs=0.1)
    assert costs["dml"]["relative_memory"] > 1.5


def test_the_table_says_what_was_measured(bench):
    code, out, _ = bench("--methods", "ls")
    assert code == 0
    for word in ("× ce", "peak MB", "digits, resnet8, batch 8", "with weights, teacher and peer"):
        assert word in " ".join(out.split())


@pytest.mark.parametrize("model", ["net.py:build", "hf"])
def test_by_default_all_that_the_network_can_be_trained_by(bench, model):
    code, out, err = bench("--model", transformer() if model == "hf" else model, "--json")
    assert code == 0
    untaught = [m for m in STEPPING if registry.find(m).learns_from not in ("teacher", "assistant")]
    assert list(json.loads(out)) == [m for m in untaught if m != "dropout" or model != "net.py:build"]
    assert "name a model with --teacher" in err
    assert ("left out dropout: " in err) == (model == "net.py:build")


def test_with_a_teacher_only_what_compares_stages_is_left_out(bench):
    code, out, err = bench("--model", "mlp", "--teacher", "mlp", "--assistant", "mlp", "--json")
    assert code == 0
    assert set(STEPPING) - set(json.loads(out)) == {"hint", "at", "fsp"}
    assert err.count("\n") == 2
    assert "left out hint: needs 2 blocks of the student" in err
    assert "left out at, fsp: needs 3 blocks of the student" in err


def test_a_finished_run_may_teach(bench, capsys):
    flags = ["--model", "mlp", "--method", "ce", "--epochs", "1", "--out", "teacher", "--quiet"]
    assert call("train", "digits", *QUICK, *flags) == 0
    capsys.readouterr()
    code, out, _ = bench("--model", "mlp", "--methods", "kd", "--teacher", "teacher", "--json")
    assert (code, list(json.loads(out))) == (0, ["kd"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--drop-rate 0.1 --model net.py:build", "dropout"),
        ("--alpha 2", "alpha must be in (0, 1], not 2"),
        ("--temperature -1", "temperature must be"),
        ("--teacher resnet9 --model resnet8", "there is no resnet9"),
        ("--model nonet", "unknown model 'nonet'"),
        ("--model hf:nowhere", "nowhere"),
        ("--model net.py:nothing", "nothing"),
        ("--methods kd --model net.py:build", "name a model with --teacher"),
        ("--methods ce,xx", "unknown method 'xx'"),
    ],
)
def test_refusals_are_one_line(bench, flags, message):
    code, out, err = bench(*flags.split())
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("selftaught: error: ")
    assert err.count("\n") == 1
