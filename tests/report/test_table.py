import dataclasses
import math
from functools import partial

import numpy as np
import pytest

from selftaught import recipes
from selftaught.errors import InputError
from selftaught.files import evidence, record
from selftaught.report import selection, sentences
from selftaught.report.agreement import against_paper
from selftaught.report.table import CellRuns, tabulate
from selftaught.statistics import verdicts
from selftaught.statistics.paired import holm, paired_test
from tests.oracles import paper as oracle
from tests.report import cells as factory

RECIPE = """
name: table2
title: A table
kind: table
source: Table 2
command: selftaught reproduce table2
expected: {{smoke: soon, quick: later, paper: late}}
metric: {metric}
trials: 3
protocol:
  mnist: {{epochs: 4, batch_size: 8, lr: 0.1, momentum: 0.9, weight_decay: 0, milestones: [], warmup: 0, augment: none}}
groups:
  - {{label: One, data: mnist, model: mlp}}
  - {{label: Two, data: mnist, model: resnet8}}
variants:
  - {{label: CE, method: ce}}
  - {{label: LS, method: ls}}
  - {{label: LE-Uniform, method: le-uniform}}
  - {{label: LE, method: le}}
paper:
  One: {{CE: 90.0 ± 0.3, LS: 90.5, LE: 91.0 ± 0.1}}
  Two: {{CE: {{mean: 80.0, std: 0.2, anchor: false}}, LE: 83.0 ± 0.0}}
"""
DRAWS = partial(paired_test, resamples=500)
STEPS = {"CE": 90.0, "LS": 90.5, "LE-Uniform": 91.0, "LE": 98.0}


def make_recipe(metric="accuracy"):
    return recipes.parse(RECIPE.format(metric=metric), "table2.yaml")


def accuracy(group, variant, seed):
    return STEPS[variant] - 10 * (group == "Two") + 0.25 * seed


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """As many as the tests need: what they come to is tested elsewhere."""
    monkeypatch.setattr(verdicts, "paired_test", DRAWS)


@pytest.fixture
def cells(tmp_path):
    return factory.cells(make_recipe(), tmp_path, accuracy)


def replace_cell(cells, group, variant, **changes):
    return [
        CellRuns(**{**vars(cell), **changes}) if (cell.group, cell.variant) == (group, variant) else cell
        for cell in cells
    ]


def test_means_and_deviations_are_those_of_the_trials(cells):
    cell = tabulate(make_recipe(), cells, "paper").cells["One", "LE"]
    assert (cell.mean, cell.std, cell.trials) == (pytest.approx(98.25), pytest.approx(0.25), 3)
    assert cell.nll == pytest.approx(1.5 - 0.9825)
    assert cell.ece == pytest.approx(0.05)


def test_errors_mirror_accuracies(cells):
    right, wrong = (tabulate(make_recipe(metric), cells, "paper").cells for metric in ("accuracy", "error"))
    for place, cell in right.items():
        other = wrong[place]
        assert other.mean == pytest.approx(100 - cell.mean)
        assert other.std == pytest.approx(cell.std)
        assert cell.compared.keys() == other.compared.keys()
        for base, ours in cell.compared.items():
            theirs = other.compared[base]
            assert theirs.interval.estimate == pytest.approx(-ours.interval.estimate)
            assert (theirs.interval.low, theirs.interval.high) == pytest.approx(
                (-ours.interval.high, -ours.interval.low)
            )
            assert (theirs.verdict, theirs.p) == (ours.verdict, ours.p)


def test_differences_are_paired_tests_and_all_are_corrected_together(cells):
    found = tabulate(make_recipe(), cells, "paper").cells
    runs = {(cell.group, cell.variant): cell.records for cell in cells}

    def right(place):
        tensors = [evidence.predictions(run) for run in runs[place]]
        return np.array([logits.argmax(1) == labels for logits, labels in tensors])

    pairs = {
        "ce": ("CE", ["LS", "LE-Uniform", "LE"]),
        "le-uniform": ("LE-Uniform", ["LS", "LE"]),
        "ls": ("LS", ["LE"]),
    }
    tests = {}
    for method, (base, variants) in pairs.items():
        places = [(group, variant) for group in ("One", "Two") for variant in variants]
        assert [place for place, cell in found.items() if method in cell.compared] == places
        tests |= {(method, place): DRAWS(right(place), right((place[0], base))) for place in places}
    for (method, place), p in zip(tests, holm([test.p for test in tests.values()]), strict=True):
        comparison = found[place].compared[method]
        assert list(comparison.interval) == pytest.approx(list(tests[method, place].interval))
        assert comparison.p == p
        assert comparison.p_alone == tests[method, place].p
        assert (comparison.pairs, comparison.among) == (3, len(tests))


def test_verdicts_follow_the_corrected_p_value_not_the_interval(tmp_path, monkeypatch):
    cells = factory.cells(make_recipe(), tmp_path, accuracy)
    monkeypatch.setattr(
        verdicts, "holm", lambda values: [0.05 if p is not None else math.nan for p in values]
    )
    found = tabulate(make_recipe(), cells, "paper").cells
    assert found["One", "LE"].compared["ce"].interval.low > 0
    assert found["One", "LE"].compared["ce"].verdict == "no clear difference"
    monkeypatch.setattr(verdicts, "holm", lambda values: [0.0499 for _ in values])
    assert tabulate(make_recipe(), cells, "paper").cells["One", "LE"].compared["ce"].verdict == "better"


def test_better_and_worse_have_the_right_sense(tmp_path):
    def worse(group, variant, seed):
        return {"CE": 90, "LS": 97, "LE-Uniform": 90, "LE": 70}[variant] + 0.25 * seed

    for metric in ("accuracy", "error"):
        cells = factory.cells(make_recipe(), tmp_path, worse, trials=5)
        found = tabulate(make_recipe(metric), cells, "paper").cells
        assert found["One", "LS"].compared["ce"].verdict == "better"
        assert found["One", "LE"].compared["ce"].verdict == "worse"
        assert found["One", "LE"].compared["ls"].verdict == "worse"


@pytest.mark.parametrize("metric", ["accuracy", "error"])
@pytest.mark.parametrize("shift", [-3.0, -0.5, 0.0, 0.3, 2.0])
def test_the_verdict_on_the_paper_is_the_oracles(tmp_path, shift, metric):
    recipe = make_recipe(metric)
    printed = recipe.paper["One"]["CE"]
    base = printed.mean if metric == "accuracy" else 100 - printed.mean
    cells = factory.cells(recipe, tmp_path, lambda g, v, s: base + shift + 0.5 * (s - 1))
    cell = tabulate(recipe, cells, "paper").cells["One", "CE"]
    assert cell.verdict == oracle.verdict(
        cell.mean, printed.mean, cell.std, printed.std, 3, metric == "accuracy"
    )


def test_the_limit_of_agreement_is_two_combined_standard_errors():
    recipe, value = make_recipe(), recipes.Value(mean=90.0, std=0.5)
    limit = 2 * math.sqrt(0.3**2 / 3 + 0.5**2 / 5)
    assert against_paper(recipe, "paper", 90 + 0.999 * limit, 0.3, 3, value)[0] == "agrees"
    assert against_paper(recipe, "paper", 90 - 0.999 * limit, 0.3, 3, value)[0] == "agrees"
    assert against_paper(recipe, "paper", 90 + 1.001 * limit, 0.3, 3, value)[0] == "better"
    assert against_paper(recipe, "paper", 90 - 1.001 * limit, 0.3, 3, value)[0] == "worse"


def test_what_cannot_be_compared_says_why(cells):
    found = tabulate(make_recipe(), cells, "paper").cells
    assert (found["One", "LS"].verdict, found["One", "LS"].why) == (
        "not comparable",
        "the paper prints no deviation",
    )
    assert found["Two", "CE"].why == "the printed number is doubtful"
    assert (found["One", "LE-Uniform"].verdict, found["One", "LE-Uniform"].why) == ("", "")
    fewer = replace_cell(cells, "One", "CE", records=cells[0].records[:2])
    assert tabulate(make_recipe(), fewer, "paper").cells["One", "CE"].why == "fewer than 3 trials"
    assert {cell.why for cell in tabulate(make_recipe(), cells, "quick").cells.values()} == {
        "",
        "reduced budget",
    }


def test_no_spread_on_either_side_is_no_agreement():
    value = recipes.Value(mean=90.0, std=0.0)
    assert against_paper(make_recipe(), "paper", 90.0, 0.0, 3, value)[0] == "not comparable"


@pytest.mark.parametrize("budget", ["smoke", "quick"])
def test_a_reduced_budget_is_said_first_and_in_the_title(cells, budget):
    table = tabulate(make_recipe(), cells, budget)
    assert table.reduced
    assert f"{budget} budget" in table.title
    assert sentences.caption(table)[0] == (
        f"{budget} budget: 1,000 training images, 400 test images, 4 epochs, batches of 8, 3 trials: "
        "NOT the paper's protocol."
    )
    assert not table.follows_the_paper
    full = tabulate(make_recipe(), cells, "paper")
    assert full.title == "Table 2: A table"
    assert "NOT" not in sentences.caption(full)[0]
    assert full.follows_the_paper


def test_fewer_trials_than_the_papers_are_not_its_protocol(cells):
    fewer = replace_cell(cells, "One", "CE", records=cells[0].records[:2])
    table = tabulate(make_recipe(), fewer, "paper")
    assert not table.reduced
    assert not table.follows_the_paper
    assert sentences.caption(table)[0].endswith("batches of 8, 2–3 trials of 3.")


def test_one_seed_has_no_verdict_and_no_nan(tmp_path):
    table = tabulate(make_recipe(), factory.cells(make_recipe(), tmp_path, accuracy, trials=1), "quick")
    comparison = table.cells["One", "LE"].compared["ce"]
    assert (comparison.verdict, comparison.p, comparison.p_alone) == ("one seed: no verdict", None, None)
    assert table.cells["One", "LE"].std is None
    assert any("With one seed" in line for line in sentences.caption(table))
    assert "no verdict against CE, one seed" in dict(sentences.about_le(table))["LE, One"]


def test_what_cannot_be_tested_yet_counts_in_the_correction(tmp_path):
    """No verdict may hang on which of the other trials have been run so far."""
    cells = factory.cells(make_recipe(), tmp_path, accuracy)
    comparisons = 2 * 6
    for records in (cells[5].records[:1], ()):
        one = replace_cell(cells, "Two", "LS", records=records)
        found = tabulate(make_recipe(), one, "quick").cells
        every = [comparison for cell in found.values() for comparison in cell.compared.values()]
        tested = [comparison for comparison in every if comparison.p_alone is not None]
        assert len(tested) == comparisons - 3  # LS to CE and to LE-Uniform, and LE to LS
        assert {comparison.among for comparison in every} == {comparisons}
        assert min(c.p for c in tested) == pytest.approx(comparisons * min(c.p_alone for c in tested))
        assert all(c.p is None for c in every if c not in tested)


def test_without_ce_there_is_no_difference_and_it_is_said(cells):
    cells = replace_cell(cells, "One", "CE", records=(), missing=("seed 0 failed: out of\nmemory",))
    table = tabulate(make_recipe(), cells, "paper")
    assert list(table.cells["One", "LE"].compared) == ["ls", "le-uniform"]
    assert list(table.cells["Two", "LE"].compared) == ["ce", "ls", "le-uniform"]
    empty = table.cells["One", "CE"]
    assert (empty.mean, empty.std, empty.nll, empty.verdict) == (None, None, None, "")
    assert any(line.startswith("No difference to CE in One:") for line in sentences.caption(table))
    assert "Missing: One, CE: seed 0 failed: out of memory" in sentences.caption(table)


@pytest.mark.parametrize(
    ("missing", "interim"),
    [
        ((), False),
        ([("One", "LE")], True),
        ([("One", "CE")], True),
        ([("Two", "CE"), ("Two", "LE")], False),  # nothing is clear there
    ],
)
def test_a_clear_difference_before_all_seeds_are_in_is_an_interim_one(tmp_path, missing, interim):
    def accuracy(group, variant, seed):
        return (97.0 if (group, variant) == ("One", "LE") else 60.0) + 0.25 * seed

    cells = factory.cells(make_recipe(), tmp_path, accuracy)
    for place in missing:
        cells = replace_cell(cells, *place, missing=("seed 3: not finished",))
    table = tabulate(make_recipe(), cells, "paper")
    assert [
        place for place, cell in table.cells.items() for c in cell.compared.values() if c.verdict == "better"
    ] == [("One", "LE")] * 3
    assert any("an interim one" in line for line in sentences.caption(table)) == interim


def test_one_comparison_alone_is_not_told_of_a_correction(tmp_path):
    recipe = make_recipe()
    alone = recipe.model_copy(update={"groups": recipe.groups[:1], "variants": recipe.variants[:2]})
    for asked, said in ((recipe, "p: corrected after Holm"), (alone, "p: of the test against no difference")):
        cells = factory.cells(asked, tmp_path / said, accuracy)
        [line] = [
            line for line in sentences.caption(tabulate(asked, cells, "paper")) if line.startswith("Δ:")
        ]
        assert said in line
        assert ("not corrected" in line) == (asked is recipe)


def test_trials_without_predictions_do_not_pair(cells):
    (cells[0].records[0].directory / record.PREDICTIONS).unlink()
    found = tabulate(make_recipe(), cells, "paper")
    assert found.cells["One", "CE"].trials == 3
    assert found.cells["One", "LE"].compared["ce"].pairs == 2
    assert any("One LE to CE (2)" in line for line in sentences.caption(found))


def test_nothing_at_all_is_still_a_table():
    cells = [CellRuns("One", name, (), None, 0, ("seed 0: not finished",)) for name in STEPS]
    table = tabulate(make_recipe(), cells, "smoke", ["a note"])
    assert sentences.caption(table)[0] == "smoke budget: NOT the paper's protocol."
    assert sentences.caption(table)[1] == "a note"
    assert sentences.agreement(table) == ""


def test_numbers_of_any_size_become_none_rather_than_nan(cells):
    huge = cells[0].records[0].result.model_copy(update={"nll": 1.7e308})
    runs = tuple(record.Record(run.directory, run.config, huge) for run in cells[0].records)
    table = tabulate(make_recipe(), replace_cell(cells, "One", "CE", records=runs, cost=math.nan), "paper")
    assert table.cells["One", "CE"].nll is None
    assert table.cells["One", "CE"].cost is None


def test_cells_that_do_not_belong_are_refused(cells, tmp_path):
    with pytest.raises(InputError, match="no cell 'One', 'XX'"):
        tabulate(make_recipe(), [CellRuns("One", "XX", (), None, 0)], "paper")
    with pytest.raises(InputError, match="twice"):
        tabulate(make_recipe(), [*cells, cells[0]], "paper")
    other = factory.write_run(tmp_path, seed=9, data_fingerprint="other")
    with pytest.raises(InputError, match="'One' in table2 were trained on different data"):
        tabulate(make_recipe(), replace_cell(cells, "One", "CE", records=(other,)), "paper")


def test_agreement_counts_what_can_be_compared(cells):
    table = tabulate(make_recipe(), cells, "paper")
    assert sentences.agreement(table) == (
        "1 of 3 printed values agrees; 2 are better here than printed (One LE, Two LE); "
        "2 more cannot be compared (the paper prints no deviation: One LS; the printed number is doubtful: Two CE)."
    )
    quick = tabulate(make_recipe(), cells, "quick")
    assert sentences.agreement(quick) == "None of 5 printed values can be compared: reduced budget."


def test_le_in_short_counts_a_shared_cell_once(tmp_path):
    cells = factory.cells(make_recipe(), tmp_path, accuracy, trials=5)
    table = tabulate(make_recipe(), cells, "paper")
    assert [cell.compared["ce"].verdict for cell in table.cells.values() if cell.method == "le"] == [
        "better"
    ] * 2
    once = sentences.le_in_short([table])
    renamed = make_recipe().model_copy(
        update={
            "variants": tuple(
                variant.model_copy(update={"label": "LE (cosine)"}) if variant.method == "le" else variant
                for variant in make_recipe().variants
            ),
            "paper": {},
        }
    )
    same = [
        CellRuns(**{**vars(cell), "variant": cell.variant.replace("LE", "LE (cosine)")})
        if cell.variant == "LE"
        else cell
        for cell in cells
    ]
    assert once == sentences.le_in_short([table, tabulate(renamed, same, "paper")])
    assert once.startswith(
        "After correction LE is clearly better than CE in 2 of 2 cells, LS in 2 of 2 cells"
    )
    others = tabulate(make_recipe(), factory.cells(make_recipe(), tmp_path / "others", accuracy, 4), "paper")
    assert "CE in 4 of 4 cells" in sentences.le_in_short([table, others])  # other trials of the same settings
    quick = sentences.le_in_short([tabulate(make_recipe(), cells, "quick")])
    assert quick.startswith("At the quick budget and after correction LE")


@pytest.fixture
def search(tmp_path):
    recipe = recipes.load("search-ls")
    held_out = {"alpha 0.6": 80.0, "alpha 0.7": 85.0, "alpha 0.8": 85.0, "alpha 0.9": 84.0}
    return recipe, factory.cells(recipe, tmp_path, lambda g, v, s: held_out[v] + s, trials=2)


def test_a_search_is_judged_by_held_out_images_alone(search):
    recipe, cells = search
    table = tabulate(recipe, cells, "quick")
    assert [variant for (_, variant), cell in table.cells.items() if cell.selected] == ["alpha 0.7"] * 3
    cell = table.cells["ResNet8", "alpha 0.7"]
    assert (cell.mean, cell.std, cell.nll) == (pytest.approx(85.5), pytest.approx(0.5**0.5), 0.3)
    assert cell.ece == 0.07
    assert cell.paper is None
    assert not cell.compared
    assert sentences.agreement(table).endswith("ResNet8: alpha 0.7 (85.50 %), the paper 0.9.")
    # A test set that says otherwise changes nothing.
    better = cells[0].records[0].result.model_copy(update={"accuracy": 1.0, "nll": 0.0})
    runs = tuple(record.Record(run.directory, run.config, better) for run in cells[0].records)
    changed = tabulate(recipe, replace_cell(cells, "MNIST MLP", "alpha 0.6", records=runs), "quick")
    assert [dataclasses.replace(cell, records=()) for cell in changed.cells.values()] == [
        dataclasses.replace(cell, records=()) for cell in table.cells.values()
    ]


def test_a_search_selects_as_the_study_does(search):
    recipe, cells = search
    # Fewer trials do not win by a better mean, and the lower NLL wins among equals.
    cells = replace_cell(cells, "ResNet14", "alpha 0.7", records=cells[5].records[1:], missing=("failed",))
    for run in cells[10].records:
        path = run.directory / record.METRICS
        path.write_text(path.read_text().replace('"val_nll": 0.3', '"val_nll": 0.2'))
    chosen = selection.select(recipe, {(cell.group, cell.variant): cell.records for cell in cells})
    assert [chosen["search-ls", group.label] for group in recipe.groups] == [0.7, 0.8, 0.8]
    for (group, _), cell in tabulate(recipe, cells, "quick").cells.items():
        assert cell.selected == (cell.settings["alpha"] == chosen["search-ls", group])


def test_a_search_without_held_out_images_is_refused(search, tmp_path):
    recipe, cells = search
    run = factory.write_run(tmp_path, "ls", 5, settings={"alpha": 0.6}, data_fingerprint="mnist")
    with pytest.raises(InputError, match="val_fraction above 0"):
        tabulate(recipe, replace_cell(cells, "MNIST MLP", "alpha 0.6", records=(run,)), "quick")
