"""Tables stay whole, whichever variants are asked for."""

import json
import re

from selftaught.report import sentences
from selftaught.study import finishing, reproduce
from selftaught.study.executor import in_this_process
from tests.commands import call
from tests.study.reproduced import RECIPE, lend
from tests.study.test_reproduce import _costs_nothing  # noqa: F401 (a fixture)


def test_a_table_keeps_what_was_not_asked_for_this_time(tmp_path, trained_study):
    """Fewer lines would be fewer comparisons to correct for: a verdict could be had by asking again for less."""
    others = ("resnet14 ce", "resnet8 ce", "resnet8 kd", "resnet8 le-uniform")
    lend(trained_study, tmp_path / "out", without=others)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(RECIPE)
    whole = (
        "reproduce",
        recipe,
        "--budget",
        "smoke",
        "--trials",
        "2",
        "--jobs",
        "1",
        "-q",
        "--out",
        tmp_path / "out",
    )
    assert call(*whole, "--variant", "LE") == 0
    first = _cells(tmp_path)
    assert {variant: cell["trials"] for variant, cell in first.items()} == {
        "CE": 0,
        "KD": 0,
        "LE-Uniform": 0,
        "LE": 2,
    }
    assert any("Not asked for, and not run: CE; KD; LE-Uniform" in line for line in _told(tmp_path))
    lend(trained_study, tmp_path / "out")
    assert call(*whole) == 0
    made = (tmp_path / "out" / "mine.md").read_text()
    assert {cell["trials"] for cell in _cells(tmp_path).values()} == {2}
    assert call(*whole, "--variant", "LE") == 0
    assert (tmp_path / "out" / "mine.md").read_text() == made


def test_a_table_of_the_paper_has_a_line_for_what_waits_for_a_search(tmp_path, stand_ins):
    ask = (
        "reproduce",
        "table3",
        "--budget",
        "smoke",
        "--trials",
        "1",
        "--jobs",
        "1",
        "-q",
        "--out",
        tmp_path,
    )
    assert call(*ask, "--variant", "CE") == 0
    told = json.loads((tmp_path / "table3.json").read_text())
    found = {cell["variant"]: (cell["trials"], cell["missing"]) for cell in told["cells"]}
    assert found.pop("CE") == (1, [])
    assert list(found) == ["Dropout", "LS", "CP", "LE-Uniform", "LE (Grad)"]
    assert set(map(str, found.values())) == {"(0, [])"}
    assert not list(tmp_path.glob("search-*"))


def test_what_waits_for_no_other_search_is_shown(tmp_path, stand_ins):
    """One search of three is done: its variant is, and the others stay blank."""
    study = reproduce.prepare(["table3"], "smoke", tmp_path, {"trials": 1}, variants=["LS"])
    while study.pending():
        assert not study.run(in_this_process, lambda event: None, lambda: False)
    tables = {table.recipe.name: table for table in finishing.finish(study, print, lambda: False, {}).tables}
    assert set(tables) == {"table3", "search-ls"}
    cells = {cell.variant: cell.trials for cell in tables["table3"].cells.values()}
    assert cells == {"CE": 0, "Dropout": 0, "LS": 1, "CP": 0, "LE-Uniform": 0, "LE (Grad)": 0}
    assert any(
        re.search(r"MNIST MLP LS: alpha 0\.\d \(search-ls\)", line)
        for line in sentences.caption(tables["table3"])
    )


def test_groups_that_were_not_asked_for_stay_in_the_table(tmp_path):
    other = "  - {label: Wide, data: digits, model: cnn6}\nvariants:"
    only = "\n  - {label: no decay, instead_of: CE, groups: [ResNet8], protocol: {weight_decay: 0}}\npaper:"
    path = tmp_path / "mine.yaml"
    path.write_text(
        RECIPE.replace("variants:", other)
        .replace("\npaper:", only)
        .replace("KD, method: kd", "LS, method: ls")
        .replace("temperature: 4, weight: 0.1", "alpha: 0.9")
    )
    study = reproduce.prepare([str(path)], "smoke", tmp_path / "out", {"trials": 1}, variants=["no decay"])
    (tmp_path / "out").mkdir()
    [table] = finishing.finish(study, lambda line: None, lambda: False, {}).tables
    assert table.groups == ["ResNet8", "Wide"]
    assert len(table.cells) == 9


def _told(parent):
    return json.loads((parent / "out" / "mine.json").read_text())["caption"]


def _cells(parent):
    told = json.loads((parent / "out" / "mine.json").read_text())
    return {cell["variant"]: cell for cell in told["cells"]}
