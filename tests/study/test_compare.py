import csv
import json

import pytest

from selftaught.errors import InputError
from selftaught.study import compare as studies
from selftaught.study.plan import plan
from selftaught.training import cost, record
from tests.training import quick


@pytest.fixture(autouse=True)
def _few_timed_steps(monkeypatch):
    measure = cost.measure
    monkeypatch.setattr(cost, "measure", lambda configs: measure(configs, steps=5))


@pytest.fixture(scope="module")
def configs():
    return plan("digits", ["ce", "le"], trials=2, **quick.OPTIONS)


def test_a_comparison_writes_its_table_beside_the_trials(tmp_path, configs):
    study = studies.make_study(configs, tmp_path)
    comparison = studies.run(study)
    assert comparison.failures == []
    assert {path.name for path in tmp_path.iterdir()} == {
        "trials",
        "study.json",
        "report.html",
        "costs.json",
        "table.md",
        "table.csv",
        "comparison.json",
    }
    assert {path.name for path in (tmp_path / "trials").iterdir()} == {c.trial_id for c in configs}
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [row["method"] for row in rows] == ["ce", "le"]
    written = json.loads((tmp_path / "comparison.json").read_text())
    for trial in written["trials"]:
        run = record.read(tmp_path / trial["directory"])
        assert (run.config.method, run.config.seed) == (trial["method"], trial["seed"])
        assert run.result.accuracy == trial["accuracy"]
    mean = sum(t["accuracy"] for t in written["trials"] if t["method"] == "le") / 2
    assert float(rows[1]["accuracy"]) == pytest.approx(mean)


def test_finished_trials_and_costs_are_reused(tmp_path, configs, monkeypatch):
    studies.run(studies.make_study(configs[:2], tmp_path))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").rglob("*") if path.is_file()}
    costs = json.loads((tmp_path / "costs.json").read_text())
    measured = []
    original = cost.measure
    monkeypatch.setattr(cost, "measure", lambda configs: measured.extend(configs) or original(configs))
    started = []
    both = studies.make_study(configs, tmp_path)
    comparison = studies.run(both, on_event=lambda event: started.append(event) if event.outcome else None)
    assert len(started) == 2  # the two of le
    assert [config.method for config in measured] == ["le"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert costs.items() <= json.loads((tmp_path / "costs.json").read_text()).items()
    assert [row.method for row in comparison.table.rows] == ["ce", "le"]


def test_an_interrupted_comparison_resumes_to_the_same_bytes(tmp_path, configs):
    whole = studies.make_study(configs, tmp_path / "whole")
    studies.run(whole)
    parts = studies.make_study(configs, tmp_path / "parts")
    comparison = studies.run(parts, should_stop=quick.stop_after(20))
    assert comparison.stopped
    assert comparison.table is None
    assert 0 < len(parts.pending()) < len(configs)
    assert not studies.run(parts).stopped
    for trial in whole.trials:
        resumed = tmp_path / "parts" / "trials" / trial.config.trial_id
        assert quick.fingerprint(resumed) == quick.fingerprint(trial.directory)


def test_the_table_is_made_of_what_finished(tmp_path, configs):
    study = studies.make_study(configs, tmp_path)
    study.trials[0].directory.mkdir(parents=True)
    (study.trials[0].directory / "thesis.tex").write_text("mine")
    comparison = studies.run(study)
    [(failed, error)] = comparison.failures
    assert failed == study.trials[0]
    assert "thesis.tex" in error
    assert [(row.method, row.trials) for row in comparison.table.rows] == [("ce", 1), ("le", 2)]
    assert json.loads((tmp_path / "comparison.json").read_text())["failures"][0]["method"] == "ce"


def test_all_trials_failing_leaves_no_table(tmp_path):
    comparison = studies.compare(
        "digits", ["ce", "le"], 1, out=tmp_path, **quick.OPTIONS | {"lr": 1e20}, warmup=0
    )
    assert comparison.table is None
    assert [trial.config.method for trial, _ in comparison.failures] == ["ce", "le"]


def test_another_directory_is_left_alone(tmp_path, configs):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"not a comparison \(thesis.tex\)"):
        studies.make_study(configs, tmp_path)


def test_another_protocol_is_refused_with_the_difference(tmp_path, configs):
    studies.run(studies.make_study(configs[:1], tmp_path))
    longer = [config.model_copy(update={"epochs": 4}) for config in configs]
    with pytest.raises(
        InputError, match=r"holds another comparison \(epochs: 3 -> 4\): choose another --out"
    ):
        studies.make_study(longer, tmp_path)
    assert studies.make_study(configs, tmp_path).pending() == studies.make_study(configs, tmp_path).pending()


def test_a_study_is_looked_at_without_being_touched(tmp_path, configs):
    studies.make_study(configs, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_study_says_what_it_consists_of(tmp_path, configs):
    study = studies.make_study(configs, tmp_path)
    studies.run(study, command=["selftaught", "compare", "digits"])
    written = json.loads((tmp_path / "study.json").read_text())
    assert written["command"] == ["selftaught", "compare", "digits"]
    assert written["methods"] == ["ce", "le"]
    assert written["trials"] == [config.trial_id for config in configs]
    page = (tmp_path / "report.html").read_text()
    assert "selftaught compare digits" in page


def test_jobs_fill_the_cores(configs, tmp_path, monkeypatch):
    trials = studies.make_study(configs, tmp_path).pending()
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    assert studies.executor_for(trials)[0] == 3
    assert studies.executor_for(trials[:1]) == (1, studies.in_this_process)
    assert studies.executor_for(trials, 2)[0] == 2
    four_threads = [studies.Trial(t.config.model_copy(update={"threads": 4}), t.directory) for t in trials]
    assert studies.executor_for(four_threads)[0] == 1
    gpu = [studies.Trial(t.config.model_copy(update={"device": "cuda"}), t.directory) for t in trials]
    assert studies.executor_for(gpu)[0] == 1
    with pytest.raises(InputError, match="jobs is 0"):
        studies.executor_for(trials, 0)
