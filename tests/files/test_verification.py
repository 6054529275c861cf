"""`selftaught check` names every fault of a run, a study or an archive in one line, and else says how much it saw."""

import json
import shutil

import pytest

from selftaught.files import manifest, record
from selftaught.files import study_folder as folder
from selftaught.files.archive import archive
from selftaught.files.verification import check
from tests.commands import call
from tests.files import sealed
from tests.unsealed import unseal


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study and an archive of it, to be copied."""
    home = tmp_path_factory.mktemp("check")
    sealed.study(home / "study")
    archive(home / "study", home / "kept")
    return home


@pytest.fixture
def study(made, tmp_path):
    return shutil.copytree(made / "study", tmp_path / "study")


@pytest.fixture
def kept(made, tmp_path):
    return shutil.copytree(made / "kept", tmp_path / "kept")


def trials(directory):
    return sorted((directory / folder.TRIALS).iterdir())


def test_a_whole_study_its_archive_and_a_run_say_how_much_was_seen(study, kept, capsys):
    for directory, runs in ((study, 4), (kept, 4), (trials(study)[0], 1)):
        assert call("check", directory) == 0
        assert f"{directory}: {runs} finished run" in capsys.readouterr().out
    found = check(study)
    # Five files of a run and its result; two descriptions, costs, a table and a figure of the study.
    assert (found.files, found.unsealed, found.faults) == (4 * 6 + 5, 0, [])


def test_every_file_is_looked_at(study, kept):
    """Each is damaged in turn, and mended."""
    for directory in (study, kept):
        for path in [path for path in directory.rglob("*") if path.is_file()]:
            content = path.read_bytes()
            for damaged in (content[:-2], b"", bytes([content[0] ^ 4, *content[1:]]), None):
                path.unlink()
                if damaged is not None:
                    path.write_bytes(damaged)
                assert check(directory).faults, (path, damaged)
                path.write_bytes(content)
        assert check(directory).faults == []


def test_each_fault_is_a_line_with_the_file_and_the_remedy(study, capsys):
    first, second, *_ = trials(study)
    (first / record.PREDICTIONS).write_bytes(b"junk")
    (first / record.METRICS).unlink()
    (second / record.WEIGHTS).write_bytes(b"")
    (study / "table.md").write_text("| another table |\n")
    (study / folder.COSTS).unlink()
    assert call("check", study) == 2
    *lines, summary = capsys.readouterr().out.splitlines()
    named = {line.split(" is damaged (")[0] for line in lines}
    paths = (first / record.PREDICTIONS, first / record.METRICS, second / record.WEIGHTS)
    assert named == {str(path) for path in (*paths, study / "table.md", study / folder.COSTS)}
    assert all("): " in line for line in lines)
    assert summary == f"{study}: 5 faults in 4 finished runs"
    assert call("check", study, "--json") == 2
    assert len(json.loads(capsys.readouterr().out)["faults"]) == 5


def test_a_trial_that_is_gone_is_missed(study):
    shutil.rmtree(trials(study)[0])
    [fault] = check(study).faults
    assert fault.path == study / folder.TRIALS / fault.path.name
    assert "it is missing" in str(fault)


def test_an_unfinished_run_is_no_fault(study):
    run = trials(study)[0]
    for name in (record.RESULT, record.WEIGHTS, record.PREDICTIONS, record.EXAMPLES):
        (run / name).unlink()
    found = check(study)
    assert (found.runs, found.unfinished, found.faults) == (3, 1, [])
    (run / record.CHECKPOINT).write_bytes(b"no checkpoint")
    [fault] = check(study).faults
    assert f"{run / record.CHECKPOINT} is damaged" in str(fault)


def test_records_of_older_versions_are_counted(study, capsys):
    for run in trials(study):
        unseal(run)
    assert call("check", study) == 0
    assert "4 of an older version have no digest of their own" in capsys.readouterr().out


def test_another_folder_is_refused(tmp_path, capsys):
    assert call("check", tmp_path) == 2
    assert "holds neither a run nor a study: name the directory of one" in capsys.readouterr().err


def test_a_kill_between_a_table_and_its_digest_is_no_damage(study, monkeypatch):
    written = []

    def killed(path, content):
        written.append(path.name)
        path.write_bytes(content)
        if path.name == "table.md":
            raise KeyboardInterrupt

    monkeypatch.setattr(manifest, "write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        manifest.write(study, {"table.md": b"a new table\n", "figure.png": b"new"})
    assert written == [folder.MANIFEST, "table.md"]
    assert check(study).faults == []
    monkeypatch.undo()
    manifest.write(study, {"table.md": b"a new table\n"})
    (study / "table.md").write_bytes(b"another\n")
    assert len(check(study).faults) == 1


def test_a_study_without_all_that_describes_it_is_no_whole_one(study):
    """With each of its own files alone something else tells; without any, that has to be told too."""
    for path in study.iterdir():
        if path.is_file():
            path.unlink()
    [fault] = check(study).faults
    assert "whether trials are missing too cannot be told" in str(fault)
