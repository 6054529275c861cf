import dataclasses

import pytest

from selftaught.files import record
from selftaught.recipes.comparison import recipe_of
from selftaught.report import sentences
from selftaught.report.table import Cell, Table
from selftaught.statistics.paired import Interval
from selftaught.statistics.verdicts import Difference, verdict
from tests.report import factory

CE = Cell("d", "ce", "ce", mean=90.0, std=1.0, nll=0.31, ece=0.05, cost=1.0)


def difference(low: float, high: float, pairs: int = 5, p: float = 0.5) -> Difference:
    interval = Interval((low + high) / 2, low, high)
    known = p if pairs > 1 else None
    return Difference(interval, pairs, known, known, 3, verdict(interval.estimate, known))


def row(method: str, low: float, high: float, p: float = 0.5, pairs: int = 5, **against: Difference) -> Cell:
    """A method against ce, and against others by their names."""
    compared = {"ce": difference(low, high, pairs, p)}
    compared |= {name.replace("_", "-"): one for name, one in against.items()}
    return Cell(
        "d",
        method,
        method,
        mean=91.0,
        std=1.0,
        nll=0.28,
        ece=0.03,
        cost=1.08,
        compared=compared,
        bases={name: name for name in compared},
    )


def bare(one: Cell, *without: str) -> Cell:
    """The row without these differences."""
    return dataclasses.replace(one, compared={n: d for n, d in one.compared.items() if n not in without})


def table(*rows: Cell, records=()) -> Table:
    cells = [dataclasses.replace(CE, records=tuple(records)), *rows]
    recipe = recipe_of([cell.variant for cell in cells], "d", "m", 5)
    return Table(recipe, "", {(cell.group, cell.variant): cell for cell in cells})


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
            [bare(row("le", 0, 0), "ce")],
            "No verdict: no other method has trials with the seeds of ce and stored predictions",
        ),
    ],
)
def test_the_headline_claims_what_the_p_values_allow(rows, expected):
    assert sentences.headline(table(*rows)) == expected


def test_le_is_not_praised_for_what_its_controls_can_do():
    against = {"le_uniform": difference(-0.01, 0.01), "ls": difference(0.001, 0.01, p=0.03)}
    rows = [
        row("ls", 0.001, 0.02, 0.01),
        row("le-uniform", 0.001, 0.02, 0.01),
        row("le", 0.001, 0.02, 0.01, **against),
    ]
    made = table(*rows)
    assert sentences.headline(made) == (
        "ls, le-uniform and le are better than ce in accuracy; le is better than ls; "
        "le shows no clear difference from le-uniform"
    )
    [_, (_, _, plain), (_, _, of_le)] = sentences.findings(made)
    assert "No clear difference from le-uniform (0.00 [−1.00, +1.00] points of accuracy, p 0.500)" in of_le
    assert "better than ls (+0.55 [+0.10, +1.00] points of accuracy, p 0.030)." in of_le
    assert "from" not in plain
    one_seed = table(row("le", 0.01, 0.02, pairs=1, ls=difference(0.01, 0.02, 1)))
    assert sentences.headline(one_seed) == "No verdict on le against ce: that takes more than one seed"
    [(_, _, text)] = sentences.findings(one_seed)
    assert "No verdict against ls, one seed (+1.50 [+1.00, +2.00] points of accuracy)." in text


def test_le_against_others_is_said_where_the_baseline_has_no_trials():
    le = bare(row("le", 0, 0, ls=difference(0.001, 0.01, p=0.03)), "ce")
    alone = table(bare(row("ls", 0, 0), "ce"), le)
    assert sentences.headline(alone) == "le is better than ls in accuracy"
    [(method, said, text)] = sentences.findings(alone)
    assert (method, said) == ("le", "not compared with ce")
    assert text == "Better than ls (+0.55 [+0.10, +1.00] points of accuracy, p 0.030)."


def test_an_interval_without_zero_is_no_difference_where_there_are_many():
    [(_, said, text)] = sentences.findings(table(row("le", 0.001, 0.009, 0.2)))
    assert said == "no clear difference"
    assert "p 0.200. The interval alone leaves out zero: among 3 comparisons luck can do that." in text
    assert "worse" not in text


def test_findings_say_the_interval_and_calibration_is_told_once():
    made = table(row("le", -0.001, 0.009), row("ls", -0.001, 0.009))
    (method, said, text), _ = sentences.findings(made)
    assert (method, said) == ("le", "no clear difference")
    assert "+0.40 [−0.10, +0.90] points of accuracy against ce, 95 % interval, 5 seeds, p 0.500" in text
    assert "Anything from 0.10 points worse to 0.90 points better fits these results" in text
    assert sentences.calibration(made) == (
        "Calibration, as the ECE in %: ce 5.00, le 3.00, ls 3.00. Lower is better."
    )


def test_one_seed_is_not_glossed_over():
    [(_, said, text)] = sentences.findings(table(row("le", 0.01, 0.02, pairs=1)))
    assert said == "one seed: no verdict"
    assert "says nothing of other seeds" in text


def test_cautions(tmp_path):
    def said(run, *rows):
        return " ".join(sentences.cautions(table(*rows, records=[run])))

    run = factory.write_run(tmp_path, "le", 0)
    assert said(run, row("le", 0.01, 0.02, 0.01)) == ""
    assert "--trials 5" in said(run, row("le", -0.01, 0.02))
    two = factory.write_run(tmp_path / "2", "le", 0, classes=("cat", "dog"))
    assert "With two classes le equals label smoothing" in said(two, row("le", 0.01, 0.02, 0.01))
    plain = factory.write_run(tmp_path / "3", "ce", 0, classes=("cat", "dog"))
    assert said(plain) == ""
    data = run.result.data.model_copy(update={"duplicates": 7})
    copied = dataclasses.replace(run, result=run.result.model_copy(update={"data": data}))
    assert "7 of 500 test images are also" in said(copied)


def test_clear_differences_are_interim_while_trials_are_missing(tmp_path):
    clear = row("le", 0.01, 0.02, 0.01)
    run = factory.write_run(tmp_path, "ce", 0)
    whole, partly = (
        " ".join(sentences.cautions(table(dataclasses.replace(clear, missing=missing), records=[run])))
        for missing in ((), ("seed 4: not finished",))
    )
    assert "an interim one" in partly
    assert "interim" not in whole


def test_few_test_images_are_told(tmp_path):
    run = factory.write_run(tmp_path, "ce", 0)

    (run.directory / record.PREDICTIONS).unlink()

    def told(images: int) -> str:
        data = run.result.data.model_copy(update={"test": images})
        result = run.result.model_copy(update={"data": data})
        return " ".join(sentences.cautions(table(records=[dataclasses.replace(run, result=result)])))

    assert "With 4 test images each of them is 25 points of accuracy." in told(4)
    assert "With 1 test image each of them is 100 points" in told(1)
    assert "points of accuracy." not in told(100)


def test_temperatures_that_mean_little_are_told(tmp_path):
    run = factory.write_run(tmp_path, "ce", 0)

    def told(held_out: int, temperature: float | None) -> str:
        data = run.result.data.model_copy(update={"val": held_out})
        result = run.result.model_copy(update={"data": data, "temperature": temperature})
        return " ".join(sentences.cautions(table(records=[dataclasses.replace(run, result=result)])))

    assert "25 held-out images" in told(25, 1.0)
    assert "end of the range" in told(500, 20.0)
    assert "end of the range" in told(500, 0.05)
    for unremarkable in (told(500, 1.3), told(0, None)):
        assert "emperature" not in unremarkable
        assert "held-out" not in unremarkable
