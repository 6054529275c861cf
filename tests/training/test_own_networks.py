"""Networks of the user's own do what they like."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import selftaught
from selftaught.errors import InputError, SelftaughtError
from selftaught.files import record
from selftaught.study.flags import plan, try_steps
from selftaught.training.presets import data_of, resolve
from selftaught.training.run import Stopped, train
from tests.data.conftest import encode, random_pictures
from tests.training import quick


@pytest.mark.parametrize("stops", [[3], [7, 2]])
def test_a_network_of_ones_own_may_draw_and_count_as_it_likes(tmp_path, stops):
    """Python's and NumPy's random numbers, and a buffer that its state dict leaves out."""
    (tmp_path / "net.py").write_text(
        "import random\nimport numpy as np\nimport torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, classes, channels):\n"
        "        super().__init__()\n"
        "        self.conv, self.head = nn.Conv2d(channels, 4, 3), nn.Linear(4, classes)\n"
        "        self.twice = nn.Sequential(self.conv)\n"
        "        self.register_buffer('calls', torch.zeros(()), persistent=False)\n"
        "    def forward(self, x):\n"
        "        a = self.twice(x).relu()\n"
        "        if self.training:\n"
        "            self.calls += 1\n"
        "            a = a * (random.random() + np.random.rand()) * (1 + self.calls / 10)\n"
        "        return self.head(a.mean((2, 3)))\n"
        "def build(num_classes, in_channels):\n"
        "    return Net(num_classes, in_channels)\n"
    )
    config = quick.config("le", model=f"{tmp_path / 'net.py'}:build")
    mine = random.getstate(), np.random.get_state()[1].tolist()
    train(config, tmp_path / "whole")
    assert (random.getstate(), np.random.get_state()[1].tolist()) == mine
    for steps in stops:
        with pytest.raises(Stopped):
            train(config, tmp_path / "parts", should_stop=quick.stop_after(steps))
        random.random(), np.random.rand()
    train(config, tmp_path / "parts")
    assert quick.fingerprint(tmp_path / "parts") == quick.fingerprint(tmp_path / "whole")


def test_predictions_that_are_no_numbers_fail_the_run(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        return super().forward(x) * (1.0 if self.training else float('nan'))\n"
        "def build(num_classes):\n"
        "    return Net(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, num_classes))\n"
    )
    config = quick.config(model=f"{tmp_path / 'net.py'}:build")
    with pytest.raises(SelftaughtError, match="predictions became NaN or infinite after epoch 3"):
        train(config, tmp_path / "run")
    assert not record.is_finished(tmp_path / "run")


def test_the_copy_that_a_run_keeps_makes_its_network(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build(num_classes):\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    config = quick.config(model="net.py:build")
    assert config.model == f"{tmp_path / 'net.py'}:build"
    train(config, tmp_path / "run")
    (tmp_path / "net.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir("/")
    with pytest.raises(InputError, match=r"has changed since: give the copy .*network\.py:build"):
        selftaught.load(tmp_path / "run", model=f"{tmp_path / 'net.py'}:build")
    model = selftaught.load(tmp_path / "run", model=f"{tmp_path / 'run' / 'network.py'}:build")
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


WITH_WEIGHTS = """
from pathlib import Path
from safetensors.torch import load_file
from torch import nn

FILES = ("weights.safetensors",)
PRETRAINED = True

def build(num_classes):
    body = nn.Linear(64, 16)
    body.load_state_dict(load_file(Path(__file__).with_name("weights.safetensors")))
    return nn.Sequential(nn.Flatten(), body, nn.ReLU(), nn.Linear(16, num_classes))
"""


def weights(path: Path, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    tensors = {"weight": torch.randn(16, 64, generator=draw), "bias": torch.randn(16, generator=draw)}
    # Of another length each time, whatever the clock's resolution.
    save_file(tensors, path, {"made": "x" * (64 * seed)})


def test_other_weights_of_a_network_of_ones_own_are_another_run(tmp_path):
    (tmp_path / "net.py").write_text(WITH_WEIGHTS)
    weights(tmp_path / "weights.safetensors", 1)
    config = quick.config(model=f"{tmp_path / 'net.py'}:build")
    train(config, tmp_path / "first")
    weights(tmp_path / "weights.safetensors", 2)
    other = quick.config(model=config.model)
    assert other.trial_id != config.trial_id
    with pytest.raises(InputError, match="have changed: start a new run"):
        train(config, tmp_path / "late")
    shutil.copy(tmp_path / "weights.safetensors", tmp_path / "first")
    for name in (config.model, f"{tmp_path / 'first' / 'network.py'}:build"):
        with pytest.raises(
            InputError, match="one of its FILES has changed since: put those that the run was"
        ):
            selftaught.load(tmp_path / "first", model=name)
    train(other, tmp_path / "second")
    assert quick.fingerprint(tmp_path / "first") != quick.fingerprint(tmp_path / "second")


def test_the_copy_that_a_run_keeps_asks_for_the_weights_beside_it(tmp_path):
    (tmp_path / "net.py").write_text(WITH_WEIGHTS)
    weights(tmp_path / "weights.safetensors", 1)
    config, run = quick.config(model=f"{tmp_path / 'net.py'}:build"), tmp_path / "run"
    train(config, run)
    assert not (run / "weights.safetensors").exists()
    selftaught.load(run, model=config.model)
    kept = f"{run / 'network.py'}:build"
    missing = r"network\.py names 'weights\.safetensors', but there is no such file in .*run: put it there"
    with pytest.raises(InputError, match=missing):
        selftaught.load(run, model=kept)
    shutil.copy(tmp_path / "weights.safetensors", run)
    assert selftaught.load(run, model=kept)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_a_finished_run_whose_function_takes_pretrained_needs_no_weights(tmp_path):
    wanted = "    if pretrained:\n        body.load"
    text = WITH_WEIGHTS.replace("(num_classes)", "(num_classes, pretrained)").replace(
        "    body.load", wanted, 1
    )
    net, run = tmp_path / "net.py", tmp_path / "run"
    net.write_text(text)
    weights(tmp_path / "weights.safetensors", 1)
    config = quick.config(model=f"{net}:build")
    train(config, run)
    kept = f"{run / 'network.py'}:build"
    expected = selftaught.load(run, model=config.model)(torch.ones(2, 1, 8, 8))
    (tmp_path / "weights.safetensors").unlink()
    for name in (config.model, kept):
        assert torch.equal(selftaught.load(run, model=name)(torch.ones(2, 1, 8, 8)), expected)
    net.write_text(text + "# changed\n")
    with pytest.raises(InputError, match="there is no such file"):
        selftaught.load(run, model=config.model)
    weights(tmp_path / "weights.safetensors", 1)
    with pytest.raises(InputError, match="or has changed since: give the copy"):
        selftaught.load(run, model=config.model)
    with pytest.raises(InputError, match="no such file"):  # only a finished run does without
        quick.config(model=kept)


def test_planning_builds_a_network_once_and_once_with_another_seed(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build(num_classes):\n"
        f"    open({str(tmp_path / 'calls')!r}, 'a').write('x')\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, num_classes))\n"
    )
    options = {**quick.OPTIONS, "model": f"{tmp_path / 'net.py'}:build", "saliency": "grad", "warmup": 1}
    configs = plan("digits", ["ce", "ls", "le"], trials=2, **options)
    try_steps(configs)
    assert (tmp_path / "calls").read_text() == "xx"
    for config in configs:
        train(config, tmp_path / config.trial_id)
    assert (tmp_path / "calls").read_text() == "xxx"  # the second trial's


def test_weights_that_no_seed_changes_are_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "net.py").write_text(WITH_WEIGHTS.replace("PRETRAINED = True", ""))
    weights(tmp_path / "weights.safetensors", 1)
    with pytest.raises(
        InputError, match=r"net\.py:build starts with the same weights .*write PRETRAINED = True"
    ):
        try_steps(plan("digits", ["ce"], trials=2, model=f"{tmp_path / 'net.py'}:build", **quick.OPTIONS))


def test_a_network_that_is_said_to_be_pretrained_is_fine_tuned(tmp_path):
    build = "from torch import nn\ndef build(num_classes): return nn.Linear(1, num_classes)\n"
    found = []
    for text in (build, "PRETRAINED = True\n" + build):
        (tmp_path / "net.py").write_text(text)
        config = resolve("digits", "ce", model=f"{tmp_path / 'net.py'}:build")
        found.append((config.optimizer, config.schedule, config.head, config.batch_norm))
    assert found == [("sgd", "steps", "new", "train"), ("adamw", "cosine", "probe", "frozen")]


@pytest.mark.parametrize("change", ["edited", "removed"])
def test_the_copy_is_of_the_file_that_made_the_network(tmp_path, change):
    net = tmp_path / "net.py"
    source = "from torch import nn\ndef build(num_classes):\n"
    net.write_text(source + "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n")
    original = net.read_bytes()

    def meanwhile() -> bool:
        net.write_text("edited") if change == "edited" else net.unlink(missing_ok=True)
        return False

    train(quick.config(model=f"{net}:build"), tmp_path / "run", should_stop=meanwhile)
    assert (tmp_path / "run" / "network.py").read_bytes() == original
    selftaught.load(tmp_path / "run", model=f"{tmp_path / 'run' / 'network.py'}:build")


def test_a_network_whose_file_changed_before_it_began_is_refused(tmp_path):
    source = (
        "from torch import nn\n"
        "def build(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    (tmp_path / "net.py").write_text(source)
    config = quick.config(model=f"{tmp_path / 'net.py'}:build")
    (tmp_path / "net.py").write_text(source + "# better\n")
    with pytest.raises(InputError, match="have changed: start a new run"):
        train(config, tmp_path / "run")


def test_examples_are_called_by_their_files(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number, picture in enumerate(random_pictures(10, (9, 9), seed=ord(label))):
            (tmp_path / "photos" / label / f"{number}.png").write_bytes(encode(picture))
    (tmp_path / "photos" / "a" / "copy.png").write_bytes((tmp_path / "photos" / "b" / "3.png").read_bytes())
    config = resolve(
        str(tmp_path / "photos"), "ce", model="resnet8", epochs=1, batch_size=8, val_fraction=0.0
    )
    train(config, tmp_path / "run")
    with safe_open(tmp_path / "run" / "examples.safetensors", "np") as file:
        names, labels = json.loads(file.metadata()["names"]), file.get_tensor("labels")
    data = data_of(config)
    assert len(names) == len(labels) > 0
    for name, label in zip(names, labels, strict=True):
        assert Path(name).parent == tmp_path / "photos" / data.classes[label]
