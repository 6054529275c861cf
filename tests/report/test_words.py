import dataclasses

import numpy as np
import pytest

from selftaught.report import words
from selftaught.report.differences import Difference
from selftaught.report.tables import Row, Table
from selftaught.statistics.paired import Interval
from tests.report import factory

CE = Row("ce", 5, 0.9, 0.01, None, 0.31, 0.05, 0.29, 0.02, 1.0)


def difference(
    method: str, low: float, high: float, pairs: int = 5, p: float = 0.5, base: str = "ce"
) -> Difference:
    interval = Interval((low + high) / 2, low, high)
    return Difference(method, base, pairs, interval, p if pairs > 1 else None)


def row(method: str, low: float, high: float, p: float = 0.5, pairs: int = 5, **changes) -> Row:
    made = Row(method, 5, 0.91, 0.01, difference(method, low, high, pairs, p), 0.28, 0.03, 0.27, 0.015, 1.08)
    return dataclasses.replace(made, **changes)


def table(*rows: Row, further=()) -> Table:
    return Table((CE, *rows), "ce", (), tuple(further), (("le", "ce"), ("ls", "ce"), ("le", "ls")))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row("le", 0.001, 0.02, 0.01)], "le is better than ce in accuracy"),
        ([row("cp", -0.02, -0.001, 0.01)], "cp is worse than ce in accuracy"),
        (
            [row("ls", -0.01, 0.02), row("le", 0, 0.01)],
            "ls and le show no clear difference from ce in accuracy",
        ),
        (
            [
                row("ls", -0.01, 0.02),
                row("cp", -0.02, -0.001, 0.01),
                row("le", 0.001, 0.02, 0.01),
                row("kd", 0.002, 0.02, 0.01),
            ],
            "le and kd are better than ce in accuracy; cp is worse than ce in accuracy; "
            "ls shows no clear difference from ce in accuracy",
        ),
        ([row("le", 0.01, 0.02, pairs=1)], "No verdict on le against ce: that takes more than one seed"),
        ([], "ce is right on 90.00 % of the test images; one method, nothing to compare"),
        (
            [row("le", 0, 0, difference=None)],
            "No verdict: no other method has trials with the seeds of ce and stored predictions",
        ),
    ],
)
def test_the_headline_claims_what_the_p_values_allow(rows, expected):
    assert words.headline(table(*rows)) == expected


def test_le_is_not_praised_for_what_its_controls_can_do():
    rows = [row("ls", 0.001, 0.02, 0.01), row("le-uniform", 0.001, 0.02, 0.01), row("le", 0.001, 0.02, 0.01)]
    further = [
        difference("le", -0.01, 0.01, base="le-uniform"),
        difference("le", 0.001, 0.01, p=0.03, base="ls"),
    ]
    made = table(*rows, further=further)
    assert words.headline(made) == (
        "ls, le-uniform and le are better than ce in accuracy; le is better than ls; "
        "le shows no clear difference from le-uniform"
    )
    [_, (_, _, plain), (_, _, of_le)] = words.findings(made)
    assert "Against le-uniform 0.00 [−1.00, +1.00] points, p 0.500: no clear difference." in of_le
    assert "Against ls +0.55 [+0.10, +1.00] points, p 0.030: better." in of_le
    assert "Against" not in plain
    one_seed = table(row("le", 0.01, 0.02, pairs=1), further=[difference("le", 0.01, 0.02, 1, base="ls")])
    assert words.headline(one_seed) == "No verdict on le against ce: that takes more than one seed"
    [(_, _, text)] = words.findings(one_seed)
    assert "Against ls +1.50 [+1.00, +2.00] points: one seed: no verdict." in text


def test_le_against_others_is_said_where_the_baseline_has_no_trials():
    further = [difference("le", 0.001, 0.01, p=0.03, base="ls")]
    alone = Table(
        (row("ls", 0, 0, difference=None), row("le", 0, 0, difference=None)), "ce", (), tuple(further)
    )
    assert words.headline(alone) == "le is better than ls in accuracy"
    [(method, verdict, text)] = words.findings(alone)
    assert (method, verdict) == ("le", "not compared with ce")
    assert text == "Against ls +0.55 [+0.10, +1.00] points, p 0.030: better."


def test_an_interval_without_zero_is_no_difference_where_there_are_many():
    [(_, verdict, text)] = words.findings(table(row("le", 0.001, 0.009, 0.2)))
    assert verdict == "no clear difference"
    assert "p 0.200. The interval alone leaves out zero: among 3 comparisons luck can do that." in text
    assert "worse" not in text


def test_findings_say_the_interval_the_calibration_and_the_cost():
    [(method, verdict, text)] = words.findings(table(row("le", -0.001, 0.009)))
    assert (method, verdict) == ("le", "no clear difference")
    assert "+0.40 [−0.10, +0.90] points of accuracy against ce, 95 % interval, 5 seeds, p 0.500" in text
    assert "Anything from 0.10 points worse to 0.90 points better fits these results" in text
    assert "ECE 3.00 % against 5.00 %, after temperature scaling 1.50 % against 2.00 %" in text
    assert "NLL 0.280 against 0.310" in text
    assert "1.08 times as long" in text


def test_one_seed_and_missing_numbers_are_not_glossed_over():
    [(_, verdict, text)] = words.findings(table(row("le", 0.01, 0.02, pairs=1, cost=None, ece_scaled=None)))
    assert verdict == "one seed: no verdict"
    assert "says nothing of other seeds" in text
    assert "scaling" not in text
    assert "step" not in text


def test_cautions(tmp_path):
    def said(run, *rows):
        return " ".join(words.cautions(table(*rows), [run]))

    run = factory.write_run(tmp_path, "le", 0)
    assert said(run, row("le", 0.01, 0.02, 0.01)) == ""
    assert "--trials 10" in said(run, row("le", -0.01, 0.02))
    two = factory.write_run(tmp_path / "2", "le", 0, classes=("cat", "dog"))
    assert "With two classes le equals label smoothing" in said(two, row("le", 0.01, 0.02, 0.01))
    plain = factory.write_run(tmp_path / "3", "ce", 0, classes=("cat", "dog"))
    assert said(plain) == ""
    data = run.result.data.model_copy(update={"duplicates": 7})
    copied = dataclasses.replace(run, result=run.result.model_copy(update={"data": data}))
    assert "7 of 500 test images are also" in said(copied)


def test_a_network_that_guesses_is_told(tmp_path):
    run = factory.write_run(tmp_path, "ce", 0)
    classes = len(run.result.data.classes)
    guessing, learning = (
        " ".join(words.cautions(Table((dataclasses.replace(CE, accuracy=accuracy),), "ce", ()), [run]))
        for accuracy in (1.05 / classes, 0.9)
    )
    assert "clearly better than guessing" in guessing
    assert "guessing" not in learning


def test_a_network_that_always_names_the_most_frequent_class_is_told(tmp_path):
    run = factory.write_run(tmp_path, "ce", 0, ("c0", "c1", "c2"))

    def told(accuracy: float, *sizes: int) -> str:
        made = Table((dataclasses.replace(CE, accuracy=accuracy),), "ce", ())
        return " ".join(words.cautions(made, [run], np.array(sizes) if sizes else None))

    expected = (
        "No method is clearly better than always naming 'c0', which would score 90.00 %: see in the report"
    )
    assert told(0.9, 450, 25, 25).startswith(expected)
    assert told(0.4, 450, 25, 25).startswith(expected)  # better than guessing does not help it
    assert told(0.913, 450, 25, 25).startswith(expected)  # 1.34 points are the standard error of 500 images
    assert told(0.914, 450, 25, 25) == ""
    assert "always naming 'c2', which would score 60.00 %" in told(0.6, 100, 100, 300)
    assert "always" not in told(1, 9, 1, 0)  # nothing can be better than right
    assert "always naming 'c1', which would score 100.00 %" in told(1, 0, 5, 0)
    for even in ((), (167, 167, 166), (180, 160, 160), (1, 1, 2)):
        assert told(0.39, *even).startswith("No method is clearly better than guessing, 33 % with 3 classes")
        assert told(0.41, *even) == ""


def test_few_test_images_are_told(tmp_path):
    run = factory.write_run(tmp_path, "ce", 0)

    def told(images: int) -> str:
        data = run.result.data.model_copy(update={"test": images})
        result = run.result.model_copy(update={"data": data})
        return " ".join(words.cautions(table(), [dataclasses.replace(run, result=result)]))

    assert "With 4 test images each of them is 25 points of accuracy." in told(4)
    assert "With 1 test image each of them is 100 points" in told(1)
    assert "points of accuracy." not in told(100)


def test_temperatures_that_mean_little_are_told(tmp_path):
    run = factory.write_run(tmp_path, "ce", 0)

    def told(held_out: int, temperature: float | None) -> str:
        data = run.result.data.model_copy(update={"val": held_out})
        result = run.result.model_copy(update={"data": data, "temperature": temperature})
        return " ".join(words.cautions(table(), [dataclasses.replace(run, result=result)]))

    assert "25 held-out images" in told(25, 1.0)
    assert "end of the range" in told(500, 20.0)
    assert "end of the range" in told(500, 0.05)
    for unremarkable in (told(500, 1.3), told(0, None)):
        assert "emperature" not in unremarkable
        assert "held-out" not in unremarkable
