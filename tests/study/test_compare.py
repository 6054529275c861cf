import csv
import json
import re

import pytest

from selftaught.errors import InputError
from selftaught.events import Finished
from selftaught.files import record
from selftaught.files import study_folder as folder
from selftaught.report import sentences
from selftaught.report import study as reports
from selftaught.study import compare as studies
from selftaught.study.executor import in_this_process
from selftaught.study.executors import executor_for
from selftaught.study.finishing import finish
from selftaught.study.flags import plan
from selftaught.study.trials import Trial
from selftaught.training import cost
from selftaught.training.loop import Stopped
from tests.training import quick


@pytest.fixture(autouse=True)
def _few_timed_steps(monkeypatch):
    measure = cost.measure
    monkeypatch.setattr(cost, "measure", lambda configs, **_: measure(configs, steps=5))


@pytest.fixture(scope="module")
def configs():
    return plan("digits", ["ce", "le"], trials=2, **quick.OPTIONS)


def make_study(configs, out, **options):
    study = studies.study_of(configs, out, **options)
    studies.check_directory(study)
    return study


def carry_out(study, **options):
    """What came of it, None if it was stopped."""
    return None if study.run(in_this_process, **options) else finish(study)


def test_a_comparison_writes_its_table_beside_the_trials(tmp_path, configs):
    study = make_study(configs, tmp_path)
    comparison = carry_out(study)
    assert comparison.failures == []
    assert {path.name for path in tmp_path.iterdir()} == {
        "trials",
        "study.json",
        "graph.json",
        "report.html",
        "costs.json",
        "table.md",
        "table.csv",
        "comparison.json",
        "files.json",
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
    carry_out(make_study(configs[:2], tmp_path))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").rglob("*") if path.is_file()}
    costs = json.loads((tmp_path / "costs.json").read_text())
    measured = []
    original = cost.measure
    monkeypatch.setattr(cost, "measure", lambda configs, **_: measured.extend(configs) or original(configs))
    started = []
    both = make_study(configs, tmp_path)
    comparison = carry_out(
        both, on_event=lambda event: started.append(event) if isinstance(event, Finished) else None
    )
    assert len(started) == 2  # the two of le
    assert [config.method for config in measured] == ["le"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert costs.items() <= json.loads((tmp_path / "costs.json").read_text()).items()
    assert [row.method for row in comparison.table.rows] == ["ce", "le"]


def test_an_interrupted_comparison_resumes_to_the_same_bytes(tmp_path, configs):
    whole = make_study(configs, tmp_path / "whole")
    carry_out(whole)
    parts = make_study(configs, tmp_path / "parts")
    assert carry_out(parts, should_stop=quick.stop_after(20)) is None
    assert 0 < len(parts.pending()) < len(configs)
    assert carry_out(parts) is not None
    for trial in whole.trials():
        resumed = tmp_path / "parts" / "trials" / trial.config.trial_id
        assert quick.fingerprint(resumed) == quick.fingerprint(trial.directory)


def test_the_table_is_made_of_what_finished(tmp_path, configs):
    study = make_study(configs, tmp_path)
    study.trials()[0].directory.mkdir(parents=True)
    (study.trials()[0].directory / "thesis.tex").write_text("mine")
    comparison = carry_out(study)
    [(failed, error)] = comparison.failures
    assert failed == study.trials()[0]
    assert "thesis.tex" in error
    assert [(row.method, row.trials) for row in comparison.table.rows] == [("ce", 1), ("le", 2)]
    assert json.loads((tmp_path / "comparison.json").read_text())["failures"][0]["method"] == "ce"


def test_failed_trials_are_named_wherever_the_table_is_shown(tmp_path, configs):
    study = make_study(configs, tmp_path)
    failing = study.trials()[1]
    failing.directory.mkdir(parents=True)
    (failing.directory / "thesis.tex").write_text("mine")
    carry_out(study)
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert [(f["method"], f["seed"]) for f in written["failures"]] == [("le", 0)]
    page = (tmp_path / "report.html").read_text()
    verdict = page.partition('id="verdict"')[2].partition("</section>")[0]
    for text in (verdict, (tmp_path / "table.md").read_text(), " ".join(written["caption"])):
        assert "1 of 4 trials" in text
        assert "le seed 0 (" in text
        assert "thesis.tex" in text
        assert "survivorship bias" in text
    again = tmp_path / "again.html"
    reports.write([tmp_path], again)
    assert again.read_text() == page
    (failing.directory / "thesis.tex").unlink()
    carry_out(make_study(configs, tmp_path))
    assert "survivorship" not in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "study.json").read_text())["missing"] == []


def test_a_failure_may_name_a_place_that_is_no_text(tmp_path, configs):
    """Errors go into the table's caption, and folders may be called anything."""
    study = make_study(configs[:2], tmp_path / "odd-\udcff")
    study.trials()[0].directory.mkdir(parents=True)
    (study.trials()[0].directory / "thesis.tex").write_text("mine")
    comparison = carry_out(study)
    assert len(comparison.failures) == 1
    assert "trials of odd-? failed" in " ".join(sentences.caption(comparison.table))
    assert (study.directory / "report.html").is_file()


def test_an_interrupted_comparison_names_what_is_missing_with_trials_that_never_began(tmp_path, configs):
    carry_out(make_study(configs, tmp_path), should_stop=quick.stop_after(20))
    [note] = reports.read([tmp_path]).notes
    assert "3 of 4 trials" in note
    assert "are not finished: ce seed 1; le seeds 0, 1." in note


def test_a_model_that_cannot_be_explained_has_its_table_and_report(tmp_path):
    (tmp_path / "flat.py").write_text(
        "from torch import nn\n\n\n"
        "def build(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    out = tmp_path / "out"
    options = quick.OPTIONS | {"model": f"{tmp_path / 'flat.py'}:build"}
    comparison = studies.compare("digits", ["ce", "ls"], 1, out=out, **options)
    assert comparison.failures == []
    assert [row.method for row in comparison.table.rows] == ["ce", "ls"]
    assert "kept no explained test images" in (out / "report.html").read_text()
    reports.write([out], tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == (out / "report.html").read_text()
    assert (tmp_path / "report.md").read_text() == (out / "table.md").read_text()


@pytest.mark.parametrize("content", ["[1]", '"costs"', "[" * 100_000, '{"a": "b"}', "\xff"])
def test_damaged_costs_are_measured_again(tmp_path, configs, content):
    (tmp_path / "graph.json").write_text("{}")  # a study of ours
    (tmp_path / "costs.json").write_text(content)
    comparison = carry_out(make_study(configs[1:3], tmp_path))
    ce, le = comparison.table.rows
    assert ce.cost == 1.0
    assert le.cost > 0


def test_a_method_is_timed_by_a_trial_that_finished_and_a_table_comes_without_times_too(
    tmp_path, configs, monkeypatch
):
    study = make_study(configs, tmp_path)
    study.trials()[1].directory.mkdir(parents=True)
    (study.trials()[1].directory / "thesis.tex").write_text("mine")
    assert all(row.cost for row in carry_out(study).table.rows)
    assert set(json.loads((tmp_path / "costs.json").read_text())) == {
        study.trials()[0].config.trial_id,
        study.trials()[3].config.trial_id,
    }
    (tmp_path / "costs.json").unlink()

    def no_memory(configs, **_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(cost, "measure", no_memory)
    table = finish(study).table
    assert [row.cost for row in table.rows] == [None, None]
    for method in ("ce", "le"):
        assert f"The steps of {method} are not timed (RuntimeError: out of memory)." in sentences.caption(
            table
        )


def test_a_method_that_cannot_be_timed_takes_no_other_with_it(tmp_path, configs, monkeypatch):
    study, original = make_study(configs, tmp_path), cost.measure

    def not_le(configs, **options):
        if any(config.method == "le" for config in configs):
            raise RuntimeError("out of memory")
        return original(configs, **options)

    monkeypatch.setattr(cost, "measure", not_le)
    table = carry_out(study).table
    assert {row.method: row.cost for row in table.rows} == {"ce": 1.0, "le": None}
    assert [line for line in sentences.caption(table) if "not timed" in line] == [
        "The steps of le are not timed (RuntimeError: out of memory)."
    ]


def test_what_comes_after_the_training_can_be_interrupted(tmp_path, configs, monkeypatch):
    study, table = make_study(configs, tmp_path), tmp_path / folder.TABLE
    assert not study.run(in_this_process)
    monkeypatch.setattr(cost, "measure", None)
    for should_stop, written in ((lambda: True, False), (table.exists, True)):
        with pytest.raises(Stopped):
            finish(study, should_stop=should_stop)
        assert table.exists() == written


def test_who_is_killed_while_steps_are_timed_has_the_table(tmp_path, configs, monkeypatch):
    class Killed(BaseException):
        """For want of memory: no handler hears of it."""

    def measure(configs, **options):
        raise Killed

    monkeypatch.setattr(cost, "measure", measure)
    with pytest.raises(Killed):
        carry_out(make_study(configs, tmp_path))
    rows = [line for line in (tmp_path / folder.TABLE).read_text().splitlines() if line.startswith("| le |")]
    assert len(rows) == 1
    assert (tmp_path / folder.REPORT).is_file()


def test_all_trials_failing_leaves_no_table(tmp_path):
    comparison = studies.compare(
        "digits", ["ce", "le"], 1, out=tmp_path, **quick.OPTIONS | {"lr": 1e20}, warmup=0
    )
    assert comparison.table is None
    assert [trial.config.method for trial, _ in comparison.failures] == ["ce", "le"]


def test_another_directory_is_left_alone(tmp_path, configs):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"not a comparison \(thesis.tex\)"):
        make_study(configs, tmp_path)


def test_another_protocol_is_refused_with_the_difference(tmp_path, configs):
    carry_out(make_study(configs[:1], tmp_path))
    longer = [config.model_copy(update={"epochs": 4}) for config in configs]
    with pytest.raises(
        InputError, match=r"holds another comparison \(epochs: 3 -> 4\): choose another --out"
    ):
        make_study(longer, tmp_path)
    assert make_study(configs, tmp_path).pending() == make_study(configs, tmp_path).pending()


def test_a_study_is_looked_at_without_being_touched(tmp_path, configs):
    make_study(configs, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_study_says_what_it_consists_of(tmp_path, configs):
    carry_out(make_study(configs, tmp_path, command=["selftaught", "compare", "digits"]))
    written = json.loads((tmp_path / "study.json").read_text())
    assert written["command"] == ["selftaught", "compare", "digits"]
    assert written["methods"] == ["ce", "le"]
    assert written["trials"] == [config.trial_id for config in configs]
    page = (tmp_path / "report.html").read_text()
    assert "selftaught compare digits" in page


def test_every_command_is_kept_once_with_its_start(tmp_path, configs):
    first = ["selftaught", "compare", "digits", "--trials", "1"]
    second = ["selftaught", "compare", "digits", "--trials", "2", "--out", "odd-\udcff"]
    for some, command in ((1, first), (1, first), (1, ()), (2, second), (2, second)):
        carry_out(make_study(configs[:some], tmp_path, command=command))
    written = json.loads((tmp_path / "study.json").read_text())
    assert [start["command"] for start in written["commands"]] == [first, second]
    assert all(re.match(r"\d{4}-\d\d-\d\dT", start["started"]) for start in written["commands"])
    page = (tmp_path / "report.html").read_text()
    assert "--trials 1</code>" in page
    assert "--trials 2 --out" in page

    del written["commands"], written["digest"]  # as older versions wrote it
    (tmp_path / "study.json").write_text(json.dumps(written | {"command": first}))
    carry_out(make_study(configs[:2], tmp_path, command=second))
    assert [c["command"] for c in json.loads((tmp_path / "study.json").read_text())["commands"]] == [
        first,
        second,
    ]
    (tmp_path / "study.json").write_text("[1]")
    carry_out(studies.study_of(configs[:2], tmp_path, command=second))
    assert [c["command"] for c in json.loads((tmp_path / "study.json").read_text())["commands"]] == [second]


def test_jobs_fill_the_cores(configs, tmp_path, monkeypatch):
    trials = make_study(configs, tmp_path).pending()
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    at_once, executor = executor_for(trials)
    assert at_once == 3
    assert executor is not in_this_process
    assert executor_for(trials[:1]) == (1, in_this_process)
    assert executor_for(trials, 2)[0] == 2
    four_threads = [Trial(t.config.model_copy(update={"threads": 4}), t.directory) for t in trials]
    assert executor_for(four_threads)[0] == 1
    gpu = [Trial(t.config.model_copy(update={"device": "cuda"}), t.directory) for t in trials]
    assert executor_for(gpu)[0] == 1
    with pytest.raises(InputError, match="jobs is 0"):
        executor_for(trials, 0)
