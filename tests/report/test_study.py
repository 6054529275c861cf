import json
import os

import pytest

from selftaught.errors import InputError
from selftaught.report import study
from selftaught.training import record
from tests.report import factory


@pytest.fixture
def comparison(tmp_path):
    """A comparison's directory: two methods, two seeds, costs, and what it says of itself."""
    directory = tmp_path / "compare"
    runs = [
        factory.write_run(directory / "trials", method, seed) for method in ("le", "ce") for seed in (0, 1)
    ]
    (directory / "costs.json").write_text(
        json.dumps({runs[0].result.trial_id: 1.07, runs[2].result.trial_id: 1.0})
    )
    (directory / "study.json").write_text(
        json.dumps(
            {
                "command": ["selftaught", "compare", "shapes"],
                "methods": ["le", "ce"],
                "trials": [run.result.trial_id for run in runs],
                "started": "2026-01-01T00:00:00+00:00",
            }
        )
    )
    return directory


def test_a_comparison_is_read_as_it_was_asked_for(comparison):
    found = study.read([comparison])
    assert [(run.config.method, run.config.seed) for run in found.records] == [
        ("le", 0),
        ("le", 1),
        ("ce", 0),
        ("ce", 1),
    ]
    assert found.methods == ["le", "ce"]
    assert found.costs == {"le": 1.07, "ce": 1.0}
    assert found.commands == [("selftaught", "compare", "shapes")]
    assert found.notes == []


def test_the_page_and_its_table_are_written(comparison, tmp_path):
    out = tmp_path / "new" / "report.html"
    assert study.write([comparison], out) == [out, out.with_suffix(".md"), out.with_suffix(".csv")]
    assert "selftaught compare shapes" in out.read_text()
    assert "1.07" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".csv").read_text().count("\n") == 3
    before = out.read_bytes()
    study.write([comparison], out)  # a report may be made again
    assert out.read_bytes() == before
    assert sorted(path.name for path in out.parent.iterdir()) == ["report.csv", "report.html", "report.md"]


def test_an_unfinished_comparison_reports_on_what_is_finished(comparison, tmp_path):
    trials = sorted((comparison / "trials").iterdir())
    (trials[0] / record.RESULT).unlink()
    found = study.read([comparison])
    assert len(found.records) == 3
    assert "1 of 4 trials of compare are not finished" in found.notes[0]
    study.write([comparison], tmp_path / "report.html")
    assert "1 of 4 trials of compare are not finished" in (tmp_path / "report.html").read_text()
    for trial in trials[1:]:
        (trial / record.RESULT).unlink()
    with pytest.raises(InputError, match=r"no trial in .*compare is finished: .* resumes it"):
        study.read([comparison])


def test_without_study_json_all_finished_trials_count_and_ce_comes_first(comparison):
    (comparison / "study.json").unlink()
    (comparison / "trials" / ".hidden").mkdir()
    (comparison / "trials" / "notes.txt").write_text("mine")
    found = study.read([comparison])
    assert found.methods == ["ce", "le"]
    assert len(found.records) == 4
    assert (found.commands, found.notes) == ([], [])


def test_a_comparison_that_grew_reports_on_its_last_command(comparison):
    factory.write_run(comparison / "trials", "ls", 0)  # left by another command
    assert study.read([comparison]).methods == ["le", "ce"]


def test_runs_and_comparisons_together(comparison, tmp_path):
    extra = factory.write_run(tmp_path, "ls", 0)
    found = study.read([comparison, extra.directory, extra.directory])
    assert found.methods == ["le", "ce", "ls"]
    assert len(found.records) == 5  # a run that is named twice counts once
    alone = study.read([extra.directory])
    assert (len(alone.records), alone.methods, alone.costs) == (1, ["ls"], {})


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        "{",
        '{"a": "b"}',
        '{"a": NaN}',
        '{"a": -1}',
        '{"a": null}',
        "[" * 100_000,
        '{"a": 1' + "0" * 400 + "}",
    ],
)
def test_damaged_costs_are_left_out_and_it_is_said(comparison, content):
    (comparison / "costs.json").write_text(content)
    found = study.read([comparison])
    assert found.costs == {}
    assert "costs.json of compare is damaged" in found.notes[0]


def test_what_is_no_run_is_refused(tmp_path, comparison):
    with pytest.raises(InputError, match="nothing to report on"):
        study.read([])
    with pytest.raises(InputError, match=r"nowhere is not a directory"):
        study.read([tmp_path / "nowhere"])
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"folder has neither trials/ nor config\.json"):
        study.read([tmp_path / "folder"])
    started = factory.write_run(tmp_path / "x").directory
    (started / record.RESULT).unlink()
    with pytest.raises(InputError, match="is not finished"):
        study.read([comparison, started])


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"methods": ["ce"], "trials": ["../../elsewhere"]}',
        b'{"methods": "ce", "trials": ["0123456789ab"]}',
        b'{"methods": ["ce"], "trials": [7]}',
    ],
)
def test_a_damaged_study_json_is_refused(comparison, damage):
    (comparison / "study.json").write_bytes(damage)
    with pytest.raises(InputError, match=r"study\.json is damaged: remove it") as caught:
        study.read([comparison])
    assert "\n" not in str(caught.value)


def test_nothing_of_the_user_is_overwritten(comparison, tmp_path):
    with pytest.raises(InputError, match="is a directory: name a file in it"):
        study.write([comparison], tmp_path)
    with pytest.raises(InputError, match=r"report\.pdf is no name for an HTML file: call it report\.html"):
        study.write([comparison], tmp_path / "report.pdf")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file is a file: choose another place"):
        study.write([comparison], tmp_path / "file" / "report.html")
    for suffix in (".html", ".md", ".csv"):
        mine = (tmp_path / "notes").with_suffix(suffix)
        mine.write_text("my own words")
        with pytest.raises(InputError, match="exists and is not part of a report"):
            study.write([comparison], tmp_path / "notes.html")
        assert mine.read_text() == "my own words"
        mine.unlink()
    assert not list(tmp_path.glob("notes*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_refused(comparison, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot write to"):
        study.write([comparison], tmp_path / "closed" / "report.html")


def test_a_refusal_leaves_no_file(comparison, tmp_path):
    (next((comparison / "trials").iterdir()) / record.PREDICTIONS).write_bytes(b"junk")
    with pytest.raises(InputError, match="damaged"):
        study.write([comparison], tmp_path / "report.html")
    assert not list(tmp_path.glob("report*"))
