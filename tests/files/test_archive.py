"""What is kept of a study is enough to make all of its tables again."""

import json

import numpy as np
import pytest
from scipy.special import softmax

import selftaught
from selftaught.errors import InputError
from selftaught.files import answers, evidence, manifest, record
from selftaught.files import study_folder as folder
from selftaught.files.archive import archive
from selftaught.files.study_folder import Missing, StudyFile
from selftaught.report.build import comparison, markdown
from selftaught.report.study import read
from selftaught.training import cost
from tests.commands import call
from tests.report.cells import write_run
from tests.unsealed import unseal

RECIPE = """
name: mine
title: A choice
kind: table
source: a test
command: selftaught reproduce mine.yaml
expected: {smoke: seconds, quick: seconds, paper: a minute}
trials: 2
judged_on: held-out
protocol:
  digits: {epochs: 2, batch_size: 32, lr: 0.05, momentum: 0.9, weight_decay: 0.0001,
           milestones: [], warmup: 0.5, augment: none, val_fraction: 0.3}
groups:
  - {label: ResNet8, data: digits, model: resnet8, teacher: resnet14}
variants:
  - {label: CE, method: ce}
  - {label: CE without decay, based_on: CE, protocol: {weight_decay: 0}}
  - {label: LE-Uniform, method: le-uniform, settings: {alpha: 0.9, weight: 0.1}}
  - {label: LE-Teacher, method: le-teacher, settings: {alpha: 0.9, weight: 0.1}}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The recipe's file, its study and an archive of it."""
    home = tmp_path_factory.mktemp("archive")
    recipe = home / "mine.yaml"
    recipe.write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        told = [cost.StepCost("", 1.0, 1.25)]
        patch.setattr(cost, "measure", lambda configs, **_: told * len(configs))
        command = ("reproduce", recipe, "--budget", "smoke", "--jobs", "1", "-q", "--out")
        assert call(*command, home / "study") == 0
        assert call("archive", home / "study", "-o", home / "kept") == 0
        made = {path.name: path.read_bytes() for path in (home / "kept").glob("mine.*")}
        assert call(*command, home / "kept") == 0
    return home, made


def test_tables_are_made_again_to_the_byte(study):
    home, made = study
    assert set(made) == {"mine.md", "mine.csv", "mine.json"}
    for name, content in made.items():
        assert (home / "study" / name).read_bytes() == content
        assert (home / "kept" / name).read_bytes() == content, f"{name} is another one of the archive alone"
    cells = {cell["variant"]: cell for cell in json.loads(made["mine.json"])["cells"]}
    assert list(cells["CE without decay"]["compared"]) == ["reference"]
    assert cells["CE without decay"]["compared"]["reference"]["base"] == "CE"
    assert cells["LE-Uniform"]["compared"]["ce"]["low"] < cells["LE-Uniform"]["compared"]["ce"]["high"]


def test_neither_networks_nor_logits_nor_paths_are_kept(study):
    home, _ = study
    trials = sorted((home / "kept" / "trials").iterdir())
    assert [path.name for path in trials] == sorted(
        path.name for path in (home / "study" / "trials").iterdir()
    )
    kept = {"answers.safetensors", "config.json", "metrics.jsonl", "result.json"}
    assert all({path.name for path in trial.iterdir()} == kept for trial in trials)
    assert all(str(home) not in path.read_text() for path in (home / "kept").glob("*.json"))
    assert sum(path.stat().st_size for trial in trials for path in trial.iterdir()) < 8000 * len(trials)


def test_the_table_judges_by_the_held_out_images(study):
    home, made = study
    cells = {cell["variant"]: cell for cell in json.loads(made["mine.json"])["cells"]}
    runs = [record.read(path) for path in (home / "kept" / "trials").iterdir()]
    uniform = [evidence.scores(run, "held-out")[0] for run in runs if run.config.method == "le-uniform"]
    tested = [run.result.accuracy for run in runs if run.config.method == "le-uniform"]
    assert cells["LE-Uniform"]["mean"] == pytest.approx(np.mean(uniform))
    assert np.mean(uniform) != pytest.approx(np.mean(tested))
    for run in runs:
        right = evidence.correct(run, "held-out")
        assert right.dtype == bool
        assert (len(right), right.mean()) == (
            run.result.data.val,
            pytest.approx(evidence.scores(run, "held-out")[0]),
        )
        assert evidence.correct(run).mean() == pytest.approx(run.result.accuracy)


def test_of_paths_the_last_part_is_kept(tmp_path):
    """Of data, of a network of one's own, and of what went wrong."""
    source, kept = tmp_path / "mine", tmp_path / "kept" / "mine"
    folders = {"data": f"{tmp_path}/secret/photos", "model": f"{tmp_path}/secret/net.py:net"}
    run = write_run(source / "trials", **folders, model_fingerprint="m")
    lost = Missing(
        trial_id="0" * 12, method="le", seed=3, error=f"cannot read {tmp_path}/secret/a.jpg: no picture"
    )
    described = StudyFile(
        command=("selftaught", folders["data"]),
        methods=("ce", "le"),
        trials=(run.config.trial_id, lost.trial_id),
        missing=(lost,),
    )
    folder.write_study(source, described)
    folder.write_graph(source, folder.Graph(title="a study", nodes=()))
    found = read([source])
    (source / "table.md").write_text(markdown(comparison(found.records, found.methods, {}, found.notes)))
    assert "secret" in (source / "table.md").read_text()
    archive(source, kept)
    assert not [path for path in kept.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    again = read([kept])
    assert again.records[0].config.data == "photos"
    assert again.records[0].config.trial_id == run.config.trial_id
    made = markdown(comparison(again.records, again.methods, {}, again.notes))
    assert made == (kept / "table.md").read_text()
    assert "cannot read a.jpg: no picture" in made
    assert "survivorship" in made


def test_what_is_archived_says_where_its_network_is(tmp_path):
    run = write_run(tmp_path / "study" / "trials")
    archive(tmp_path / "study", tmp_path / "kept")
    with pytest.raises(
        InputError, match="is archived without its network: use the study that it was copied from"
    ):
        selftaught.load(tmp_path / "kept" / "trials" / run.config.trial_id)


def test_another_study_is_not_written_into(tmp_path):
    write_run(tmp_path / "study" / "trials", seed=0)
    write_run(tmp_path / "other" / "trials", seed=1)
    with pytest.raises(InputError, match="other is a study itself, with its networks: choose another --out"):
        archive(tmp_path / "study", tmp_path / "other")
    archive(tmp_path / "other", tmp_path / "kept")
    with pytest.raises(InputError, match=r"kept has the trial [0-9a-f]{12}, which the study has not"):
        archive(tmp_path / "study", tmp_path / "kept")


def test_the_teacher_is_told_by_the_same_images_as_its_students(study):
    home, made = study
    runs = [record.read(path) for path in (home / "kept" / "trials").iterdir()]
    [teacher] = [run for run in runs if run.config.model == "resnet14"]
    accuracy = 100 * evidence.scores(teacher, "held-out")[0]
    assert f"resnet14 (ce, seed 10000), {accuracy:.2f} % on the held-out images" in made["mine.md"].decode()
    assert "test images;" not in made["mine.md"].decode()


@pytest.mark.parametrize("images", [1, 7, 8, 401])
def test_answers_are_a_bit_and_six_bytes_per_image(tmp_path, images):
    run = write_run(tmp_path / "study" / "trials", images=images)
    logits, labels = evidence.predictions(run)
    archive(tmp_path / "study", tmp_path / "kept")
    kept = record.read(tmp_path / "kept" / "trials" / run.config.trial_id)
    assert not evidence.has_predictions(kept)
    np.testing.assert_array_equal(evidence.correct(kept), logits.argmax(1) == labels)
    found = answers.read(kept)
    p = softmax(logits.astype(np.float64), axis=1)
    half = {"rtol": 2**-11, "atol": 2**-24}
    np.testing.assert_allclose(found.nll, -np.log(p[np.arange(images), labels]), **half)
    np.testing.assert_allclose(found.confidence, p.max(axis=1), **half)
    np.testing.assert_allclose(found.brier, ((p - np.eye(3)[labels]) ** 2).sum(axis=1), **half)
    assert {found.nll.dtype, found.brier.dtype, found.confidence.dtype} == {np.dtype(np.float16)}
    of_held_out = run.result.data.val * 49 / 8
    assert (kept.directory / record.ANSWERS).stat().st_size < 850 + of_held_out + images * 49 / 8


def test_answers_of_another_size_are_damaged(tmp_path):
    run = write_run(tmp_path / "study" / "trials", images=40)
    other = write_run(tmp_path / "other" / "trials", images=80)
    archive(tmp_path / "study", tmp_path / "kept")
    kept = record.read(tmp_path / "kept" / "trials" / run.config.trial_id)
    (kept.directory / record.ANSWERS).write_bytes(answers.pack(other))
    unseal(kept.directory)
    kept = record.Record(kept.directory, kept.config, record.read_result(kept.directory))
    with pytest.raises(InputError, match=r"answers.safetensors is damaged \(test has the wrong shape"):
        evidence.correct(kept)


def test_an_archive_is_brought_up_to_date(tmp_path):
    write_run(tmp_path / "study" / "trials", seed=0)
    assert archive(tmp_path / "study", tmp_path / "kept").trials == 1
    write_run(tmp_path / "study" / "trials", seed=1)
    (tmp_path / "study" / "table.md").write_text("x" * 2_000_000)
    made = archive(tmp_path / "study", tmp_path / "kept")
    assert (made.trials, made.too_large) == (2, ("table.md",))
    again = archive(tmp_path / "kept", tmp_path / "second")
    assert again.trials == 2
    for path in (tmp_path / "kept" / "trials").rglob("*.*"):
        assert (tmp_path / "second" / path.relative_to(tmp_path / "kept")).read_bytes() == path.read_bytes()


def test_what_cannot_be_archived_is_said(tmp_path):
    with pytest.raises(InputError, match="is not a study: it has no trials/"):
        archive(tmp_path / "nothing", tmp_path / "kept")
    (tmp_path / "study" / "trials").mkdir(parents=True)
    with pytest.raises(InputError, match="no finished trial: there is nothing to archive yet"):
        archive(tmp_path / "study", tmp_path / "kept")
    write_run(tmp_path / "study" / "trials")
    with pytest.raises(InputError, match="is the study itself"):
        archive(tmp_path / "study", tmp_path / "study")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="is not empty and not a comparison"):
        archive(tmp_path / "study", tmp_path / "thesis")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("where", ["table.csv", "trials/{id}/metrics.jsonl", "trials/{id}", "trials"])
def test_what_a_link_leads_to_outside_of_the_study_is_not_copied(tmp_path, where):
    run = write_run(tmp_path / "study" / "trials")
    path = tmp_path / "study" / where.format(id=run.config.trial_id)
    secret = tmp_path / "secret"
    if path.exists():
        path.rename(secret)
    else:
        secret.write_text("password")
    path.symlink_to(secret)
    with pytest.raises(
        InputError, match=r"is damaged .it is a link out of the study.: replace it by what it points"
    ):
        archive(tmp_path / "study", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_table_that_is_not_what_was_written_is_not_copied(tmp_path):
    write_run(tmp_path / "study" / "trials")
    manifest.write(tmp_path / "study", {"table.md": b"88 %\n"})
    (tmp_path / "study" / "table.md").write_bytes(b"98 %\n")
    with pytest.raises(InputError, match=r"table\.md is damaged \(it is not what was written\)"):
        archive(tmp_path / "study", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_an_archive_made_again_has_the_same_bytes(tmp_path):
    """Git would take every other order of the same entries for a change."""
    run = write_run(tmp_path / "trials", held_out=80.0)
    assert len({answers.pack(run) for _ in range(20)}) == 1
