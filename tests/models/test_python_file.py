"""Models that a Python file of the user's makes."""

import errno
import hashlib
import os
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import selftaught
from selftaught import models
from selftaught.data.preparation import Preparation
from selftaught.errors import InputError
from selftaught.models import built, digest, python_file

NN = "from torch import nn\n"
DICT = NN + "class M(nn.Module):\n    def forward(self, x): return {}\nbuild = lambda: M()"
NET = """
from torch import nn

def build(num_classes, in_channels, image_size, dropout=0.0):
    height, width = image_size
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(dropout),
        nn.Flatten(), nn.Linear(8 * height * width, num_classes),
    )
"""


@pytest.fixture
def net(tmp_path):
    """Writes a model file; the name of the model that its `build` makes."""

    def write(text: str = NET, function: str = "build") -> str:
        (tmp_path / "net.py").write_text(text)
        return f"{tmp_path / 'net.py'}:{function}"

    return write


def refused(name: str, complaint: str, **options) -> str:
    with pytest.raises(InputError, match=complaint) as caught:
        models.create(name, 3, 1, (6, 8), **options)
    assert "\n" not in str(caught.value)
    assert name.rpartition(":")[0] in str(caught.value)
    return str(caught.value)


def test_it_is_built_for_the_data_and_learns_from_its_explanations(net):
    model = models.create(net(), 3, 1, (6, 8), dropout=0.25)
    assert model.training
    assert model[3].p == 0.25
    x = torch.randn(4, 1, 6, 8)
    selftaught.IntrospectiveLoss(model)(x, torch.tensor([0, 1, 2, 0])).backward()
    assert model[0].weight.grad.abs().sum() > 0


def test_the_seed_decides_the_weights(net):
    name = net()

    def first(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return models.create(name, 3, 1, 4)[0].weight

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_it_is_called_with_what_it_takes(net):
    name = net(
        "from torch import nn\n"
        "def build(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(48, num_classes))"
    )
    assert models.create(name, 3, 1, (6, 8))(torch.zeros(2, 1, 6, 8)).shape == (2, 3)
    name = net(
        "from torch import nn\n"
        "def build(**all):\n"
        "    assert sorted(all) == ['dropout', 'image_size', 'in_channels', 'num_classes']\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(48, all['num_classes']))"
    )
    assert models.create(name, 3, 1, (6, 8))(torch.zeros(2, 1, 6, 8)).shape == (2, 3)


def test_a_class_may_stand_in_for_the_function(net):
    name = net(
        "from dataclasses import dataclass\n"
        "from torch import nn\n"
        "@dataclass\n"
        "class Widths:\n"
        "    hidden: int = 4\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(48, Widths().hidden), nn.Linear(4, num_classes))\n",
        "Net",
    )
    assert models.create(name, 3, 1, (6, 8))(torch.zeros(2, 1, 6, 8)).shape == (2, 3)


def test_creating_leaves_statistics_and_random_states_as_found(net):
    name = net(
        NET.replace("nn.Flatten()", "Noise(), nn.Flatten()")
        + "import random\nimport numpy\nimport torch\n"
        + "class Noise(nn.Module):\n"
        + "    def forward(self, x):\n"
        + "        return x + torch.rand(1) + random.random() + numpy.random.rand()\n"
    )
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    model = models.create(name, 3, 1, 4)
    after = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    nn.Conv2d(1, 8, 3), nn.Linear(8 * 16, 3)
    assert (torch.rand(1), random.random(), np.random.rand()) == after
    assert model[1].num_batches_tracked == 0
    assert torch.equal(model[1].running_var, torch.ones(8))


def test_the_file_may_be_relative_or_at_home_and_leaves_nothing_beside_it(net, tmp_path, monkeypatch):
    net()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("net.py:build", "./net.py:build", "~/net.py:build"):
        models.create(name, 3, 1, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"]


def test_the_fingerprint_is_of_the_file_and_the_function(net, tmp_path):
    name = net()
    assert models.fingerprint(name) == hashlib.sha256(NET.encode() + b"build").hexdigest()
    assert models.fingerprint(f"{tmp_path / 'net.py'}:other") != models.fingerprint(name)


def test_the_fingerprint_is_also_of_the_files_that_it_names(net, tmp_path):
    """By what is written in the file: a fingerprint decides whether it may be run."""
    name = net("FILES = ('w.bin', 'more/v.bin')\nraise SystemExit('code ran')")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "v.bin").write_bytes(b"v")
    seen = set()
    for weights in (b"", b"1", b"12"):
        (tmp_path / "w.bin").write_bytes(weights)
        seen.add(models.fingerprint(name))
    (tmp_path / "more" / "v.bin").write_bytes(b"other")
    seen.add(models.fingerprint(name))
    assert len(seen) == 4
    (tmp_path / "unnamed.bin").write_bytes(b"unread")
    assert models.fingerprint(name) in seen
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert models.fingerprint(f"{tmp_path / 'copy' / 'net.py'}:build") in seen


@pytest.mark.parametrize("text", ["FILES = ()\n", "def f():\n    FILES = 3\n", "x = (\n"])
def test_a_file_that_names_no_files_keeps_its_fingerprint(net, text):
    assert models.fingerprint(net(text)) == hashlib.sha256(text.encode() + b"build").hexdigest()


def test_other_files_are_read_again(net, tmp_path, monkeypatch):
    """While the file is run, too; beside it, wherever that was when its relative name was used."""
    net(
        "from pathlib import Path\n"
        "from torch import nn\n"
        "FILES = ('width',)\n"
        "WIDTH = int(Path(__file__).with_name('width').read_text())\n"
        "def build(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(48, WIDTH), nn.Linear(WIDTH, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for width in (5, 10):
        Path("width").write_text(str(width))
        for name in ("net.py:build", "~/net.py:build"):
            assert models.create(name, 3, 1, (6, 8))[1].out_features == width
    shutil.copytree(tmp_path, tmp_path / "copy")
    monkeypatch.chdir("copy")
    Path("../width").unlink()
    Path("width").write_text("15")
    assert models.create("net.py:build", 3, 1, (6, 8))[1].out_features == 15


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An installed package that must not be imported to find its files."""
    folder = tmp_path / "installed" / "weights_of_mine"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('code ran')")
    (folder / "models" / "w.pth").write_bytes(b"w")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def test_a_file_of_an_installed_package_is_named_with_the_package(net, package):
    name = net("FILES = ('weights_of_mine:models/w.pth',)\nraise SystemExit('code ran')")
    first = models.fingerprint(name)
    (package / "models" / "w.pth").write_bytes(b"other")
    assert models.fingerprint(name) != first


@pytest.mark.parametrize(
    ("named", "complaint"),
    [
        ("no_such_package:w.pth", "no package no_such_package is installed: install the one"),
        ("__main__:w.pth", "no package __main__ is installed"),
        ("weights_of_mine:gone.pth", "no such file in .*weights_of_mine: name one that this release"),
        ("weights_of_mine:../w.pth", "name files in the package weights_of_mine or below"),
        ("weights_of_mine:/etc/hostname", "name files in the package weights_of_mine or below"),
        ("weights_of_mine:models/out.pth", "is a link that leaves the folder .*weights_of_mine"),
    ],
)
def test_nothing_outside_the_package_is_read(net, package, named, complaint):
    (package.parent / "w.pth").write_bytes(b"outside")
    (package / "models" / "out.pth").symlink_to(package.parent / "w.pth")
    with pytest.raises(InputError, match=complaint):
        models.fingerprint(net(f"FILES = ({named!r},)"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("FILES = 'w.bin'", "FILES in .* is 'w.bin': make it a tuple of file names, as in FILES = "),
        ("FILES = ('w.bin', 3)", "FILES in .* is .*: make it a tuple of file names"),
        ("FILES: tuple = None", "FILES in .* is None: make it a tuple"),
        ("FILES = tuple(['w.bin'])", "FILES in .* must be readable without running.*: write it out"),
        ("FILES = ('gone.bin',)", "names 'gone.bin', but there is no such file in /.*: put it there"),
        ("FILES = ['more']", "names 'more', but there is no such file"),
        ("FILES = ('w.bin\\0',)", "no such file"),
        ("FILES = ('/etc/hostname',)", "names '/etc/hostname': name files in its own folder or below"),
        ("FILES = ('more/../w.bin',)", "names 'more/../w.bin': name files in its own folder"),
        ("FILES = ('./w.bin',)", "names './w.bin': name files in its own folder"),
        ("FILES = ('',)", "names '': name files in its own folder"),
    ],
)
def test_files_that_cannot_be_used_are_refused(net, tmp_path, text, complaint):
    (tmp_path / "w.bin").write_bytes(b"w")
    (tmp_path / "more").mkdir()
    name = net(f"{NET}\n{text}\n")
    refused(name, complaint)
    with pytest.raises(InputError, match=complaint):
        models.fingerprint(name)


def test_a_link_to_a_file_elsewhere_is_refused(net, tmp_path):
    (tmp_path / "nets").mkdir()
    (tmp_path / "w.bin").write_bytes(b"w")
    (tmp_path / "nets" / "w.bin").symlink_to(tmp_path / "w.bin")
    shutil.move(net(f"{NET}\nFILES = ('w.bin',)").removesuffix(":build"), tmp_path / "nets")
    with pytest.raises(InputError, match=r"w\.bin is a link that leaves the folder .*nets: put a copy"):
        models.fingerprint(f"{tmp_path / 'nets' / 'net.py'}:build")


def test_a_file_that_cannot_be_read_is_refused(net, tmp_path, monkeypatch):
    (tmp_path / "w.bin").write_bytes(b"w")
    name = net(f"{NET}\nFILES = ('w.bin',)")

    def denied(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(digest, "of_file", denied)
    refused(name, r"names 'w\.bin', which cannot be read \(Permission denied\): make it readable")


@pytest.mark.parametrize(
    "text", ["if True:\n    FILES = ('w.bin',)", "FILES = ()\nFILES += ('w.bin',)", "PRETRAINED = PRE = True"]
)
def test_a_declaration_that_only_running_shows_is_refused(net, text):
    """It would be in no fingerprint."""
    refused(net(f"{NET}\n{text}\n"), "must be readable without running the file: write it out")


def test_a_file_may_say_that_its_model_is_pretrained(net):
    assert not models.is_pretrained(net())
    assert models.is_pretrained(net("PRETRAINED = True\nraise SystemExit('code ran')"))
    assert models.is_pretrained(net("PRETRAINED: bool = True"))
    assert not models.is_pretrained(net("PRETRAINED = False"))
    for value, complaint in {"1": "is 1: make it True or False", "not 0": "must be readable"}.items():
        with pytest.raises(InputError, match=rf"PRETRAINED in .*net\.py {complaint}"):
            models.is_pretrained(net(f"PRETRAINED = {value}"))


def test_an_edited_file_is_run_again(net):
    models.create(net(), 3, 1, 4)
    assert models.create(net(NET.replace("8", "6")), 3, 1, 4)[0].out_channels == 6


def test_a_file_may_say_how_its_images_are_prepared(net):
    assert models.preparation(net()) == Preparation()
    prepared = (
        "from selftaught.data import preparation as p\nPREPARATION = p.Preparation(size=(9, 9), channels=1)"
    )
    assert models.preparation(net(prepared)) == Preparation(size=(9, 9), channels=1)
    with pytest.raises(InputError, match=r"PREPARATION in .*net\.py is a dict"):
        models.preparation(net("PREPARATION = {}"))


def test_a_pretrained_one_that_does_not_say_how_gets_what_most_were_trained_with(net):
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    name = net("PRETRAINED = True")
    assert models.preparation(name) == Preparation((224, 224), crop=0.875, **imagenet)
    assert (
        "224x224 pixels unless --image-size chooses another size and ImageNet's mean" in models.notes(name)[0]
    )
    says = "from selftaught.data.preparation import Preparation\nPRETRAINED = True\nPREPARATION = Preparation"
    own = {"size": (96, 96), "mean": (0.5,), "std": (0.5,), "crop": 1.0, "stretch": True}
    name = net(f"{says}(**{own})")
    assert models.preparation(name) == Preparation(**own)
    assert models.notes(name) == ()
    assert models.preparation(net(f"{says}(stretch=True)")).crop is None


TAKES_PRETRAINED = """
from torch import nn
def build(num_classes, pretrained, **more):
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, num_classes))
    net.told = pretrained
    return net
"""


def test_it_is_told_whether_its_weights_are_wanted(net):
    name = net(TAKES_PRETRAINED)
    assert models.create(name, 3, 1, (6, 8)).told is True
    assert models.create(name, 3, 1, (6, 8), pretrained=False).told is False
    assert models.rebuilds(name)
    assert not models.rebuilds(net())


SAME = "    nn.init.constant_(net[1].weight, 0.1); net[1].weight.data[0, 0] = 1\n    return net\n"
SMALL = "def build(num_classes):\n    net = nn.Sequential(nn.Flatten(), nn.Linear(48, num_classes))\n"
BODIES = {  # what is said of the network, and what of that is refused or remarked
    NN + SMALL + "    return net\n": (None, None),
    NN + SMALL + SAME: ("refused", None),
    "import torch\n" + NN + SMALL.replace("net =", "torch.manual_seed(0); net =") + "    return net": (
        "refused",
        None,
    ),
    NN + SMALL + "    nn.init.zeros_(net[1].weight)\n    return net": (None, None),
    NN + SMALL + "    net[1].weight.data = nn.Parameter(net[1].weight.sign())\n    return net": (None, None),
    "PRETRAINED = False\n" + NN + SMALL + SAME: (None, None),
    "PRETRAINED = True\n" + NN + SMALL + SAME: (None, None),
    "PRETRAINED = True\n" + NN + SMALL + "    return net\n": (None, "nothing looks pretrained"),
}


@pytest.mark.parametrize(("text", "expected"), BODIES.items())
def test_whether_it_starts_from_trained_weights_shows_in_two_seeds(net, text, expected):
    name, (refused, remark) = net(text), expected
    before = torch.get_rng_state()
    if refused:
        with pytest.raises(
            InputError, match=r"whatever the seed: .*write PRETRAINED = True .*or PRETRAINED = False"
        ):
            models.check_start(name, 3, 1, (6, 8))
        return
    models.check_start(name, 3, 1, (6, 8))
    assert (remark in models.notes(name)[-1]) if remark else "looks pretrained" not in str(models.notes(name))
    models.check_start("cnn6", 3, 1, (16, 16))
    torch.set_rng_state(before)


def test_the_share_that_stays_is_of_the_body():
    """A new head may be larger than the body."""

    def network(seed):
        torch.manual_seed(0)
        body = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)]
        torch.manual_seed(seed)
        return nn.Sequential(*body, nn.Flatten(), nn.Linear(4096, 10))

    assert built.share_alike(network(1), network(2)) == 0.75
    assert not built.is_alike(built.share_alike(nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)))
    assert built.share_alike(nn.BatchNorm2d(99), nn.BatchNorm2d(99)) is None


COUNTING = NET.replace("    height,", "    calls.append(torch.rand(1).item())\n    height,")
COUNTING = f"import torch\ncalls = []\n{COUNTING}"


def calls(name: str) -> list:
    return sys.modules[python_file._function(*name.rsplit(":", 1)).__module__].calls


def test_a_network_is_built_once_for_a_seed(net):
    name = net(COUNTING)

    def create(seed: int) -> tuple[dict, torch.Tensor, float]:
        torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)
        model = models.create(name, 3, 1, 4)
        return model.state_dict(), torch.rand(2), random.random()

    first, drawn, number = create(1)
    first["0.weight"] += 1  # whoever has it may train it
    again, drawn_again, number_again = create(1)
    assert torch.equal(drawn, drawn_again)
    assert number == number_again
    assert torch.equal(first["0.weight"], again["0.weight"] + 1)
    assert len(calls(name)) == 1
    create(2)
    create(1)
    assert len(calls(name)) == 2
    models.create(name, 3, 1, 4, pretrained=False)
    assert len(calls(name)) == 3


@pytest.mark.parametrize(
    "tied",
    [
        "    net[5].register_forward_pre_hook(lambda m, x: (drop(x[0]),))\n",
        "    net[0].register_forward_hook(lambda m, x, y: y + net[0].weight.sum())\n",
        "    net.forward = lambda x: seq(net, x)\n",
    ],
)
def test_a_network_that_a_copy_would_be_tied_to_is_built_each_time(net, tied):
    text = (
        COUNTING.replace("return nn.Seq", "drop = nn.Dropout(0.5)\n    net = nn.Seq")
        + f"{tied}    return net\n"
    )
    name = net(text + "def seq(net, x):\n    for part in net:\n        x = part(x)\n    return x\n")
    for times in (1, 2):
        torch.manual_seed(0), random.seed(0), np.random.seed(0)
        model = models.create(name, 3, 1, 4)
        assert len(calls(name)) == times
        before = {key: value.clone() for key, value in model.named_parameters()}
        model(torch.rand(2, 1, 4, 4)).sum().backward()
        assert all(value.grad is not None for value in model.parameters()), before.keys()


def test_what_is_said_of_it():
    assert models.runs_code("net.py:build")
    assert "build() of net.py" in models.summary("net.py:build")


def test_no_such_file(tmp_path):
    refused(f"{tmp_path}/net.py:build", "cannot be read .*No such file.*check its path")
    with pytest.raises(InputError, match="cannot be read"):
        models.fingerprint(f"{tmp_path}/net.py:build")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def built(): pass", "unknown function .*'build': did you mean 'built'"),
        ("build = 3", "unknown function"),
        ("x = 1\ny = (", "fails in line 2: SyntaxError: '\\(' was never closed"),
        ("x = 1\n\nimport blocks", "fails in line 3: ModuleNotFoundError: .*'blocks'.*stands alone"),
        ("def f():\n    1 / 0\nf()", "fails in line 2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit('so long')", "fails in line 2: SystemExit: so long"),
        ("def build(num_classes):\n    raise KeyError('depth')", "build\\(\\) fails in line 2: KeyError: 'depth'"),
        ("def build(depth): pass", "needs 'depth'.*num_classes, in_channels.*give it a default"),
        ("def build(num_classes, /): pass", "needs 'num_classes'.*by name"),
        ("def build(): return [1]", "returns list: it must return a torch.nn.Module"),
        (NN + "build = lambda: nn.Conv2d(1, 3, 3)", "returns float32 \\(2, 3, 4, 6\\).*\\(2, 3\\)"),
        (NN + "build = lambda: nn.Flatten()", "returns float32 \\(2, 48\\) .*\\(2, 3\\)"),
        (NN + "build = lambda: nn.Linear(5, 3)", "cannot take images of 1x6x8.*another --image-size"),
        (DICT, "returns dict: it must return the logits"),
    ],
)  # fmt: skip
def test_what_does_not_work_is_refused_in_one_line(net, text, complaint):
    refused(net(text), complaint)


def test_dropout_that_it_does_not_take_is_refused(net):
    refused(net("def build(num_classes): pass"), "takes no dropout.*give it a parameter", dropout=0.1)


def test_a_file_without_its_function_is_told_how(tmp_path):
    with pytest.raises(InputError, match=r"unknown model 'net.py'.*FILE.py:FUNCTION"):
        models.create("net.py", 3)
    with pytest.raises(InputError, match=r"for example a/net.py:build$"):
        models.runs_code("a/net.py")
    assert not models.runs_code("hf:someone/net.py")


def test_what_it_prints_goes_to_stderr(net, capsys):
    noisy = NET.replace("nn.Flatten()", "Loud(), nn.Flatten()").replace(
        "    height,", "    print('built')\n    height,"
    )
    noisy += "print('imported')\nclass Loud(nn.Module):\n    def forward(self, x):\n        print('called')\n"
    models.create(net(noisy + "        return x\n"), 3, 1, 4)
    assert capsys.readouterr() == ("", "imported\nbuilt\ncalled\n")


@pytest.mark.parametrize("raised", ["GeneratorExit", "BaseException('x')", "SystemExit(0)", "EOFError"])
@pytest.mark.parametrize("head", ["", "def build(num_classes): "])
def test_whatever_it_raises_is_told(net, head, raised):
    with pytest.raises(InputError, match=rf"fails in line 1: {raised.partition('(')[0]}"):
        models.create(net(f"{head}raise {raised}\n"), 3, 1, 4)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "net.py")
    with pytest.raises(InputError, match="not a regular file: name a Python file"):
        models.create(f"{tmp_path}/net.py:build", 3)


def test_a_network_with_nothing_to_train_is_refused(net):
    frozen = "import torch\nfrom torch import nn\ndef build(num_classes):\n    net = nn.Sequential("
    frozen += "nn.Flatten(), nn.Linear(16, num_classes))\n    return net.requires_grad_(False)\n"
    with pytest.raises(InputError, match="without a weight that can be trained"):
        models.create(net(frozen), 3, 1, 4)
