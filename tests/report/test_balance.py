"""Balanced accuracy stands in tables for people where accuracy alone would mislead, and a sentence says why."""

import csv
import dataclasses
import io

import pytest

from selftaught.files import evidence, record
from selftaught.files.archive import archive
from selftaught.report import balance, plain, sentences
from selftaught.report.markdown import begins_table, markdown
from selftaught.report.plain import as_csv
from selftaught.report.study import read
from selftaught.report.table import comparison
from tests.files import sealed
from tests.report import factory

NAMES = ("hat", "bag", "shoe")


def of(accuracies, images=()):
    return evidence.Classes(None, None, None, tuple(accuracies), tuple(images))


def test_more_than_three_to_one_is_uneven_and_what_has_no_images_does_not_count():
    assert balance.extremes([30, 10, 0]) is None
    assert balance.extremes([31, 10, 0]) == (0, 1)
    assert balance.extremes([0, 0]) is None


def test_the_sentence_names_the_largest_and_the_smallest_class():
    said = sentences.classes({"ce": [of((0.5, 0.9, 0.8), (12, 52, 40))]}, NAMES)
    assert said.startswith("bag has 52 of 104 test images, hat 12: accuracy mostly says")


def test_a_class_that_is_never_found_is_named_with_who_loses_it():
    trials = {
        "ce": [of((0.0, 0.9, 0.8), (12, 12, 12)), of((0.1, 0.9, 0.8))],
        "le": [of((0.0, 0.0, 1.0))],
    }
    said = sentences.classes(trials, NAMES)
    assert said.startswith(
        "No image of hat (ce, le) and bag (le) is found in some trial: accuracy alone hides that"
    )
    both = sentences.classes({"ce": [of((0.0, 1.0, 1.0), (2, 52, 40))]}, NAMES)
    assert "hat 2; no image of hat (ce) is found in some trial: accuracy mostly" in both


def test_of_many_classes_that_are_never_found_a_few_are_named():
    names = [f"c{k}" for k in range(9)]
    said = sentences.classes({"ce": [of([0.0] * 6 + [0.5, 0.5, None])]}, names)
    assert said.startswith("No image of c0 (ce), c1 (ce), c2 (ce) and 3 more classes is found")


@pytest.mark.parametrize("trial", [of((0.5, 0.9, 0.8), (30, 10, 10)), of((0.5, None, 0.8)), of(())])
def test_of_even_classes_that_are_found_nothing_is_said(trial):
    assert sentences.classes({"ce": [trial]}, NAMES) == ""


@pytest.fixture
def uneven(tmp_path):
    runs = [
        factory.write_run(tmp_path, method, seed, NAMES, sizes=(10, 52, 40))
        for method in ("ce", "le")
        for seed in (0, 1)
    ]
    return comparison(runs, ["ce", "le"], {})


def test_it_stands_beside_accuracy_in_tables_for_people(uneven):
    assert factory.headers(uneven)[:5] == [
        *("method", "accuracy %", "balanced %", "macro F1 %"),
        "difference to ce",
    ]
    row = uneven.rows[1]
    assert factory.texts(row, uneven)[2] == "{:.2f} ± {:.2f}".format(*(100 * value for value in row.balanced))
    assert sentences.remarks(uneven)[0] in markdown(uneven)
    assert "bag has 52 of 102 test images, hat 10" in sentences.remarks(uneven)[0]
    assert begins_table(markdown(uneven))


def test_all_that_may_be_told_of_a_row_fits_a_terminal(tmp_path):
    """Twenty uneven classes, with the linear probe beside them."""
    methods = ["ce", "le-uniform", "cwtm-permut", "probe"]
    runs = [
        factory.write_run(tmp_path, method, seed, factory.names(20), sizes=[40, *[9] * 19])
        for method in methods
        for seed in (0, 1)
    ]
    table = comparison(runs, methods, dict.fromkeys(methods[:3], 4.25))
    text = factory.printed(table)
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    lines = [line.split() for line in text.splitlines()]
    for title in ("balanced", "top-5"):
        assert any(title in line[:2] for line in lines)
    told = plain.values(table)["rows"]
    for name in ("balanced_accuracy", "macro_f1", "top5_accuracy"):
        value = told[1][name]
        assert any(f"{100 * value:.2f}" in line[:2] for line in lines)
    assert (
        text.index("class 0 has 40 of 211 test images") < text.index("accuracy %") < text.index("Top-5: test")
    )
    assert begins_table(markdown(table))
    [first, *_] = csv.DictReader(io.StringIO(as_csv(table)))
    assert float(first["top5_accuracy"]) == told[0]["top5_accuracy"]


def test_where_classes_are_even_only_files_and_pages_have_it(tmp_path):
    table = comparison([factory.write_run(tmp_path)], ["ce"], {})
    assert (table.uneven, sentences.remarks(table)) == (False, [])
    assert "balanced %" not in factory.headers(table)
    assert "macro F1 %" in factory.headers(table, page=True)
    assert "balanced_accuracy" in as_csv(table)
    assert plain.values(table)["rows"][0]["macro_f1"] == table.records[0].result.macro_f1


def test_older_records_are_computed_again_from_predictions_and_archives_from_their_classes(tmp_path):
    run = factory.write_run(tmp_path, "ce", 0, NAMES, sizes=(10, 52, 40))
    told = evidence.classes(run)
    nothing = {"balanced_accuracy": None, "macro_f1": None, "per_class_accuracy": (), "per_class_images": ()}
    older = dataclasses.replace(run, result=run.result.model_copy(update=nothing))
    found = evidence.classes(older)
    assert (found.balanced_accuracy, found.macro_f1) == pytest.approx((told.balanced_accuracy, told.macro_f1))
    assert (found.accuracies, found.images) == (told.accuracies, told.images)
    (run.directory / record.PREDICTIONS).unlink()
    assert evidence.classes(older).balanced_accuracy is None
    of_classes = run.result.model_copy(update=nothing | {"per_class_accuracy": told.accuracies})
    archived = evidence.classes(dataclasses.replace(run, result=of_classes))
    assert archived.balanced_accuracy == pytest.approx(told.balanced_accuracy)
    assert archived.macro_f1 is None


def test_an_archive_says_what_the_study_said(tmp_path):
    runs = [
        sealed.run(tmp_path / "s" / "trials", classes=NAMES, sizes=(10, 52, 40), seed=seed) for seed in (0, 1)
    ]
    sealed.describe(tmp_path / "s", runs)
    archive(tmp_path / "s", tmp_path / "kept")
    there, kept = (
        comparison(found.records, found.methods, {})
        for found in map(read, ([tmp_path / "s"], [tmp_path / "kept"]))
    )
    assert sentences.remarks(kept) == sentences.remarks(there) != []
    assert kept.rows[0].classes == there.rows[0].classes
