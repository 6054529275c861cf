"""Whatever is changed in a finished run is found, by whoever reads it, before a number of it is used."""

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from selftaught.errors import InputError
from selftaught.files import integrity, record
from selftaught.files.archive import archive
from selftaught.files.reading import DamagedError
from selftaught.report import study as reports
from tests.files import sealed
from tests.unsealed import unseal

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that a module's tests damage and mend."""
    return sealed.run(tmp_path_factory.mktemp("whole") / "trials").directory


@pytest.fixture
def made(tmp_path):
    """A run to be damaged."""
    return sealed.run(tmp_path / "trials").directory


def refusal(directory: Path) -> str:
    with pytest.raises(DamagedError) as caught:
        record.read(directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(directory: Path, name: str, **changes: object) -> None:
    path = directory / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["config.json", "result.json", "metrics.jsonl", "predictions.safetensors"]), st.data())
def test_one_flipped_bit_anywhere_is_found(whole, name, data):
    path = whole / name
    good = path.read_bytes()
    content = bytearray(good)
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        path.write_bytes(content)
        assert "is damaged" in refusal(whole)
    finally:
        path.write_bytes(good)
    record.read(whole)


@pytest.mark.parametrize("name", ["config.json", "result.json", "metrics.jsonl", "predictions.safetensors"])
@pytest.mark.parametrize("damage", ["emptied", "cut", "a folder", "a link to nowhere", "a pipe"])
def test_a_file_that_is_no_longer_what_it_was_is_named(made, name, damage):
    path = made / name
    content = path.read_bytes()
    path.unlink()
    {
        "emptied": lambda: path.write_bytes(b""),
        "cut": lambda: path.write_bytes(content[:-7]),
        "a folder": path.mkdir,
        "a link to nowhere": lambda: path.symlink_to(made / "nowhere"),
        "a pipe": lambda: os.mkfifo(path),
    }[damage]()
    message = refusal(made)
    assert message.startswith(f"{path} is damaged (")
    assert f"remove {made}, and the command that made it trains it again" in message


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.jsonl", "predictions.safetensors", "examples.safetensors"]
)
def test_a_deleted_file_is_named(made, name):
    (made / name).unlink()
    assert refusal(made).startswith(f"{made / name} is damaged (it is missing)")


def test_a_run_without_its_result_is_not_finished_or_has_lost_it(made):
    """A checkpoint is let go of when the result is written."""
    (made / record.RESULT).unlink()
    assert refusal(made).startswith(f"{made / record.RESULT} is damaged (it is missing)")
    (made / record.CHECKPOINT).write_bytes(b"")
    with pytest.raises(InputError, match="is not finished"):
        record.read(made)


@pytest.mark.parametrize("name", ["result.json", "config.json", "predictions.safetensors", "metrics.jsonl"])
def test_two_swapped_files_are_found_in_both_runs(tmp_path, name):
    runs = [sealed.run(tmp_path / "trials", "ce", seed).directory for seed in (0, 1)]
    first, second = (run / name for run in runs)
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    for run in runs:
        assert "is damaged" in refusal(run)


def test_two_swapped_folders_are_found(tmp_path):
    runs = [sealed.run(tmp_path / "trials", "ce", seed).directory for seed in (0, 1)]
    runs[0].rename(tmp_path / "aside")
    runs[1].rename(runs[0])
    (tmp_path / "aside").rename(runs[1])
    for run, other in zip(runs, reversed(runs), strict=True):
        assert f"{run} is damaged (it holds the trial {other.name}): call it {other.name}" in refusal(run)


def test_a_run_may_be_moved_and_called_anything_where_it_is_no_trial_of_a_study(made, tmp_path):
    made.rename(tmp_path / "my best run")
    assert record.read(tmp_path / "my best run").config.method == "ce"


@pytest.mark.parametrize("name", ["accuracy", "nll", "ece", "nll_scaled", "ece_scaled"])
def test_a_number_that_does_not_follow_from_the_predictions_is_found_without_digests_too(made, name):
    told = getattr(record.read(made).result, name)
    unseal(made)
    record.read(made)
    unseal(made, **{name: told * 1.001})
    assert (
        f"result.json is damaged ({'after temperature scaling ' if 'scaled' in name else ''}its "
        in refusal(made)
    )


def test_an_accuracy_by_class_that_does_not_follow_is_found(made):
    run = record.read(made)
    by_class = [1 / 6] * 10
    assert len(by_class) == len(run.result.data.classes)
    unseal(made, per_class_accuracy=by_class)
    assert "its accuracies by class are not those of the predictions" in refusal(made)


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1"])
def test_what_counts_classes_alike_follows_from_the_predictions_too(made, name):
    told = getattr(record.read(made).result, name)
    unseal(made, **{name: told - 0.001})
    assert f"result.json is damaged (its {name} is {told - 0.001:.6g}, of the predictions" in refusal(made)
    unseal(made, **{name: None})  # as older records have it
    record.read(made)


def test_the_numbers_of_images_by_class_are_those_of_the_predictions(made):
    told = record.read(made).result.per_class_images
    unseal(made, per_class_images=[told[0] + 1, told[1] - 1, *told[2:]])
    assert "its numbers of images by class are not those of the predictions" in refusal(made)


def test_what_an_archive_says_of_classes_must_fit_together(tmp_path):
    """It keeps no labels, of which it could be computed again."""
    sealed.run(tmp_path / "study" / "trials")
    archive(tmp_path / "study", tmp_path / "kept")
    [kept] = (tmp_path / "kept" / "trials").iterdir()
    unseal(kept)
    told = record.read(kept).result
    images = list(told.per_class_images)
    wrong = {
        "its balanced_accuracy is": {"balanced_accuracy": told.balanced_accuracy + 0.01},
        "its classes have 61 test images together, not 60": {
            "per_class_images": [images[0] + 1, *images[1:]]
        },
        "by class do not make its accuracy": {"per_class_images": [*images[:-1], images[-1] - 1, 1]},
        "the last point of its learning curve is not its accuracy": {
            "learning": [{"images": 9, "accuracy": told.accuracy - 0.01, "seconds": 0.1}]
        },
    }
    for message, changes in wrong.items():
        unseal(kept, **changes)
        assert message in refusal(kept)
        unseal(kept, **{name: getattr(told, name) for name in changes})


def test_held_out_numbers_of_the_last_epoch_follow_from_predictions_too(made):
    unseal(made)
    lines = [json.loads(line) for line in (made / record.METRICS).read_text().splitlines()]
    lines[0]["val_accuracy"] = 0.123  # of an epoch whose predictions nobody kept
    record.write_metrics(made, lines)
    record.read(made)
    lines[-1]["val_accuracy"] = 0.123
    record.write_metrics(made, lines)
    assert (
        "metrics.jsonl is damaged (of the held-out images in the last epoch its accuracy is 0.123"
        in refusal(made)
    )


def test_all_trials_of_a_division_have_the_same_labels(tmp_path):
    runs = [sealed.run(tmp_path / "trials", "ce", seed, val=0) for seed in (0, 1)]
    assert list(integrity.same_labels(runs)) == []
    changed = runs[1].directory
    tensors = load_file(changed / record.PREDICTIONS)
    wrong = np.flatnonzero(tensors["logits"].argmax(1) != tensors["labels"])[:1]
    others = {"labels": tensors["labels"].copy(), "logits": tensors["logits"].copy()}
    others["labels"][wrong] = (others["labels"][wrong] + 1) % 10
    save_file(others, changed / record.PREDICTIONS)
    sealed.seal(record.Record(changed, runs[1].config, record.read_result(changed)))
    again = record.Record(changed, runs[1].config, record.read_result(changed))
    [fault] = integrity.same_labels([runs[0], again])
    assert (
        f"{changed / record.PREDICTIONS} is damaged (its test labels are not those of {runs[0].directory}"
        in str(fault)
    )


def test_labels_are_compared_in_archives_too(tmp_path):
    for name, images in (("one", 60), ("two", 70)):
        sealed.run(tmp_path / name / "trials", "ce", int(name == "two"), images=images, val=0)
        archive(tmp_path / name, tmp_path / f"{name} kept")
    kept = [next((tmp_path / f"{name} kept" / "trials").iterdir()) for name in ("one", "two")]
    [fault] = integrity.same_labels(map(record.read, kept))
    assert "answers.safetensors is damaged (its test labels" in str(fault)


@pytest.mark.parametrize("name", ["config.json", "result.json", "metrics.jsonl", "answers.safetensors"])
def test_every_file_of_an_archive_is_verified(tmp_path, name):
    sealed.run(tmp_path / "study" / "trials")
    archive(tmp_path / "study", tmp_path / "kept")
    [kept] = (tmp_path / "kept" / "trials").iterdir()
    record.read(kept)
    content = bytearray((kept / name).read_bytes())
    content[len(content) // 2] ^= 1
    (kept / name).write_bytes(content)
    assert "put back what was archived, or archive the study again" in refusal(kept)
    (kept / name).unlink()
    with pytest.raises(InputError, match=r"damaged|not finished"):
        record.read(kept)


def test_what_an_archive_says_of_each_image_must_give_its_numbers(tmp_path):
    sealed.run(tmp_path / "study" / "trials")
    archive(tmp_path / "study", tmp_path / "kept")
    [kept] = (tmp_path / "kept" / "trials").iterdir()
    unseal(kept)
    told = record.read(kept).result
    for name in ("accuracy", "nll", "ece"):
        unseal(kept, **{name: getattr(told, name) + 0.03})
        assert f"its {name} is" in refusal(kept)
        unseal(kept, **{name: getattr(told, name)})


def test_records_that_were_committed_before_are_whole():
    """They have no digests: what can be computed again is."""
    runs = [record.read(path.parent) for path in sorted(RESULTS.rglob("result.json"))]
    assert len(runs) > 300
    assert list(integrity.same_labels(runs)) == []


def test_a_record_committed_before_is_damaged_where_it_does_not_follow_from_its_answers(tmp_path):
    source = next((RESULTS / "digits-resnet8" / "trials").iterdir())
    copy = tmp_path / "trials" / source.name
    copy.mkdir(parents=True)
    for path in source.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    told = record.read(copy).result.accuracy
    rewrite(copy, record.RESULT, accuracy=told - 0.001)
    assert "result.json is damaged (its accuracy is" in refusal(copy)


def test_a_report_is_not_made_of_a_damaged_run(tmp_path):
    runs = sealed.study(tmp_path / "study")
    path = runs[0].directory / record.RESULT
    path.write_text(path.read_text().replace('"accuracy": 0.', '"accuracy": 0.1', 1))
    with pytest.raises(
        DamagedError, match=r"result\.json is damaged \(its digest is that of another content\)"
    ):
        reports.write([tmp_path / "study"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_what_was_read_is_not_read_again_until_somebody_touches_it(made, monkeypatch):
    reads = iter(range(9))
    read = partial(integrity.unchanged, made, lambda: next(reads))
    assert [read(), read()] == [0, 1]  # written a moment ago, it might be changed within the same time stamp
    monkeypatch.setattr(integrity, "_SETTLED", -1.0)
    assert [read(), read()] == [2, 2]
    os.utime(made / record.METRICS)
    assert [read(), read()] == [3, 3]
    (made / record.COMMANDS).write_text("{}")
    assert read() == 4


def test_a_file_of_a_strangers_run_may_not_lead_elsewhere(made, tmp_path):
    """A link inside the folder is the user's own business."""
    path = made / record.PREDICTIONS
    path.rename(made / "elsewhere")
    path.symlink_to("elsewhere")
    record.read(made)
    (made / "elsewhere").rename(tmp_path / "elsewhere")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert f"{path} is damaged (it is a link out of its folder)" in refusal(made)
