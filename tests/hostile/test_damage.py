"""Files of runs, studies and archives, damaged at random: no number may change without a word.

Where a command that reads damaged files ends with exit code 0, what it prints and writes is what it would have said of
the undamaged ones, or the word *damaged* is said.
"""

import hashlib
import json
import os
import random
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import selftaught
from selftaught.files import record, sealing
from selftaught.training import cost
from tests.files import sealed
from tests.hostile.damage import DAMAGES, copied, damage, files
from tests.hostile.harness import Case, Ended, Said, each, faults
from tests.report import factory
from tests.study.reproduced import RECIPE

TRAINED = [
    *("--model", "resnet8", "--image-size", "8", "--train-size", "60", "--test-size", "60", "--threads", "1"),
    *("--val-fraction", "0.2", "--epochs", "2", "--batch-size", "16", "-q"),
]
COMPARE = ["compare", "digits", "--methods", "ce,ls,le", "--trials", "2", "--jobs", "1", *TRAINED]
TRAIN = ["train", "digits", "--method", "le", *TRAINED]
REPRODUCE = ["reproduce", "mine.yaml", "--budget", "smoke", "--jobs", "1", "-q", "--out", "study"]

READ = {
    "status": lambda trial: ["status", "study"],
    "report": lambda trial: ["report", "study", "-o", "page/report.html"],
    "check": lambda trial: ["check", "study"],
    "archive": lambda trial: ["archive", "study", "-o", "copy"],
    "predict": lambda trial: ["predict", trial, "picture.png", "--json"],
    "explain": lambda trial: ["explain", trial, "picture.png", "-o", "seen.png", "--json"],
    "export": lambda trial: ["export", trial, "-o", "net.pt2"],
}
"""What is typed, given the trial that is damaged, or any."""

MADE_AGAIN = {"compare", "train", "reproduce", "tables"}
"""What makes, and may train, what it finds damaged or missing once more."""

UNFINISHED = re.compile(
    r"not finished|is missing|missing trial|unfinished|begun and not finished|not archived"
)
"""What is said of a file that is gone, which is no damage: a run without result.json goes on."""


def loaded(trial: str) -> Callable[[], Said]:
    """`selftaught.load`, told like a command: what it returns as a digest."""

    def load() -> Said:
        try:
            model = selftaught.load(trial)
        except selftaught.errors.InputError as error:
            return Said(("load", trial), 2, err=f"selftaught: error: {error}\n")
        state = hashlib.sha256()
        for name, value in sorted(model.state_dict().items()):
            state.update(name.encode() + value.numpy().tobytes())
        return Said(("load", trial), 0, out=f"{state.hexdigest()} {model.classes} {model.preparation}")

    return load


def facts(command: str, said: Said) -> dict[str, Any]:
    """What the command has written, as far as it shows numbers."""
    if command == "report":
        return {path.name: path.read_bytes() for path in sorted(Path("page").glob("*")) if path.is_file()}
    if command in MADE_AGAIN:
        tables = [path for pattern in ("*.csv", "*.md") for path in Path("study").glob(pattern)]
        return {path.name: path.read_bytes() for path in sorted(tables) if path.is_file()}
    if command == "archive" and Path("copy").is_dir():
        # Who waits for whom is nothing that a table is made of: without graph.json there is no `status`, which says so.
        return {str(path): path.read_bytes() for path in files(Path("copy")) if path.name != "graph.json"}
    if command == "export" and said.code == 0:
        with zipfile.ZipFile("net.pt2") as exported:
            return {
                item.filename.partition("/")[2]: item.CRC
                for item in exported.infolist()
                if "weight" in item.filename
            }
    return {}


def shown(command: str, said: Said) -> str:
    """What is printed, without the times of a training and without how many files a check looked at."""
    return re.sub(r"\d+(\.\d+)? s\b|\d+ files with a digest", "", said.out)


class Template:
    """A folder with `study` in it, and what each command says of it while nothing is damaged."""

    def __init__(self, home: Path, commands: dict[str, Any], work: Path) -> None:
        self.home, self.commands, self.work = home, commands, work
        self.trials = sorted(
            str(path.relative_to(home)) for path in home.glob("study/trials/*") if path.is_dir()
        ) or ["study"]
        self.names = [str(path.relative_to(home)) for path in files(home / "study")]
        self.expected: dict[tuple[str, str], tuple[int | None, str, dict[str, Any]]] = {}
        cases = [
            Case(f"{name} {trial}", self.lend, [self.typed(name, trial)], facts)
            for name in commands
            for trial in self.trials
        ]
        for case, ended in zip(cases, each(cases, work / "undamaged"), strict=True):
            assert not faults(ended), faults(ended)
            name, trial = case.name.split(" ", 1)
            said = ended.said[0]
            assert said.code == 0, (case.name, said)
            self.expected[name, trial] = said.code, shown(name, said), ended.facts[0]

    def lend(self, folder: Path) -> None:
        """A copy of the folder."""
        copied(self.home, folder)

    def typed(self, name: str, trial: str) -> Any:
        """The command's arguments, or the function."""
        return self.commands[name](trial)

    def cases(self, count: int, seed: int, at_once: int) -> list[tuple[Case, str, list[str]]]:
        """Damaged files, each with the trial that it is of and the names of some commands.

        Every file and every kind of damage has its turn; those that make something again come last.
        """
        chance = random.Random(seed)
        pairs = [(name, kind) for name in self.names for kind in DAMAGES]
        chance.shuffle(pairs)
        made = []
        while len(made) < count:
            for name, kind in pairs[: count - len(made)]:
                trial = next((t for t in self.trials if name.startswith(f"{t}/")), self.trials[0])
                some = chance.sample(list(self.commands), min(at_once, len(self.commands)))
                some.sort(key=lambda command: command in MADE_AGAIN)
                number = len(made)
                case = Case(
                    f"{name} {kind} ({seed}/{number})",
                    lambda folder, a=name, b=kind, n=number: (  # type: ignore[misc]
                        self.lend(folder),
                        damage(folder, a, b, n),
                    ),
                    [self.typed(command, trial) for command in some],
                    facts,
                )
                made.append((case, trial, some))
        return made

    def examine(self, count: int, seed: int, at_once: int) -> tuple[list[str], Counter]:
        """What was wrong, one line each, and how often things happened."""
        planned = self.cases(count, seed, at_once)
        wrong, seen = [], Counter()
        for (_, trial, names), ended in zip(
            planned, each([case for case, *_ in planned], self.work / f"damaged{seed}"), strict=True
        ):
            seen["files"] += 1
            wrong += faults(ended)
            seen["hangs"] += bool(ended.fault)
            for name, said, found in zip(names, ended.said, ended.facts, strict=False):
                seen["commands"] += 1
                seen[f"exit {said.code}"] += 1
                seen["tracebacks"] += bool(said.trace)
                seen["peak MB"] = max(seen["peak MB"], said.peak >> 20)
                told = "damaged" in said.text or any(b"damaged" in page for page in _pages(found))
                seen["told"] += told
                if said.code == 0 and not told and self.changed(name, trial, said, found, ended):
                    seen["changed without a word"] += 1
                    wrong.append(f"{ended.name}: {name} {trial}: {self.difference(name, trial, said, found)}")
        return wrong, seen

    def difference(self, name: str, trial: str, said: Said, found: dict[str, Any]) -> str:
        """What has changed without a word, for whoever looks into it."""
        _, out, expected = self.expected[name, trial]
        keys = [key for key in {**expected, **found} if expected.get(key) != found.get(key)]
        return f"changed without a word: {keys[:3]} {shown(name, said)[:80]!r} {out[:80]!r}"

    def changed(self, name: str, trial: str, said: Said, found: dict[str, Any], ended: Ended) -> bool:
        """Whether what is said is not what was said of the undamaged files."""
        _, out, expected = self.expected[name, trial]
        if shown(name, said) == out and found == expected:
            return False
        pages = b" ".join(_pages(found)).decode(errors="replace")
        gone = any(f"{kind} (" in ended.name for kind in ("deleted", "a folder", "emptied"))
        return not (gone and UNFINISHED.search(said.text + pages))


def _pages(found: dict[str, Any]) -> list[bytes]:
    return [content for content in found.values() if isinstance(content, bytes)]


@pytest.fixture(autouse=True, scope="module")
def _quick():
    """Step times are not measured again where their file is gone: they are never the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "measure", lambda configs, **_: [cost.StepCost("", 1.0, 1.25)] * len(configs))
        yield


def picture(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "picture.png")


def made(home: Path, *commands: list[str]) -> Path:
    """A folder in which these commands were given, in a child: this process must not have trained."""

    def keep(command: str, said: Said) -> dict[str, Any]:
        assert said.code == 0, said
        return {}

    def prepare(_: Path) -> None:
        home.mkdir(parents=True)
        os.chdir(home)
        picture(home)
        Path("mine.yaml").write_text(RECIPE.replace("trials: 2", "trials: 1"))

    [ended] = each([Case("template", prepare, commands, keep)], home.parent / f"{home.name}-made", 300)
    assert not ended.fault, ended
    return home


def some(*names: str) -> dict[str, Any]:
    return (
        {name: READ[name] for name in names} | {"load": loaded}
        if "predict" in names
        else {name: READ[name] for name in names}
    )


class TestReports:
    """A few in every run of the tests: records written by hand, which only pages are made of."""

    def test_no_page_changes_without_a_word(self, tmp_path):
        home, runs = tmp_path / "home", []
        for method in ("ce", "le"):
            for seed in (0, 1):
                trials, classes = home / "study" / "trials", factory.names(3)
                run = factory.write_run(trials, method, seed, classes, images=40, val=20, size=8)
                result = json.loads((run.directory / "result.json").read_text())
                told = ("predictions.safetensors", "examples.safetensors", "metrics.jsonl")
                result["sha256"] = {
                    name: sealing.sha256((run.directory / name).read_bytes(), name) for name in told
                }
                (run.directory / "result.json").write_bytes(sealing.seal(result))
                runs.append(record.read(run.directory))
        sealed.describe(home / "study", runs)
        wrong, seen = Template(home, some("report", "check", "archive"), tmp_path / "work").examine(24, 1, 1)
        assert not wrong, "\n".join(wrong)
        assert seen["files"] == 24
        assert seen["told"] + seen["exit 2"] >= 12


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a comparison that was trained."""
    return made(tmp_path_factory.mktemp("compare") / "home", [*COMPARE, "--out", "study"])


@pytest.mark.slow
class TestEverything:
    """Studies that were trained, with all commands that read them."""

    def check(self, template: Template, count: int, seed: int) -> None:
        wrong, seen = template.examine(count, seed, 4)
        print("\n".join([*wrong, str(dict(seen))]))
        assert seen["files"] == count
        assert not wrong, "\n".join([*wrong, str(dict(seen))])

    def test_a_study(self, study, tmp_path):
        again = {"compare": lambda trial: [*COMPARE, "--out", "study"]}
        names = ("status", "report", "check", "archive", "predict", "explain", "export")
        self.check(Template(study, some(*names) | again, tmp_path), 250, 2)

    def test_an_archive(self, study, tmp_path):
        home = tmp_path / "home"
        home.mkdir()
        copied(study / "study", home / "whole")
        [ended] = each(
            [Case("archive", lambda _: os.chdir(home), [["archive", "whole", "-o", "study"]])],
            tmp_path / "archived",
        )
        assert ended.said[0].code == 0
        shutil.rmtree(home / "whole")
        self.check(Template(home, some("status", "report", "check"), tmp_path / "work"), 150, 3)

    def test_a_run(self, tmp_path):
        home = made(tmp_path / "home", [*TRAIN, "--out", "study"])
        again = {"train": lambda trial: [*TRAIN, "--out", "study"]}
        commands = some("report", "check", "predict", "explain", "export") | again
        self.check(Template(home, commands, tmp_path / "work"), 100, 4)

    def test_a_reproduction(self, tmp_path):
        home = made(tmp_path / "home", REPRODUCE)
        again = {
            "tables": lambda trial: [*REPRODUCE, "--tables-only"],
            "reproduce": lambda trial: REPRODUCE,
        }
        self.check(Template(home, some("status", "check", "archive") | again, tmp_path / "work"), 100, 5)
