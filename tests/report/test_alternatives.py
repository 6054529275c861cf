"""Variants that stand in for others, and tables that are judged on held-out images."""

import re

import pytest

from selftaught import recipes
from selftaught.report import sentences
from selftaught.report.table import tabulate
from selftaught.statistics.paired import holm
from tests.report import cells as factory
from tests.report.test_table import (  # noqa: F401 (fixtures)
    RECIPE,
    STEPS,
    accuracy,
    few_draws,
    make_recipe,
    replace_cell,
)


def test_what_stands_in_for_a_variant_is_compared_with_it(tmp_path):
    cheap = "  - {{label: cheap, method: le, settings: {{refresh: 0.5}}, groups: [One]}}\nreference: LE"
    text = RECIPE.replace("\npaper:", f"\n{cheap}\npaper:")
    recipe = recipes.parse(text.format(metric="accuracy"), "table2.yaml")
    cells = factory.cells(
        recipe, tmp_path, lambda g, v, s: accuracy(g, "LE" if v == "cheap" else v, s) - (v == "cheap")
    )
    table = tabulate(recipe, cells, "quick")
    compared = {place: c for place, cell in table.cells.items() if (c := cell.compared.get("reference"))}
    assert list(compared) == [("One", "cheap")]
    [comparison] = compared.values()
    assert comparison.interval.estimate == pytest.approx(-0.01)
    every = [c for cell in table.cells.values() for c in cell.compared.values()]
    assert [c.p for c in every] == pytest.approx(holm([c.p_alone for c in every]))
    assert any("over the table's 16 comparisons" in line for line in sentences.caption(table))


ALTERNATIVES = """
  - {{label: LE without, based_on: LE, groups: [One], protocol: {{weight_decay: 0.1}}}}
  - {{label: CE without, based_on: CE, groups: [One], protocol: {{weight_decay: 0.1}}}}
"""


def test_an_alternative_is_compared_with_what_it_is_based_on_alone(tmp_path):
    text = RECIPE.replace("\npaper:", f"{ALTERNATIVES}paper:").format(metric="accuracy")
    recipe = recipes.parse(text, "table2.yaml")
    shift = {"LE without": -1.0, "CE without": 0.5}
    cells = factory.cells(
        recipe, tmp_path, lambda g, v, s: accuracy(g, v.removesuffix(" without"), s) + shift.get(v, 0)
    )
    table = tabulate(recipe, cells, "quick")
    found = {v: cell for (_, v), cell in table.cells.items() if "reference" in cell.compared}
    assert {
        v: (cell.bases["reference"], round(cell.compared["reference"].interval.estimate, 9))
        for v, cell in found.items()
    } == {"LE without": ("LE", -0.01), "CE without": ("CE", 0.005)}
    assert all(list(table.cells["One", variant].compared) == ["reference"] for variant in shift)
    assert table.cells["One", "LE"].bases["ce"] == "CE"
    every = [c for cell in table.cells.values() for c in cell.compared.values()]
    assert [c.p for c in every] == pytest.approx(holm([c.p_alone for c in every]))
    assert any("over the table's 14 comparisons" in line for line in sentences.caption(table))
    about = dict(sentences.about_le(table))["LE without, One"]
    assert re.search(r"(worse than|no clear difference from) LE \(−1\.00", about)


@pytest.mark.parametrize("metric", ["accuracy", "error"])
def test_a_table_may_be_judged_on_held_out_images(tmp_path, metric):
    text = RECIPE.replace("warmup: 0,", "warmup: 0, val_fraction: 0.1,").format(metric=metric)
    recipe = recipes.parse(text.partition("\npaper:")[0] + "\njudged_on: held-out\n", "table2.yaml")
    cells = factory.cells(recipe, tmp_path, accuracy)
    table = tabulate(recipe, cells, "quick")
    cell = table.cells["One", "LE"]
    assert cell.mean == pytest.approx(98.25 if metric == "accuracy" else 1.75)
    assert (cell.nll, cell.ece) == (0.3, 0.07)
    assert cell.compared["ce"].interval.estimate == pytest.approx(0.08 if metric == "accuracy" else -0.08)
    assert "held-out images" in sentences.caption(table)[0]
    assert sentences.caption(table)[1].startswith(f"Held-out {metric} in %")
    assert not any("over seeds and test images" in line for line in sentences.caption(table))


def test_le_in_short_counts_settings_apart_and_held_out_images_only_alone(tmp_path):
    text = RECIPE.replace(
        "method: le}", "method: le, by_group: {{One: {{alpha: 0.9}}, Two: {{alpha: 0.6}}}}}"
    )
    text = text.replace("model: mlp", "model: resnet8").replace("warmup: 0,", "warmup: 0, val_fraction: 0.1,")
    text = text.format(metric="accuracy").partition("\npaper:")[0]
    recipe = recipes.parse(text + "\njudged_on: held-out\n", "mine.yaml")
    better = {"One": 0.0, "Two": -8.0}
    held_out = factory.cells(
        recipe, tmp_path / "held", lambda g, v, s: STEPS[v] + better[g] * (v == "LE") + 0.25 * s, trials=5
    )
    table = tabulate(recipe, held_out, "quick")
    said = sentences.le_in_short([table])
    assert said.startswith(
        "On held-out images at the quick budget and after correction LE is clearly better than CE"
    )
    assert "LE-Uniform in 1 of 2 cells" in said
    tested = tabulate(make_recipe(), factory.cells(make_recipe(), tmp_path / "tested", accuracy), "quick")
    assert sentences.le_in_short([table, tested]) == sentences.le_in_short([tested])


def test_what_is_plain_is_not_an_alternative_that_comes_first(tmp_path):
    text = RECIPE.format(metric="accuracy").replace(
        "variants:\n  - {label: CE, method: ce}\n",
        "variants:\n  - {label: CE, method: ce}\n  - {label: LE 0, method: le}\n"
        "  - {label: LS 2, based_on: LE 0, method: ls}\n",
    )
    recipe = recipes.parse(text, "table2.yaml")
    cells = factory.cells(recipe, tmp_path, lambda g, v, s: 90 + 0.25 * s)
    table = tabulate(recipe, cells, "quick")
    assert table.cells["One", "LE 0"].bases["ls"] == "LS"
    assert table.label("ls") == "LS"


def test_pairs_are_told_of_alternatives_as_well(tmp_path):
    text = RECIPE.replace("\npaper:", f"{ALTERNATIVES}paper:").format(metric="accuracy")
    recipe = recipes.parse(text, "table2.yaml")
    cells = factory.cells(recipe, tmp_path, lambda g, v, s: accuracy(g, v.removesuffix(" without"), s))
    short = next(cell.records[:2] for cell in cells if (cell.group, cell.variant) == ("One", "LE"))
    table = tabulate(recipe, replace_cell(cells, "One", "LE", records=short), "quick")
    assert any("One LE without to LE (2)" in line for line in sentences.caption(table))
