"""At least 2,000 hostile inputs: nothing of them is executed, nothing hangs, no traceback, memory is bounded."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.hostile.family import QUICK
from tests.hostile.harness import MEMORY, Case, each, faults
from tests.hostile.inputs import FAMILIES
from tests.hostile.values import MARKER
from tests.refusals.conftest import photographs


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A finished run, a study, and the pictures that they are of; made in a child, as everything that follows."""
    home = tmp_path_factory.mktemp("strangers") / "home"
    photographs(home / "good", classes=3, count=8)

    def begin(_: Path) -> None:
        os.chdir(home)

    commands = [
        ["train", "good", "--method", "ce", "--out", "run", *QUICK],
        ["compare", "good", "--methods", "ce", "--trials", "1", "--jobs", "1", *QUICK, "--out", "study"],
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home.parent / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv(MARKER, str(home.parent / "executed"))
        [ended] = each([Case("template", begin, commands)], home.parent / "made", 300)
        assert [said.code for said in ended.said] == [0, 0], ended
        yield home


def examine(template: Path, work: Path, numbers: dict[str, Iterable[int]]) -> tuple[list[str], Counter]:
    """What was wrong, one line each, and how often things happened."""
    wrong, seen = [], Counter()
    for family, chosen in numbers.items():
        make, _ = FAMILIES[family]
        for ended in each([make(k, template) for k in chosen], work / family):
            wrong += faults(ended)
            seen["inputs"] += 1
            seen["hangs or deaths"] += bool(ended.fault)
            for said, facts in zip(ended.said, ended.facts, strict=True):
                seen["commands"] += 1
                seen[f"exit {said.code}"] += 1
                seen["tracebacks"] += bool(said.trace)
                seen["peak MB"] = max(seen["peak MB"], said.peak >> 20)
                seen["executed"] += facts["executed"]
                if facts["executed"]:
                    wrong.append(f"{ended.name}: {said.command}: executed")
    shutil.rmtree(work, ignore_errors=True)
    return wrong, seen


def test_a_few_of_each(template, tmp_path):
    wrong, seen = examine(template, tmp_path / "work", dict.fromkeys(FAMILIES, (4, 9)))
    assert not wrong, "\n".join(wrong)
    assert seen["exit 2"] > seen["inputs"] / 2


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family(template, tmp_path, family):
    wrong, seen = examine(template, tmp_path / "work", {family: range(FAMILIES[family][1])})
    print("\n".join([*wrong, f"{family}: {dict(seen)}"]))
    assert not wrong, "\n".join([*wrong, str(dict(seen))])
    assert seen["peak MB"] < MEMORY >> 20


def test_there_are_two_thousand():
    assert sum(count for _, count in FAMILIES.values()) >= 2000
