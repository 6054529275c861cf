import csv
import io
import json
import re
from functools import partial

import pytest
from rich.console import Console

from selftaught import recipes
from selftaught.report import sentences
from selftaught.report.columns import ours, shown
from selftaught.report.markdown import markdown, overview
from selftaught.report.page import About, html
from selftaught.report.plain import OF_RECIPE, as_csv, values
from selftaught.report.table import CellRuns, tabulate
from selftaught.report.terminal import Terminal
from selftaught.statistics import verdicts
from selftaught.statistics.paired import paired_test
from tests.report import cells as factory
from tests.report.test_table import accuracy, make_recipe

EVIL = ("a|b*c_<script>", "[bold]x[/bold]", "`code`\\", "قطة\u202e", "x" * 80)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(verdicts, "paired_test", partial(paired_test, resamples=500))


@pytest.fixture
def table(tmp_path):
    return tabulate(make_recipe(), factory.cells(make_recipe(), tmp_path, accuracy), "paper")


@pytest.fixture
def third(tmp_path):
    """Table 3 as it comes: errors, quoted rows, values that a search selects."""
    recipe = recipes.load("table3")
    cells = factory.cells(
        recipe, tmp_path, lambda g, v, s: 98.0 + 0.25 * s, missing={("MNIST MLP", "CP"): ("seed 2: failed",)}
    )
    return tabulate(recipe, cells, "quick", ["a note of ours"])


def printed_on(table, width):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(Terminal(table))
    return console.file.getvalue()


def test_a_cell_shows_ours_the_papers_and_the_differences(table):
    columns = {column.title: column.texts for column in shown(table)}

    def text(title, *place):
        return "\n".join(filter(None, columns[title][place][:2]))

    assert text("ours, accuracy %", "One", "LE") == "98.25 ± 0.25 (3)"
    assert text("paper", "One", "LE") == "91.00 ± 0.10"
    assert text("verdict", "One", "LE") == "better"
    assert text("ECE %", "One", "LE") == "5.00"
    assert re.fullmatch(
        r"\+8\.00 \[\+\d\.\d\d, \+\d+\.\d\d\]\np 0\.0\d\d, no clear difference", text("Δ to CE", "One", "LE")
    )
    assert text("paper", "Two", "CE") == "80.00 ± 0.20 †"
    assert any(line.startswith("†") for line in sentences.caption(table))
    assert text("paper", "One", "LE-Uniform") == "–"


def test_comparisons_without_a_column_are_told_in_words(table):
    told = "LE, One: no clear difference from LS (+7.50 ["
    assert f"- {told}" in markdown(table).replace("\\", "")
    assert told in printed_on(table, 160)
    page = html([table], [], About("quick"))
    assert "<strong><bdi>LE, One</bdi>:</strong> <bdi>no clear difference from LS (+7.50 [" in page


def test_columns_that_nothing_fills_are_left_out(table):
    titles = [column.title for column in shown(table)]
    assert "extra networks" not in titles
    without = [cell for cell in table.cells.values() if cell.method == "ce"]
    bare = [CellRuns(cell.group, cell.variant, (), None, 0, ("not finished",)) for cell in without]
    titles = [column.title for column in shown(tabulate(make_recipe(), bare, "quick"))]
    assert titles == ["variant", "ours, accuracy %", "paper"]


def test_the_overview_is_the_papers_layout(third):
    titles, rows = overview(third)
    assert titles == ["", "CE", "Dropout", "LS", "CP", "LE-Uniform", "LE (Grad)"]
    assert [row[0] for row in rows] == ["MNIST MLP, ours", "MNIST MLP, paper", "[21], quoted", "[38], quoted"]
    assert rows[1][1:] == [
        "1.39 ± 0.05",
        "1.27 ± 0.02",
        "1.25 ± 0.02",
        "1.18 ± 0.06",
        "–",
        "1.10 ± 0.03",
    ]
    assert rows[3][1:] == ["1.38", "1.34", "1.40", "1.36", "–", "–"]


def test_missing_trials_are_counted_and_told(third):
    cell = third.cells["MNIST MLP", "CP"]
    assert ours(cell).line.endswith("(2 of 3)")
    for text in (markdown(third), printed_on(third, 100)):
        assert "Missing: MNIST MLP, CP: seed 2: failed" in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_every_number_whole(third, width):
    text = printed_on(third, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert "NOT" in text.partition("variant")[0]
    assert "MNIST MLP, [38], quoted: CE 1.38, Dropout 1.34, LS 1.40, CP 1.36" in text
    assert ("NLL" in text.partition("MNIST MLP\n")[0].partition("variant")[2]) == (width == 120)
    for cell in third.cells.values():
        assert f"{cell.mean:.2f} ± {cell.std:.2f}" in text


def test_markdown_is_one_table_per_group_with_equally_many_cells(table):
    text = markdown(table)
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert len(tables) == 3
    for found in tables:
        assert len({line.count("|") for line in found.splitlines()}) == 1
    assert text.startswith("## Table 2: A table\n\n**paper budget: ")


def test_hostile_names_stay_text(tmp_path):
    source = "{CE: 90, LS: 90}"
    text = json.loads(json.dumps(make_recipe().model_dump(mode="json")))
    for place, name in (("variants", EVIL[0]), ("groups", EVIL[1])):
        old = text[place][0]["label"]
        text = json.loads(
            json.dumps(text).replace(json.dumps(old), json.dumps(name, ensure_ascii=True)).replace(source, "")
        )
    text["title"] = EVIL[2]
    recipe = recipes.Recipe.model_validate(text)
    table = tabulate(recipe, factory.cells(recipe, tmp_path, lambda g, v, s: 90 + s / 4), "quick")
    text = markdown(table)
    assert "a\\|b\\*c\\_\\<script\\>" in text
    assert "<script>" not in text
    shown = printed_on(table, 160)
    assert EVIL[1] in shown
    assert EVIL[2] in shown
    rows = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert {row["group"] for row in rows} == {EVIL[1], "Two"}
    assert rows[0]["variant"] == EVIL[0]


def test_csv_holds_fractions_and_says_what_budget(third):
    rows = list(csv.DictReader(io.StringIO(as_csv(third))))
    told = ("base", "estimate", "low", "high", "p", "p_holm", "pairs", "verdict")
    bases = ("ce", "le_uniform", "dropout", "ls", "cp")
    assert list(rows[0]) == [*OF_RECIPE, *(f"to_{base}_{name}" for base in bases for name in told)]
    ours = [row for row in rows if row["source"] == "ours"]
    assert [row["variant"] for row in ours] == ["CE", "Dropout", "LS", "CP", "LE-Uniform", "LE (Grad)"]
    assert {(row["budget"], row["paper_protocol"], row["metric"]) for row in rows} == {
        ("quick", "False", "error")
    }
    cell = third.cells["MNIST MLP", "LE (Grad)"]
    assert float(ours[-1]["mean"]) == pytest.approx(cell.mean / 100)
    assert float(ours[-1]["to_ce_low"]) == pytest.approx(cell.compared["ce"].interval.low)
    assert float(ours[-1]["to_le_uniform_p_holm"]) == cell.compared["le-uniform"].p
    assert float(ours[-1]["to_ls_p_holm"]) == cell.compared["ls"].p
    assert (ours[-1]["paper_mean"], ours[-1]["paper_std"]) == ("0.011", "0.0003")
    assert ours[0]["to_ce_estimate"] == ""
    quoted = [row for row in rows if row["source"] == "[21], quoted"]
    assert [(row["variant"], row["paper_mean"]) for row in quoted] == [
        ("Dropout", "0.0128"),
        ("LS", "0.0123"),
        ("CP", "0.0117"),
    ]


def test_values_are_json_without_nan(tmp_path):
    recipe = make_recipe()
    for trials in (1, 3):
        table = tabulate(recipe, factory.cells(recipe, tmp_path, accuracy, trials=trials), "smoke")
        found = json.loads(json.dumps(values(table), allow_nan=False))
        assert found["paper_protocol"] is False
        cell = next(c for c in found["cells"] if (c["group"], c["variant"]) == ("One", "LE"))
        assert cell["compared"]["ce"]["estimate"] == pytest.approx(0.08)
        assert cell["compared"]["ce"]["pairs"] == trials
        assert (cell["std"] is None) == (trials == 1)
        assert cell["paper_mean"] == 0.91


def test_selected_settings_of_a_cell_without_trials_can_be_written():
    recipe = recipes.load("table3")
    table = tabulate(recipe, [CellRuns("MNIST MLP", "Dropout", (), None, 0, ("not finished",))], "paper")
    [cell] = json.loads(json.dumps(values(table)))["cells"]
    assert "search-dropout" in cell["settings"]["drop_rate"]
    assert "none of 1 finished" in markdown(table)


def test_a_search_shows_no_test_accuracy(tmp_path):
    recipe = recipes.load("search-ls")
    cells = factory.cells(recipe, tmp_path, lambda g, v, s: 70 + 10 * float(v.split()[1]) + s, trials=2)
    table = tabulate(recipe, cells, "quick")
    titles = [column.title for column in shown(table)]
    assert titles == ["variant", "held-out accuracy %", "held-out NLL", "selected", "the paper's best"]
    texts = [markdown(table), as_csv(table), printed_on(table, 80)]
    texts.append(json.dumps(values(table)))
    for text in texts:
        assert not re.search(r"12\.2|12\.3|0\.12[23]", text)  # what the factory gives the test images
    assert "| alpha 0.9 | 79.50 ± 0.71 (2) | 0.300 | selected | best |" in texts[0]
    rows = list(csv.DictReader(io.StringIO(texts[1])))
    assert {row["part"] for row in rows} == {"held-out"}
    assert [row["variant"] for row in rows if row["selected"] == "True"] == ["alpha 0.9"] * 3
