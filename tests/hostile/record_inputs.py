"""Run folders and studies from strangers."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

from selftaught.files import sealing
from selftaught.files.config import parse
from tests.hostile.family import QUICK, executed, lies, picture
from tests.hostile.harness import Case
from tests.hostile.values import (
    DEEP,
    MARKER,
    NAMES,
    SCRIPT,
    exploit,
    mutated,
    replace,
    spoiled,
    strange_file,
    written,
)


def _resealed(path: Path, values: Any) -> None:
    """The values as a file whose digest is right: whoever forges a record knows how."""
    path.write_bytes(sealing.seal(values) if isinstance(values, dict) else written(values))


def _forge(run: Path) -> None:
    """Digests, names and numbers that agree with whatever lies in the folder, as far as they can."""
    try:
        result, config = (json.loads((run / f"{part}.json").read_text()) for part in ("result", "config"))
        told = result["sha256"]
        for name in told:
            told[name] = sealing.sha256((run / name).read_bytes(), name)
        result["trial_id"] = parse(config).trial_id
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    _resealed(run / "result.json", result)


def _read_run(chance: random.Random) -> list[list[str]]:
    every = [
        ["report", "run", "-o", "page/report.html"],
        ["check", "run"],
        ["predict", "run", "picture.png", "--json"],
        ["explain", "run", "picture.png", "-o", "seen.png", "--json"],
        ["export", "run", "-o", "net.pt2"],
        ["train", "good", "--method", "kd", "--teacher", "run", "--out", "student", *QUICK],
        ["train", "good", "--method", "ce", "--out", "run", *QUICK],
        ["status", "run"],
    ]
    return chance.sample(every, 2)


def _lend(template: Path, folder: Path, chance: random.Random) -> None:
    shutil.copytree(template / "run", folder / "run")
    shutil.copytree(template / "good", folder / "good")
    (folder / "picture.png").write_bytes(picture(chance))


def strange_records(k: int, template: Path) -> Case:
    """config.json and result.json with odd values."""
    chance = random.Random(f"records {k}")
    name = chance.choice(("config.json", "result.json", "result.json", "metrics.jsonl", "command.json"))

    def prepare(folder: Path) -> None:
        _lend(template, folder, chance)
        path = folder / "run" / name
        if k % 10 == 0:
            path.write_bytes(DEEP[k // 10 % len(DEEP)])
        elif name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()] or [{}]
            path.write_bytes(b"\n".join(written(mutated(chance, line)) for line in lines * 3))
        else:
            path.write_bytes(written(mutated(chance, json.loads(path.read_text()))))
        if chance.random() < 0.7:
            _forge(folder / "run")

    return Case(f"strange records {k}", prepare, _read_run(chance), executed)


def forged_records(k: int, template: Path) -> Case:
    """Folders that are whole in themselves: the same odd value wherever it has to agree."""
    chance = random.Random(f"forged {k}")
    classes = [
        [SCRIPT, "b", "c"],
        ["\x1b[31m", "a\nb", "\x07"],
        ["../x", "/etc/passwd", "c:\\"],
        ["x" * 5000, "y", "z"],
    ]
    models = [
        "resnet2000",
        "resnet200000",
        "resnet20",
        "mlp",
        "cnn8",
        "hf:/dev/zero",
        "hf:../good",
        "evil.py:build",
        "timm:resnet18",
    ]
    sizes = [[65535, 65535], [4096, 4096], [1, 1], [8, 8]]

    def prepare(folder: Path) -> None:
        _lend(template, folder, chance)
        config, result = (
            json.loads((folder / "run" / f"{part}.json").read_text()) for part in ("config", "result")
        )
        kind = k % 4
        if kind == 0:
            result["data"]["classes"] = classes[k // 4 % len(classes)]
        elif kind == 1:
            config["model"] = models[k // 4 % len(models)]
        elif kind == 2:
            result["data"]["image_size"] = sizes[k // 4 % len(sizes)]
        else:
            result["data"]["classes"] = [f"class {c}" for c in range(10 ** (1 + k // 4 % 6))]
        (folder / "run" / "evil.py").write_text(f"import os\nos.makedirs(os.environ[{MARKER!r}])\n")
        (folder / "evil.py").write_text(f"import os\nos.makedirs(os.environ[{MARKER!r}])\n")
        (folder / "run" / "config.json").write_bytes(written(config))
        (folder / "run" / "result.json").write_bytes(written(result))
        if chance.random() < 0.9:
            _forge(folder / "run")

    return Case(f"forged records {k}", prepare, _read_run(chance), executed)


def strange_files(k: int, template: Path) -> Case:
    """Pickles, garbage, pipes, devices and links in place of a run's files, and links and pipes beside them."""
    chance = random.Random(f"files {k}")
    names = sorted(path.name for path in (template / "run").iterdir())
    names += ["checkpoint.pt", ".lock", "network.py", "model.json", "answers.safetensors"]
    name = names[k % len(names)]

    def prepare(folder: Path) -> None:
        _lend(template, folder, chance)
        path = folder / "run" / name
        kind = chance.randrange(4)
        if kind == 0:
            path.write_bytes(exploit())
        elif kind == 1 and path.is_file():
            path.write_bytes(spoiled(chance, path.read_bytes()))
        elif kind == 2:
            path.write_bytes(lies(chance))
        else:
            replace(path, chance)
        if name == "checkpoint.pt" and chance.random() < 0.8:
            (folder / "run" / "result.json").unlink()
        elif kind < 3 and chance.random() < 0.7:
            _forge(folder / "run")

    return Case(f"strange files {k}: {name}", prepare, _read_run(chance), executed)


def strange_studies(k: int, template: Path) -> Case:
    """study.json, graph.json, costs.json and the folders of trials."""
    chance = random.Random(f"studies {k}")
    name = ("study.json", "graph.json", "costs.json", "comparison.json")[k % 4]

    def prepare(folder: Path) -> None:
        shutil.copytree(template / "study", folder / "study")
        shutil.copytree(template / "good", folder / "good")
        path = folder / "study" / name
        kind = k // 4 % 6
        if kind == 0:
            path.write_bytes(DEEP[k // 24 % len(DEEP)])
        elif kind == 1:
            replace(path, chance)
        elif kind == 2:
            trials = folder / "study" / "trials"
            strange_file(
                chance, os.fsencode(trials) + b"/" + chance.choice([*NAMES, b"0123456789ab", b"z" * 12])
            )
        elif path.is_file():
            _resealed(path, mutated(chance, json.loads(path.read_text())))

    commands = [
        ["report", "study", "-o", "page/report.html"],
        ["status", "study"],
        ["check", "study"],
        ["archive", "study", "-o", "copy"],
        ["compare", "good", "--methods", "ce", "--trials", "1", "--jobs", "1", *QUICK, "--out", "study"],
    ]
    return Case(f"strange studies {k}: {name}", prepare, chance.sample(commands, 2), executed)
