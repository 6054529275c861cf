import csv
import io
import json
import re

import numpy as np
import pytest
import scipy.stats
from safetensors.numpy import save_file

from selftaught import data
from selftaught.errors import InputError
from selftaught.files import record, results
from selftaught.files.config import parse
from selftaught.report import markdown as md
from selftaught.report import plain, sentences
from selftaught.report.markdown import markdown
from selftaught.report.plain import as_csv
from selftaught.report.table import comparison
from selftaught.statistics.paired import holm, paired_test
from tests.report import factory

IMAGES = 200
DATA = {
    "classes": ["a", "b"],
    "channels": 1,
    "image_size": [8, 8],
    "mean": [0.5],
    "std": [0.5],
    "train": 1000,
    "val": 0,
    "test": IMAGES,
}


@pytest.fixture
def make(tmp_path):
    """Writes the record of a run that gets `right` of 200 images right, and reads it back."""

    def write(
        method: str,
        seed: int,
        right: int,
        nll: float = 0.5,
        ece: float = 0.1,
        data: str = "f",
        scaled=None,
        test_part: str = "the source's own",
        **changes,
    ) -> record.Record:
        config = parse(
            changes
            | {
                "data": "shapes",
                "data_fingerprint": data,
                "model": "mlp",
                "method": method,
                "seed": seed,
                "epochs": changes.get("epochs", 7),
                "batch_size": 8,
                "lr": 0.1,
                "momentum": 0.9,
                "weight_decay": 0.0,
            }
        )
        directory = tmp_path / config.trial_id
        directory.mkdir()
        labels = np.arange(IMAGES) % 2
        predicted = np.where(np.arange(IMAGES) < right, labels, 1 - labels)
        logits = np.eye(2, dtype=np.float32)[predicted]
        save_file({"logits": logits, "labels": labels}, directory / "predictions.safetensors")
        result = {
            "trial_id": config.trial_id,
            "accuracy": right / IMAGES,
            "nll": nll,
            "ece": ece,
            "ece_scaled": scaled,
            "nll_scaled": scaled,
            "epochs": 7,
            "seconds": 1.0,
            "images_per_second": 1.0,
            "data": DATA | {"test_part": test_part},
            "environment": {},
        }
        (directory / "config.json").write_text(config.model_dump_json())
        (directory / "result.json").write_text(json.dumps(result))
        # Its numbers are easily recognised, and do not follow from its predictions.
        return record.Record(directory, config, record.read_result(directory))

    return write


def test_a_row_is_mean_std_difference_and_cost(make):
    records = [
        make("ce", 0, 100, nll=0.4),
        make("ce", 1, 110, nll=0.6),
        make("le", 1, 190),
        make("le", 0, 180),
    ]
    table = comparison(records, ["ce", "le"], {"ce": 1.0, "le": 1.04})
    ce, le = table.rows
    assert (ce.method, ce.trials, factory.against(ce)) == ("ce", 2, None)
    assert ce.accuracy == pytest.approx(0.525)
    assert ce.std == pytest.approx(5 / np.sqrt(2))  # n-1: |0.50 - 0.55| / sqrt(2)
    assert ce.nll == pytest.approx(0.5)
    assert factory.against(le).interval.estimate == pytest.approx(0.4)
    assert factory.against(le).interval.low < 0.4 < factory.against(le).interval.high
    assert (factory.against(le).verdict, le.cost) == ("better", 1.04)


def test_verdicts_follow_the_corrected_p_values(make):
    right = {"ce": (150, 151, 152), "ls": (152, 150, 153), "cp": (50, 51, 52), "le": (195, 196, 197)}
    records = [make(method, seed, n) for method, counts in right.items() for seed, n in enumerate(counts)]
    table = comparison(records, ["le", "cp", "ls", "ce"], {})
    assert [factory.texts(row, table)[factory.headers(table).index("verdict")] for row in table.rows] == [
        "better",
        "worse",
        "no clear difference",
        "",
    ]
    assert [
        (cell.method, [(base, one.verdict) for base, one in rest])
        for cell, rest in table.beside_the_columns()
    ] == [("le", [("cp", "better"), ("ls", "better")])]


def test_p_values_are_corrected_for_all_that_is_planned(make):
    right = {"ce": (150, 151, 152), "ls": (152, 150, 153), "le": (155, 156, 154)}
    records = [make(method, seed, n) for method, counts in right.items() for seed, n in enumerate(counts)]

    def tested(method: str, base: str) -> float:
        ours, theirs = (
            np.stack([np.arange(IMAGES) < n for n in right[name]]).astype(float) for name in (method, base)
        )
        return paired_test(ours, theirs).p

    table = comparison(records, ["ce", "ls", "le", "kd"], {})
    asked = [("ls", "ce"), ("le", "ce"), ("le", "ls")]
    assert [(row.method, base) for row in table.rows for base in row.compared] == asked
    found = [one for row in table.rows for one in row.compared.values()]
    alone = [tested(*pair) for pair in asked]
    assert [one.p_alone for one in found] == alone
    assert [one.p for one in found] == holm([*alone, 1.0, 1.0])[:3]  # kd with ce and le with kd are asked
    assert any(one.p > before for one, before in zip(found, alone, strict=True))
    caption = " ".join(sentences.caption(table))
    assert "p: corrected after Holm over 5 comparisons (all methods with ce, le with all)" in caption
    assert sentences.further(table)[0][0] == "le"
    [_, only] = comparison([*records[:3], *records[6:]], ["ce", "le"], {}).rows
    assert factory.against(only).p == tested("le", "ce")


def test_the_caption_says_where_nothing_was_learned(make):
    """Who reads the table alone, in a terminal or as Markdown, hears of it too."""
    guessed, learned = (
        comparison([make("ce", 1, 20)], ["ce"], {}),
        comparison([make("ce", 2, 120)], ["ce"], {}),
    )
    assert sentences.caption(guessed)[0].startswith(
        "No method is clearly better than guessing, 50 % with 2 classes"
    )
    assert not any("guessing" in line for line in sentences.caption(learned))


def test_trials_are_paired_by_seed_not_by_position(make):
    """Seed 2 of ce is missing; equal seeds are equal models: their difference is 0, with a rest of two more images."""
    records = [
        make("ce", 3, 120),
        make("ce", 1, 60),
        make("ls", 1, 60),
        make("ls", 2, 199),
        make("ls", 3, 120),
    ]
    [_, ls] = comparison(records, ["ce", "ls"], {}).rows
    assert tuple(factory.against(ls).interval) == (0.0, -0.015, 0.015)
    assert factory.against(ls).verdict == "no clear difference"
    assert ls.trials == 3


def test_without_ce_the_first_method_is_the_baseline_and_it_is_said(make):
    table = comparison([make("ls", 0, 100), make("le", 0, 120)], ["ls", "le"], {})
    assert table.baseline == "ls"
    assert "ls, the first one, is the baseline" in sentences.caption(table)[-1]
    assert factory.headers(table)[2] == "difference to ls"


def test_one_trial_has_no_deviation_and_says_what_its_interval_covers(make):
    table = comparison([make("ce", 0, 100), make("le", 0, 120)], ["ce", "le"], {})
    assert table.rows[0].std is None
    assert factory.texts(table.rows[0], table)[1] == "50.00"
    assert "covers the test images only" in " ".join(sentences.caption(table))


def test_methods_without_a_finished_trial_have_no_row(make):
    table = comparison([make("le", 0, 120)], ["ce", "le"], {})
    assert [row.method for row in table.rows] == ["le"]
    assert factory.against(table.rows[0]) is None


def test_the_caption_gives_the_sizes(make):
    records = [make("ce", 0, 100), make("ce", 1, 100), make("le", 0, 120)]
    caption = " ".join(sentences.caption(comparison(records, ["ce", "le"], {})))
    for fact in ("shapes", "1,000 training images", "200 test images", "mlp", "7 epochs", "1–2 trials"):
        assert fact in caption


def test_different_data_cannot_share_a_table(make):
    with pytest.raises(InputError, match="different data"):
        comparison([make("ce", 0, 100), make("le", 0, 100, data="g")], ["ce", "le"], {})
    with pytest.raises(InputError, match="no finished trial"):
        comparison([], ["ce"], {})


def test_renderings_hold_the_same_numbers(make):
    records = [
        make(method, seed, right + seed) for method, right in [("ce", 100), ("le", 180)] for seed in (0, 1)
    ]
    table = comparison(records, ["ce", "le"], {"ce": 1.0})
    [ce, le] = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert float(le["accuracy"]) == pytest.approx(0.9025)
    assert float(le["difference_estimate"]) == pytest.approx(0.4)
    assert (ce["difference_low"], ce["cost"], le["cost"], le["verdict"]) == ("", "1.0", "", "better")
    assert (ce["p"], float(le["p"])) == ("", factory.against(table.rows[1]).p)

    text = markdown(table)
    assert "| le | 90.25 ± 0.35 | +40.00 [" in text
    assert "| better | 0.500 | 10.00 | – |" in text

    text = factory.printed(table)
    assert re.search(r"90.25 ± 0.35 +\+40.00 \[", text)
    assert "better" in text
    assert "…" not in text
    values = json.loads(json.dumps(plain.values(table)))
    assert (values["rows"][1]["verdict"], values["comparisons"], values["further"]) == ("better", 1, [])


def test_scaled_calibration_is_shown_where_a_method_has_it(make):
    records = [
        make("ce", 0, 100, scaled=0.031),
        make("ce", 1, 100, scaled=0.033),
        make("le", 0, 120, scaled=0.02),
    ]
    table = comparison([*records, make("le", 1, 120)], ["ce", "le"], {})
    assert [row["ece_scaled"] for row in plain.values(table)["rows"]] == [
        pytest.approx(0.032),
        None,
    ]  # not every trial of le has one
    column = factory.headers(table).index("ECE % scaled")
    assert [factory.texts(row, table)[column] for row in table.rows] == ["3.20", "–"]
    assert "temperature fitted on its held-out images" in " ".join(sentences.caption(table))
    assert "| 10.00 | 3.20 | – |" in markdown(table)
    [ce, le] = csv.DictReader(io.StringIO(as_csv(table)))
    assert (float(ce["ece_scaled"]), le["ece_scaled"]) == (pytest.approx(0.032), "")
    lines = factory.printed(table).splitlines()
    assert not any("…" in line for line in lines)
    assert any("100.00" not in line and " 3.20 " in line for line in lines)


def test_the_widest_methods_fit_a_terminal(make):
    methods = ["ce", "le-uniform", "cwtm-permut", "le"]
    right = {"ce": 150, "le-uniform": 171, "cwtm-permut": 20, "le": 170}
    records = [
        make(method, seed, right[method] + 2 * seed, ece=0.1234, scaled=0.1111)
        for method in methods
        for seed in range(3)
    ]
    table = comparison(records, methods, dict.fromkeys(methods, 4.25))
    text = factory.printed(table)
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    lines = [line.split() for line in text.splitlines()]
    assert sum(line[:1] == ["p"] for line in lines) == 3
    assert ["better"] in lines


def test_seeds_that_only_one_of_two_methods_has_are_named(make):
    records = [make(method, seed, 100 + seed) for method in ("ce", "le") for seed in range(3)]
    table = comparison([*records, make("ls", 0, 90), make("ls", 1, 91)], ["ce", "ls", "le"], {})
    assert "count: le against ls (2)." in " ".join(sentences.caption(table))


def test_runs_without_a_temperature_have_no_column_for_it(make):
    table = comparison([make("ce", 0, 100)], ["ce"], {})
    assert factory.headers(table)[-2:] == ["ECE %", "step × ce"]
    assert "Scaled" not in " ".join(sentences.caption(table))


def test_trials_with_their_own_splits_are_compared_over_the_seeds(make):
    right = {"ce": (100, 104, 102), "le": (110, 113, 113)}
    records = [
        make(
            method, seed, n, data=f"split {seed}", split_per_trial=True, test_part=f"20 %, split seed {seed}"
        )
        for method, counts in right.items()
        for seed, n in enumerate(counts)
    ]
    table = comparison(records, ["ce", "le"], {})
    differences = np.array([10, 9, 11]) / IMAGES
    students = scipy.stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    le = table.rows[1]
    assert factory.against(le).interval.estimate == pytest.approx(differences.mean())
    # wider than Student's over independent trials, and no bootstrap over images that are not the same
    assert factory.against(le).interval.low < students.low
    assert "own split" in " ".join(sentences.caption(table))
    assert "bootstrap" not in " ".join(sentences.caption(table))


def test_trials_that_share_their_test_images_are_compared_over_them_whatever_they_were_trained_on(make):
    right = {"ce": (100, 104, 102), "le": (110, 113, 113)}
    own, common = (
        comparison(
            [
                make(method, seed, n, data=f"split {seed}" if apart else "f", split_per_trial=apart)
                for method, counts in right.items()
                for seed, n in enumerate(counts)
            ],
            ["ce", "le"],
            {},
        )
        for apart in (True, False)
    )
    assert factory.against(own.rows[1]) == factory.against(common.rows[1])
    assert "and test images (bootstrap)" in " ".join(sentences.caption(own))


def test_trials_with_training_images_of_their_own_are_compared_over_the_test_images_as_well(make):
    def subset(method, seed, right, **changes):
        return make(method, seed, right, data=f"of seed {seed}", subset_seed=seed, train_size=40, **changes)

    runs = [subset(method, seed, 100 + 9 * (method == "le")) for method in ("ce", "le") for seed in (0, 1, 2)]
    caption = " ".join(sentences.caption(comparison(runs, ["ce", "le"], {})))
    assert "Each seed has training images of its own; the test images are the same." in caption
    assert "and test images (bootstrap)" in caption
    with pytest.raises(InputError, match="different data"):
        comparison(
            [*runs[:-1], make("le", 2, 100, data="other", subset_seed=2, train_size=40)], ["ce", "le"], {}
        )
    # Labels that lie alike are no sign of the same images.
    with pytest.raises(InputError, match="split_seed: 0 -> 5"):
        comparison([*runs[:-1], subset("le", 3, 100, split_seed=5)], ["ce", "le"], {})
    with pytest.raises(InputError, match="subset_seed"):
        comparison([*runs, make("ls", 0, 100, data="of seed 0")], ["ce", "le", "ls"], {})


@pytest.mark.parametrize("change", [{"class_weights": "balanced"}, {"sampling": "balanced"}])
def test_probes_that_count_classes_in_another_way_do_not_share_a_row(make, change):
    with pytest.raises(InputError, match=next(iter(change))):
        comparison([make("probe", 0, 100), make("probe", 1, 100, **change)], ["probe"], {})


def test_the_own_test_part_of_the_data_is_called_what_tables_look_for():
    assert data.load("digits", split_seed=1).test_part == results.OWN_TEST_PART


def test_a_seed_of_a_method_is_there_once(make):
    runs = [make("ce", 3, 100), make("ce", 3, 100, threads=2)]
    with pytest.raises(InputError, match=r"are both ce with seed 3: report on one of them") as error:
        comparison(runs, ["ce"], {})
    assert all(str(run.directory) in str(error.value) for run in runs)


def test_splits_must_be_the_same_for_all_methods(make):
    records = [
        make("ce", 0, 100, data="a", split_per_trial=True),
        make("le", 0, 100, data="b", split_per_trial=True),
    ]
    with pytest.raises(InputError, match="different data"):
        comparison(records, ["ce", "le"], {})


def test_runs_that_differ_in_more_than_the_method_are_refused(make):
    with pytest.raises(InputError, match=r"differ in more than method and seed \(epochs: 7 -> 9\)"):
        comparison([make("ce", 0, 100), make("le", 0, 100, epochs=9)], ["ce", "le"], {})
    with pytest.raises(InputError, match=r"runs of ls have different settings \(alpha: 0.9 -> 0.8\)"):
        comparison(
            [make("ls", 0, 100, settings={"alpha": 0.9}), make("ls", 1, 100, settings={"alpha": 0.8})],
            ["ls"],
            {},
        )
    other_machine = comparison([make("ce", 3, 100), make("le", 3, 100, threads=2)], ["ce", "le"], {})
    assert factory.against(other_machine.rows[1]).pairs == 1


def test_trials_without_predictions_have_a_row_but_no_interval(make):
    records = [make("ce", 0, 100), make("ce", 1, 100), make("le", 0, 120), make("le", 1, 120)]
    (records[3].directory / record.PREDICTIONS).unlink()
    le = comparison(records, ["ce", "le"], {}).rows[1]
    assert (le.trials, factory.against(le).pairs, factory.against(le).verdict) == (
        2,
        1,
        "one seed: no verdict",
    )
    (records[2].directory / record.PREDICTIONS).unlink()
    table = comparison(records, ["ce", "le"], {})
    assert factory.against(table.rows[1]) is None
    assert "without stored predictions (le)" in " ".join(sentences.caption(table))


def test_a_name_cannot_break_the_markdown_table(make):
    [line] = [
        line
        for line in markdown(comparison([make("a|b\nc", 0, 9)], ["a|b\nc"], {})).splitlines()
        if "4.50" in line
    ]
    assert line.startswith("| a\\|b c | 4.50 |")


@pytest.mark.parametrize("scaled", [None, 0.03])
@pytest.mark.parametrize("method", ["ce", "a|b"])
def test_files_with_a_table_are_told_from_others(make, scaled, method):
    table = comparison([make(method, 0, 100, scaled=scaled)], [method], {})
    assert md.begins_table(markdown(table))
    assert plain.begins_table(as_csv(table))
    older = "method,trials,accuracy,accuracy_std,pairs,baseline,difference_estimate,difference_low,difference_high,p,"
    assert plain.begins_table(f"{older}verdict,nll,ece,nll_scaled,ece_scaled,cost\nce,1\n")
    for other in ("", "# my lab notes\n\n" + markdown(table), "| method | accuracy % |\n"):
        assert not md.begins_table(other)
    for other in ("", "method,notes\n", "method,trials,accuracy,mine\n", "# mine\n" + as_csv(table)):
        assert not plain.begins_table(other)


def test_a_model_of_files_may_have_moved(tmp_path):
    moved = [
        factory.write_run(tmp_path, method, 0, model=f"/{place}/net.py:build", model_fingerprint="f" * 64)
        for method, place in (("ce", "here"), ("le", "there"))
    ]
    assert [row.method for row in comparison(moved, ["ce", "le"], {}).rows] == ["ce", "le"]
    other = factory.write_run(tmp_path, "ls", 0, model="/here/net.py:build", model_fingerprint="e" * 64)
    with pytest.raises(InputError, match="the model's files have changed"):
        comparison([*moved, other], ["ce", "le", "ls"], {})
