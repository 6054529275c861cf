"""The linear probe is a row of every table, of what was asked for it is no part."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from selftaught.files import record
from selftaught.report import page, probe, render, study, words
from selftaught.report.differences import Difference
from selftaught.report.tables import tabulate
from selftaught.statistics.paired import Interval
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
    with_it, without = tabulate(runs, METHODS, {}), tabulate(runs[:6], ["ce", "le"], {})
    assert [row.method for row in with_it.rows] == METHODS
    assert with_it.rows[1].difference == without.rows[1].difference
    assert with_it.planned == without.planned
    own = with_it.rows[2].difference
    assert (own.method, own.base, own.pairs) == ("probe", "ce", 3)
    assert all("probe" not in (one.method, one.base) for one in with_it.further)
    assert words.headline(with_it) == words.headline(without)
    assert "probe" in [method for method, _, _ in words.findings(with_it)]


def test_with_several_questions_it_is_said_to_be_one_of_its_own(tmp_path):
    table = tabulate(write(tmp_path, ["ce", "ls", "le", "probe"], 2), ["ce", "ls", "le", "probe"], {})
    assert (
        "over 3 comparisons (all methods with ce, le with all); probe is a question of its own"
        in " ".join(table.caption)
    )


def test_it_is_the_baseline_only_where_it_is_alone(runs):
    assert tabulate(runs[3:], ["probe", "le"], {}).baseline == "le"
    alone = tabulate(runs[6:], ["probe"], {})
    assert (alone.baseline, alone.has_probe) == ("probe", False)
    assert words.headline(alone).startswith("probe is right on")


def test_beside_plain_training_alone_there_is_nothing_to_answer(runs):
    table = tabulate([*runs[:3], *runs[6:]], ["ce", "probe"], {})
    assert words.headline(table).startswith("ce is right on")
    assert "p: of the test against no difference" in " ".join(table.caption)


@pytest.mark.parametrize("equal", [True, False])
def test_seeds_without_any_noise_are_judged_too(runs, equal):
    """One network on the same images is the same for all seeds; and so may be what it is compared with."""
    ce = [with_right(run, 300) for run in runs[:3]] if equal else runs[:3]
    table = tabulate([*ce, *(with_right(run, 420) for run in runs[6:])], ["ce", "probe"], {})
    row = table.rows[1]
    assert row.accuracy_std == 0
    assert row.difference.verdict == "better" if equal else row.difference.p is not None
    assert row.difference.interval.low < row.difference.interval.estimate < row.difference.interval.high


def test_it_has_a_time_and_no_steps(tmp_path):
    runs = [*write(tmp_path, ["ce"], 1), factory.write_run(tmp_path, "probe", 0, told={"seconds": 0.61})]
    table = tabulate(runs, ["ce", "probe"], {"ce": 1.0})
    assert [render.cells(row, table)[-2:] for row in table.rows] == [["1.00", "2 min"], ["–", "0.6 s"]]
    assert render.headers(table)[-1] == "time"
    assert render.begins_table(render.markdown(table), ".md")
    without = tabulate(runs[:1], ["ce"], {"ce": 1.0})
    assert render.headers(without)[-1] == "step × ce"
    assert without.rows[0].seconds == pytest.approx(123.4)
    directories = {run.config.trial_id: run.directory for run in runs}
    configs = [run.config for run in runs]
    study = study_of(configs, tmp_path, place=lambda config: directories[config.trial_id])
    assert [config.method for config in untimed(study, study.cells()["comparison"])] == ["ce"]


def test_how_networks_were_trained_is_nothing_to_it(tmp_path):
    runs = [factory.write_run(tmp_path, "ce"), factory.write_run(tmp_path, "probe", epochs=1, lr=1.0)]
    for order in (runs, runs[::-1]):
        assert "resnet14, 12 epochs" in " ".join(tabulate(order, ["ce", "probe"], {}).caption)


def test_reports_on_single_runs_have_it_last(tmp_path, runs):
    assert study.read([run.directory for run in reversed(runs)]).methods == METHODS
    other = factory.write_run(tmp_path, "zipf")
    assert study.read([other.directory, runs[-1].directory]).methods == ["zipf", "probe"]


def _difference(p: float | None) -> Difference:
    return Difference("probe", "ce", 3, Interval(-0.02, -0.05, 0.01), p)


def test_that_fine_tuning_was_in_vain_is_said_with_what_to_do():
    said = probe.remark("ce", 0.47, 0.702, None, {})
    assert said.startswith("Fine-tuning does not beat the linear probe here: ce is right on 47.00 % of")
    assert "features on 70.20 %. What" in said
    assert "--epochs" in said
    assert "above it le on 71.00 %" in probe.remark("ce", 0.47, 0.702, None, {"le": 0.71})
    assert probe.remark("ce", 0.7, 0.7, _difference(0.001), {}).startswith("Fine-tuning does not beat")


@pytest.mark.parametrize(("p", "said"), [(0.3, True), (0.01, False), (None, False)])
def test_what_is_better_only_on_average_is_not_clearly_better(p, said):
    found = probe.remark("ce", 0.72, 0.70, _difference(p), {})
    assert (found or "").startswith("Fine-tuning is not clearly better") == said


def test_the_strengths_that_were_chosen_are_told(tmp_path):
    runs = [
        factory.write_run(tmp_path, "probe", seed, told={"strength": c})
        for seed, c in enumerate((0.1, 0.1, 1))
    ]
    assert "(0.1 in 2 trials, 1 in 1 trial)" in probe.caption(runs)
    assert "C was chosen" not in probe.caption([factory.write_run(tmp_path, "probe", 3)])
    assert probe.caption([]) is None


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
    table, html = tabulate(runs, METHODS, {}), page.html(runs, METHODS)
    shown = Page(html)
    assert "Would more photographs help?" in shown.words
    assert table.learning.sentence in shown.words
    assert table.learning.sentence in render.markdown(table)
    labels = [attrs["aria-label"] for attrs in shown.all("svg") if attrs.get("role") == "img"]
    assert any(
        label.startswith("Test accuracy in % of the linear probe by training images: 500 ")
        for label in labels
    )
    assert all(remark in shown.words for remark in table.remarks)
    assert "Would more photographs help?" not in page.html(runs[:4], ["ce", "le"])
