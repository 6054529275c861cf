"""The linear probe is a row of every table, of what was asked for it is no part."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from selftaught.files import record
from selftaught.report import facts, plain, sentences, study
from selftaught.report.learning import learning
from selftaught.report.markdown import begins_table, markdown
from selftaught.report.table import comparison
from selftaught.study.compare import study_of
from selftaught.study.costs import untimed
from tests.report import factory
from tests.report.test_page import Page

METHODS = ["ce", "le", "probe"]


def write(parent, methods=METHODS, seeds=3, **changes):
    return [factory.write_run(parent, method, seed, **changes) for method in methods for seed in range(seeds)]


@pytest.fixture
def runs(tmp_path):
    return write(tmp_path)


def with_right(run: record.Record, count: int) -> record.Record:
    """The run with as many right answers, always on the same images: what one network says for all seeds."""
    kept = load_file(run.directory / record.PREDICTIONS)
    labels, classes = kept["labels"], kept["logits"].shape[1]
    predicted = np.where(np.arange(len(labels)) < count, labels, (labels + 1) % classes)
    kept["logits"] = 3 * np.eye(classes, dtype=np.float32)[predicted]
    save_file(kept, run.directory / record.PREDICTIONS)
    result = run.result.model_copy(update={"accuracy": count / len(labels)})
    return record.Record(run.directory, run.config, result)


def test_its_difference_is_shown_and_makes_no_answer_harder(runs):
    with_it, without = comparison(runs, METHODS, {}), comparison(runs[:6], ["ce", "le"], {})
    assert [row.method for row in with_it.rows] == METHODS
    assert factory.against(with_it.rows[1]) == factory.against(without.rows[1])
    assert [q for q in with_it.questions if not q.apart] == list(without.questions)
    own = factory.against(with_it.rows[2])
    assert own.pairs == 3
    assert not [1 for row in with_it.rows[:2] if "probe" in row.compared]
    assert sentences.headline(with_it) == sentences.headline(without)
    assert "probe" in [method for method, _, _ in sentences.findings(with_it)]


def test_with_several_questions_it_is_said_to_be_one_of_its_own(tmp_path):
    table = comparison(write(tmp_path, ["ce", "ls", "le", "probe"], 2), ["ce", "ls", "le", "probe"], {})
    assert (
        "over 3 comparisons (all methods with ce, le with all); probe is a question of its own"
        in " ".join(sentences.caption(table))
    )


def test_it_is_the_baseline_only_where_it_is_alone(runs):
    assert comparison(runs[3:], ["probe", "le"], {}).baseline == "le"
    alone = comparison(runs[6:], ["probe"], {})
    assert (alone.baseline, alone.has_probe) == ("probe", False)
    assert sentences.headline(alone).startswith("probe is right on")


def test_beside_plain_training_alone_there_is_nothing_to_answer(runs):
    table = comparison([*runs[:3], *runs[6:]], ["ce", "probe"], {})
    assert sentences.headline(table).startswith("ce is right on")
    assert "p: of the test against no difference" in " ".join(sentences.caption(table))


@pytest.mark.parametrize("equal", [True, False])
def test_seeds_without_any_noise_are_judged_too(runs, equal):
    """One network on the same images is the same for all seeds; and so may be what it is compared with."""
    ce = [with_right(run, 300) for run in runs[:3]] if equal else runs[:3]
    table = comparison([*ce, *(with_right(run, 420) for run in runs[6:])], ["ce", "probe"], {})
    row = table.rows[1]
    assert row.std == 0
    assert factory.against(row).verdict == "better" if equal else factory.against(row).p is not None
    assert (
        factory.against(row).interval.low
        < factory.against(row).interval.estimate
        < factory.against(row).interval.high
    )


def test_it_has_a_time_and_no_steps(tmp_path):
    runs = [*write(tmp_path, ["ce"], 1), factory.write_run(tmp_path, "probe", 0, told={"seconds": 0.61})]
    table = comparison(runs, ["ce", "probe"], {"ce": 1.0})
    assert [factory.texts(row, table)[-2:] for row in table.rows] == [
        ["1.00", "2 min"],
        ["–", "0.6 s"],
    ]
    assert factory.headers(table)[-1] == "time"
    assert begins_table(markdown(table))
    without = comparison(runs[:1], ["ce"], {"ce": 1.0})
    assert factory.headers(without)[-1] == "step × ce"
    assert plain.values(without)["rows"][0]["seconds"] == pytest.approx(123.4)
    directories = {run.config.trial_id: run.directory for run in runs}
    configs = [run.config for run in runs]
    study = study_of(configs, tmp_path, place=lambda config: directories[config.trial_id])
    assert [config.method for config in untimed(study, study.cells()["comparison"])] == ["ce"]


def test_how_networks_were_trained_is_nothing_to_it(tmp_path):
    runs = [factory.write_run(tmp_path, "ce"), factory.write_run(tmp_path, "probe", epochs=1, lr=1.0)]
    for order in (runs, runs[::-1]):
        assert "12 epochs" in " ".join(sentences.caption(comparison(order, ["ce", "probe"], {})))


def test_reports_on_single_runs_have_it_last(tmp_path, runs):
    assert study.read([run.directory for run in reversed(runs)]).methods == METHODS
    other = factory.write_run(tmp_path, "zipf")
    assert study.read([other.directory, runs[-1].directory]).methods == ["zipf", "probe"]


def _beside(runs, ce, le, of_probe):
    """What is said of these shares of 500 images, the same ones for all seeds."""
    counts = [ce] * 3 + [le] * 3 + [of_probe] * 3
    made = [with_right(run, count) for run, count in zip(runs, counts, strict=True)]
    return " ".join(sentences.remarks(comparison(made, METHODS, {})))


def test_that_fine_tuning_was_in_vain_is_said_with_what_to_do(runs):
    said = _beside(runs, 235, 234, 351)
    assert "Fine-tuning does not beat the linear probe here: ce is right on 47.00 % of" in said
    assert "features on 70.20 %. What" in said
    assert "--epochs" in said
    assert "above it le on 71.00 %" in _beside(runs, 235, 355, 351)
    assert "Fine-tuning does not beat" in _beside(runs, 350, 0, 350)


@pytest.mark.parametrize(("better", "said"), [(1, True), (100, False)])
def test_what_is_better_only_on_average_is_not_clearly_better(runs, better, said):
    found = _beside(runs, 350 + better, 0, 350)
    assert ("Fine-tuning is not clearly better" in found) == said


def test_the_strengths_that_were_chosen_are_told(tmp_path):
    runs = [
        factory.write_run(tmp_path, "probe", seed, told={"strength": c})
        for seed, c in enumerate((0.1, 0.1, 1))
    ]
    assert facts.strength(runs) == "0.1 in 2 trials, 1 in 1 trial"
    told = sentences.caption(comparison(runs, ["probe"]))
    assert any("its C was chosen on held-out training images (0.1 in 2 trials" in line for line in told)
    without = sentences.caption(comparison([factory.write_run(tmp_path, "probe", 3)], ["probe"]))
    assert not any("C was chosen" in line for line in without)


def test_a_page_says_it_on_top_and_shows_the_curve(tmp_path):
    runs = write(tmp_path, ["ce", "le"], 2)
    for seed in range(2):
        run = factory.write_run(tmp_path, "probe", seed)
        accuracy = run.result.accuracy
        points = [
            {"images": images, "accuracy": accuracy - less, "balanced_accuracy": None, "seconds": 0.25}
            for images, less in ((500, 0.12), (1000, 0.04), (2000, 0.0))
        ]
        path = run.directory / record.RESULT
        path.write_text(json.dumps(json.loads(path.read_text()) | {"learning": points}))
        runs.append(record.read(run.directory))
    table, html = comparison(runs, METHODS, {}), factory.html(runs, METHODS)
    shown = Page(html)
    assert "Would more photographs help?" in shown.words
    assert sentences.more_images(learning(runs)) in shown.words
    assert sentences.more_images(learning(runs)) in markdown(table)
    labels = [attrs["aria-label"] for attrs in shown.all("svg") if attrs.get("role") == "img"]
    assert any(
        label.startswith("Test accuracy in % of the linear probe by training images: 500 ")
        for label in labels
    )
    assert all(remark in shown.words for remark in sentences.remarks(table))
    assert "Would more photographs help?" not in factory.html(runs[:4], ["ce", "le"])
