import json
import os
from pathlib import Path

import pytest

from selftaught.errors import InputError
from selftaught.files import record
from selftaught.report import study
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


def test_missing_trials_are_named_by_method_and_seed(comparison):
    """A failed one with its error; one that never began is known to study.json only, one that did by its own files."""
    described = json.loads((comparison / "study.json").read_text())
    never = ["0" * 12, "1" * 12, "2" * 12]
    described["trials"] += never
    described["missing"] = [
        {"trial_id": never[0], "method": "le", "seed": 2, "error": "the loss became NaN\nin step 7"},
        {"trial_id": never[1], "method": "le", "seed": 3, "error": "the loss became NaN\nin step 7"},
        {"trial_id": never[2], "method": "ls", "seed": 8, "error": None},
        {"trial_id": described["trials"][0], "method": "le", "seed": 0, "error": "long mended"},
    ]
    (comparison / "study.json").write_text(json.dumps(described))
    (comparison / "trials" / described["trials"][3] / record.RESULT).unlink()
    unfinished, failed = study.read([comparison]).notes
    assert "2 of 7 trials of compare are not finished: ce seed 1; ls seed 8." in unfinished
    assert (
        "2 of 7 trials of compare failed and are left out: le seeds 2, 3 (the loss became NaN in step 7)"
        in failed
    )
    assert "survivorship bias" in failed
    study.write([comparison], comparison.parent / "report.html")
    verdict = (
        (comparison.parent / "report.html").read_text().partition('id="verdict"')[2].partition("</section")[0]
    )
    assert "le seeds 2, 3" in verdict
    assert "survivorship bias" in verdict
    assert "le seeds 2, 3" in (comparison.parent / "report.md").read_text()


def test_a_comparison_that_is_called_by_a_dot_has_a_name(comparison, monkeypatch):
    (next((comparison / "trials").iterdir()) / record.RESULT).unlink()
    monkeypatch.chdir(comparison)
    assert "1 of 4 trials of compare are" in study.read([Path()]).notes[0]


def test_a_very_long_error_is_cut(comparison):
    described = json.loads((comparison / "study.json").read_text())
    described["trials"].append("0" * 12)
    described["missing"] = [
        {"trial_id": "0" * 12, "method": "le", "seed": 2, "error": "size mismatch, " * 999}
    ]
    (comparison / "study.json").write_text(json.dumps(described))
    [note] = study.read([comparison]).notes
    assert "le seed 2 (size mismatch, size" in note
    assert len(note) < 1000


def test_all_commands_of_a_comparison_and_of_runs_are_shown(comparison, tmp_path):
    described = json.loads((comparison / "study.json").read_text())
    described["commands"] = [
        {"command": ["first"], "started": "2026-01-01"},
        {"command": ["sec\udcff", "ond"]},
    ]
    (comparison / "study.json").write_text(json.dumps(described))
    run = factory.write_run(tmp_path, "ls", 0).directory
    record.note_command(run, ["selftaught", "train", "my data"])
    record.note_command(run, ["selftaught", "train", "my data", "-q"])
    found = study.read([comparison, run])
    assert [" ".join(command) for command in found.commands] == [
        "first",
        "sec\udcff ond",
        "selftaught train my data",
        "selftaught train my data -q",
    ]
    study.write([comparison, run], tmp_path / "report.html")
    assert "selftaught train &#39;my data&#39; -q" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("content", [b"[1]", b"{", b'{"commands": 7}', b"\xff", b"[" * 100_000])
def test_a_damaged_command_of_a_run_is_left_out_and_it_is_said(tmp_path, content):
    run = factory.write_run(tmp_path, "ls", 0).directory
    (run / record.COMMANDS).write_bytes(content)
    found = study.read([run])
    assert found.commands == []
    assert "command.json of" in found.notes[0]


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
    with pytest.raises(InputError, match=r"study\.json is damaged \(.+\): remove it") as caught:
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
    tables = {
        ".md": "# my lab notes\n\n| method | accuracy % |\n| --- | --- |\n| a | b |\n",
        ".csv": "method,notes\nce,not bad\n",
    }
    for suffix, text in tables.items():
        mine = (tmp_path / "notes").with_suffix(suffix)
        mine.write_text(text)
        with pytest.raises(InputError, match="exists and is not part of a report"):
            study.write([comparison], tmp_path / "notes.html")
        assert mine.read_text() == text
        mine.unlink()


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
