"""Recipes, flags and files of models."""

import json
import os
import random
import shutil
from pathlib import Path

import yaml

from selftaught import recipes
from selftaught.cli.options import RunOptions
from tests.hostile.family import QUICK, executed, lies
from tests.hostile.harness import Case
from tests.hostile.values import DEEP, MARKER, ODD, SCRIPT, exploit, mutated, spoiled, strange_file, written


def strange_recipes(k: int, template: Path) -> Case:
    """The recipes of the package with odd values, and YAML that builds objects or grows."""
    chance = random.Random(f"recipes {k}")
    folder_of_ours = Path(recipes.__file__).parent
    ours = sorted(path for path in folder_of_ours.glob("*.yaml") if path.name != "budgets.yaml")
    texts = [
        b"!!python/object/apply:os.system ['touch owned']",
        b"name: !!python/name:os.system ''",
        b"a: &a [x,x,x,x]\n"
        + b"".join(b"%c: &%c [*%c,*%c,*%c]\n" % (c, c, c - 1, c - 1, c - 1) for c in range(98, 120)),
        b"{" * 50_000,
        b"- " * 50_000,
        b"".join(b"k%d: 1\n" % number for number in range(20_000)),
        b"? [a]\n: 1",
        b"? {a: 1}\n: 1",
        b"a: 2026-99-99",
        b"a: 0x" + b"f" * 10_000,
        b"a: 190:20:30",
        b"a: !!binary xx",
        b"a: !!set {x, y}\nb: !!omap [x: 1]",
        b"<<: *x",
        b"---\na: 1\n---\nb: 2",
        b"%YAML 9.9\n---\na: 1",
        b"\t",
        *DEEP,
    ]

    def prepare(folder: Path) -> None:
        path = folder / "mine.yaml"
        if k % 4 == 0:
            path.write_bytes(texts[k // 4 % len(texts)])
        elif k % 4 == 1:
            path.write_bytes(spoiled(chance, chance.choice(ours).read_bytes()))
        else:
            values = yaml.safe_load(chance.choice(ours).read_text())
            odd = [value for value in ODD if not (isinstance(value, str) and "\ud800" in value)]
            path.write_text(json.dumps(mutated(chance, values, odd)))

    return Case(
        f"strange recipes {k}",
        prepare,
        [["reproduce", "mine.yaml", "--budget", "smoke", "--dry-run"]],
        executed,
    )


def strange_flags(k: int, template: Path) -> Case:
    """A flag with a value that nobody expects."""
    chance = random.Random(f"flags {k}")
    values = [
        "0",
        "-1",
        "1",
        "nan",
        "inf",
        "-inf",
        "1e308",
        "1e-320",
        str(10**9),
        str(10**30),
        str(2**63),
        "",
    ]
    values += [" ", "a", "1,2", "1;2", "²", "٣", "0x10", "1_0", "\x1b[31m", "a\nb", "x" * 10_000, "../.."]
    values += ["/dev/zero", "/dev/stdin", SCRIPT, "=", "--", "\udcff", "hf:good", "net.py:build", "run"]
    of_training = [f"--{option.name.replace('_', '-')}" for option in RunOptions.parameters()]
    of_training += ["--methods", "--trials", "--jobs", "--executor", "--out"]
    of_explain = ["--count", "--classes", "--saliency", "--layer", "--out", "--device", "--model"]
    others = [
        *(
            ["predict", "run", "good", flag]
            for flag in ("--top", "--format", "--out", "--batch-size", "--model")
        ),
        *(["explain", "run", flag] for flag in of_explain),
        *(
            ["reproduce", "table2", "--dry-run", flag]
            for flag in ("--budget", "--trials", "--variant", "--jobs")
        ),
        *(["export", "run", "--out"], ["report", "run", "--out"], ["archive", "study", "--out"]),
        *(["status"], ["ls"], ["check"], ["compare", "--dry-run"], ["train"]),
    ]
    value = chance.choice(values)
    command = [*chance.choice(others), value]
    if k % 3:
        flag = of_training[k % len(of_training)]
        command = ["compare", "good", "--dry-run", "--methods", "ce,le", *QUICK, flag, value]

    def prepare(folder: Path) -> None:
        for name in ("run", "good", "study"):
            shutil.copytree(template / name, folder / name)

    return Case(f"strange flags {k}", prepare, [command], executed)


def _network(line: str) -> str:
    """A file of a network whose forward pass is this line."""
    head = "from torch import nn\ndef build(num_classes):\n    class N(nn.Module):\n        def forward(self, x):\n"
    return f"{head}            {line}\n    return N()"


def strange_models(k: int, template: Path) -> Case:
    """Python files that fail in every way, and folders of transformers with odd contents; nobody named the latter."""
    chance = random.Random(f"models {k}")
    codes = [
        "raise SystemExit(0)",
        "import sys; sys.exit(3)",
        "raise KeyboardInterrupt2",
        "def build(): return build()",
        "def build(num_classes): raise MemoryError",
        "def build(num_classes): return [0] * num_classes",
        "def build(**k): raise BaseException('x')",
        "def build(**k): raise GeneratorExit",
        "def build(**k): raise StopIteration",
        "def build(**k): raise EOFError('x')",
        "def build(**k): raise BrokenPipeError",
        "build = 3",
        "build = None",
        "class build: pass",
        "from torch import nn\ndef build(num_classes): return nn.Linear(1, num_classes)",
        "from torch import nn\ndef build(**k): return nn.Module()",
        "from torch import nn\ndef build(**k): return nn.Module",
        "import torch\ndef build(num_classes): torch.empty(1 << 60)",
        _network("return x.new_full((len(x), num_classes), float('nan'))"),
        _network("raise Exception('a\\nb\\x1b[31m')"),
        _network("return x.flatten(1)[:, :num_classes]"),
        "def build(num_classes, need): pass",
        "print('x')\ndef build(num_classes): return 1",
        "FILES = ('/etc/passwd',)\ndef build(num_classes): return 1",
        "FILES = 3\ndef build(num_classes): return 1",
        "FILES = ('../secret',)\ndef build(num_classes): return 1",
        "PRETRAINED = 'x'\ndef build(num_classes): return 1",
        "PREPARATION = 3\nfrom torch import nn\ndef build(num_classes): return nn.Linear(1, 1)",
        "\0",
        "def build(:\n",
        "(" * 1000,
        "# -*- coding: nonsense -*-\n",
    ]

    def prepare(folder: Path) -> None:
        shutil.copytree(template / "good", folder / "good")
        path = folder / "net.py"
        if k % 3 == 0:
            path.write_text(codes[k // 3 % len(codes)])
        elif k % 3 == 1:
            if chance.random() < 0.5:
                strange_file(chance, os.fsencode(path))
            else:
                path.write_bytes(chance.choice([*DEEP, chance.randbytes(500), exploit()]))
        else:
            _transformer(folder / "net", chance)

    model = "hf:net" if k % 3 == 2 else "net.py:build"
    command = ["compare", "good", "--methods", "ce,le", "--dry-run", *QUICK, "--model", model]
    return Case(f"strange models {k}", prepare, [command], executed)


def _transformer(folder: Path, chance: random.Random) -> None:
    folder.mkdir()
    config = {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification"],
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "intermediate_size": 16,
        "image_size": 8,
        "patch_size": 4,
        "auto_map": {"AutoModelForImageClassification": "evil.Evil", "AutoConfig": "evil.Config"},
    }
    (folder / "config.json").write_bytes(written(mutated(chance, config)))
    (folder / "evil.py").write_text(f"import os\nos.makedirs(os.environ[{MARKER!r}])\n")
    weights = chance.choice(
        ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "tf_model.h5")
    )
    path = folder / (weights if chance.random() < 0.8 else "config.json")
    path.unlink(missing_ok=True)
    if chance.random() < 0.3:
        strange_file(chance, os.fsencode(path))
    else:
        path.write_bytes(chance.choice((exploit(), lies(chance), chance.randbytes(100), b"{}")))
