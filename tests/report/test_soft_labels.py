"""What is said of soft labels from which nothing can be learned, and when nothing is said."""

import dataclasses

import pytest

from selftaught import recipes
from selftaught.files import record
from selftaught.report import sentences
from selftaught.report.study import read
from selftaught.report.table import comparison, tabulate
from tests.report import cells as paper_factory
from tests.report import factory


def cautions(runs):
    """What is said of the methods of these runs."""
    methods = dict.fromkeys(run.config.method for run in runs)
    said = (sentences.soft_labels_of([r for r in runs if r.config.method == m], m) for m in methods)
    return [text for text in said if text]


OPPOSITE = {"opposite": 0.93, "moved": 0.612, "classes": 1.94}
EVEN = {"opposite": 0.0, "moved": 0.031, "classes": 8.9}
USUAL = {"opposite": 0.49, "moved": 0.05, "classes": 6.5}


def test_explanations_that_are_nearly_opposite_say_what_is_left_of_them(tmp_path):
    runs = [factory.write_run(tmp_path, "le", seed, soft_labels=OPPOSITE) for seed in range(2)]
    [said] = cautions([factory.write_run(tmp_path, "ce"), *runs])
    assert said == (
        "le's soft labels of the last epoch put 6.1 % of the probability elsewhere than even ones would (wrong classes "
        "have 10 % in all), as if 1.9 of 9 wrong classes shared it; leftovers decide which, since 93 % of the wrong "
        "classes' maps are nearly opposite to the true class's (cosine −0.8 or less)."
    )


def test_soft_labels_that_are_nearly_even_are_said_to_be(tmp_path):
    [said] = cautions([factory.write_run(tmp_path, "le", soft_labels=EVEN)])
    assert "put 0.31 % of the probability elsewhere" in said
    assert said.endswith("8.9 of 9 wrong classes shared it: they are nearly even, so that le can hardly differ from "
                         "even soft labels (le-uniform).")  # fmt: skip


def test_what_is_said_is_the_mean_of_the_trials_that_measured_it(tmp_path):
    """Older records did not; one trial alone is not the others."""
    runs = [factory.write_run(tmp_path, "le", 0)]
    assert not list(cautions(runs))
    runs.append(factory.write_run(tmp_path, "le", 1, soft_labels=OPPOSITE))
    assert len(list(cautions(runs))) == 1
    runs += [
        factory.write_run(tmp_path, "le", seed, soft_labels=USUAL | {"opposite": 0.0}) for seed in (2, 3)
    ]
    assert not list(cautions(runs))


@pytest.mark.parametrize("said", [USUAL, {"opposite": 0.49, "moved": 0.8, "classes": 1.0}])
def test_nothing_is_said_of_explanations_that_say_something(tmp_path, said):
    assert not list(cautions([factory.write_run(tmp_path, "le", soft_labels=said)]))


def test_of_two_classes_something_else_is_said(tmp_path):
    only = {"opposite": 1.0, "moved": 0.0, "classes": 1.0}
    run = factory.write_run(tmp_path, "le", classes=("cat", "dog"), soft_labels=only)
    assert not list(cautions([run]))
    assert any("equals label smoothing" in text for text in sentences.cautions(comparison([run], ["le"], {})))


def test_the_table_and_the_report_have_the_sentence_and_its_number_comes_from_the_record(tmp_path):
    runs = [
        factory.write_run(tmp_path, method, 0, soft_labels=s)
        for method, s in (("ce", None), ("le", OPPOSITE))
    ]
    [said] = cautions(runs)
    assert said in sentences.caption(comparison(runs, ["ce", "le"], {}))
    assert said in sentences.cautions(comparison(runs, ["ce", "le"], {}))
    assert "as if 1.9 of 9 wrong classes shared it" in factory.html(runs)
    assert read([runs[1].directory]).records[0].result.soft_labels == record.SoftLabels(**OPPOSITE)


def test_a_reproduction_says_it_of_the_cell(tmp_path):
    recipe = recipes.load("table6")
    cells = paper_factory.cells(recipe, tmp_path, lambda *_: 90.0, trials=1)
    table = tabulate(recipe, cells, "paper")
    assert not [line for line in sentences.caption(table) if "soft labels of the last epoch" in line]
    changed = next(cell for cell in cells if cell.records[0].config.method == "le")
    [run] = changed.records
    result = run.result.model_copy(update={"soft_labels": record.SoftLabels(**EVEN)})
    again = dataclasses.replace(changed, records=(dataclasses.replace(run, result=result),))
    table = tabulate(recipe, [again if cell is changed else cell for cell in cells], "paper")
    [said] = [line for line in sentences.caption(table) if "soft labels of the last epoch" in line]
    assert said.startswith(f"{changed.group}, {changed.variant}'s soft labels")
