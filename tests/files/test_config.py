from typing import Literal, get_args, get_origin

import pytest
import torch

from selftaught.errors import InputError
from selftaught.files.config import DATA_OPTIONS, SETTINGS, RunConfig, parse
from selftaught.training import presets, run
from selftaught.training.presets import data_of
from selftaught.training.session import start
from tests.training import quick

VALUES = {
    "data": "d",
    "data_fingerprint": "f",
    "model": "m",
    "method": "le",
    "settings": {"alpha": 0.9, "warmup": 1},
    "epochs": 4,
    "batch_size": 8,
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.0,
}


def _other(one):
    """A value in range that is not the one that a configuration with `VALUES` has."""
    kinds = {int: (2, 3), float: (0.5, 0.1), bool: (True, False), str: ("other",)}
    values = get_args(one.type) if get_origin(one.type) is Literal else kinds.get(one.type, ((2,),))
    return next(value for value in values if value != VALUES.get(one.name, one.default))


OTHER = {name: _other(one) for name, one in SETTINGS.items()} | {
    "protocol": 99,
    "data": "e",
    "data_fingerprint": "g",
    "model_fingerprint": "h",
    "method": "ce",
    "settings": {"alpha": 0.8, "warmup": 1},
    "teacher": VALUES | {"model": "t"},
}


@pytest.mark.parametrize("name", sorted(set(RunConfig.model_fields) - {"data", "optimizer", *DATA_OPTIONS}))
def test_every_field_is_part_of_the_name(name):
    assert parse(VALUES | {name: OTHER[name]}).trial_id != parse(VALUES).trial_id


@pytest.mark.parametrize("name", ["data", *DATA_OPTIONS])
def test_what_the_fingerprint_says_already_is_not(name):
    assert parse(VALUES | {name: OTHER[name]}).trial_id == parse(VALUES).trial_id


def test_the_optimiser_is_part_of_the_name():
    plain = VALUES | {"momentum": 0.0}
    assert parse(plain | {"optimizer": "adamw"}).trial_id != parse(plain).trial_id


def test_a_model_of_files_is_known_by_its_fingerprint():
    moved = parse(VALUES | {"model": "hf:here", "model_fingerprint": "h"})
    assert moved.trial_id == parse(VALUES | {"model": "hf:there", "model_fingerprint": "h"}).trial_id
    assert moved.trial_id != parse(VALUES | {"model": "hf:here", "model_fingerprint": "i"}).trial_id
    assert moved.protocol_id == parse(VALUES | {"model": "hf:there", "model_fingerprint": "h"}).protocol_id
    filled = parse(VALUES | {"model": "hf:here", "model_fingerprint": "h", "weights": "w.safetensors"})
    assert (filled.trial_id, filled.protocol_id) == (moved.trial_id, moved.protocol_id)


def test_a_comparison_has_method_and_seed_apart():
    first = parse(VALUES)
    for own in ({"method": "ce"}, {"settings": {}}, {"seed": 3}):
        assert parse(VALUES | own).protocol_id == first.protocol_id
    for shared in ({"epochs": 5}, {"data_fingerprint": "g"}, {"threads": 2}):
        assert parse(VALUES | shared).protocol_id != first.protocol_id
    divided_anew = VALUES | {"split_per_trial": True}
    again = divided_anew | {"seed": 1, "split_seed": 1, "data_fingerprint": "g"}
    assert parse(again).protocol_id == parse(divided_anew).protocol_id
    assert parse(again | {"data": "e"}).protocol_id != parse(divided_anew).protocol_id


def test_the_name_survives_the_disk_and_the_order_of_keys():
    config = parse(VALUES)
    again = RunConfig.model_validate_json(config.model_dump_json(indent=2))
    backwards = parse(dict(reversed(VALUES.items())) | {"settings": {"warmup": 1, "alpha": 0.9}})
    assert config.trial_id == again.trial_id == backwards.trial_id
    assert len(config.trial_id) == 12


def test_differences_name_both_sides():
    ours, theirs = parse(VALUES), parse(VALUES | {"epochs": 5, "settings": {"alpha": 0.8, "warmup": 1}})
    assert ours.differences(theirs) == ["epochs: 4 -> 5", "alpha: 0.9 -> 0.8"]
    assert ours.differences(ours) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"lr": 0.0}, "lr is 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"test_fraction": 0.0}, "test_fraction is 0"),
        ({"min_scale": 0.0}, "min_scale is 0"),
        ({"augment": "phot"}, "did you mean 'photo'"),
        ({"policy": "trival"}, "policy is 'trival'"),
        ({"sampling": "even"}, "sampling is 'even'"),
        ({"erasing": 1.0}, "erasing is 1.0"),
        ({"sampling": "balanced", "class_weights": "balanced"}, "make up for uneven classes twice"),
        ({"optimizer": "adam"}, "optimizer is 'adam'"),
        ({"optimizer": "adamw", "momentum": 0.9}, "momentum belongs to --optimizer sgd"),
        ({"schedule": "cosine", "milestones": [1]}, "milestones belong to --schedule steps"),
        ({"momentum": 1.0}, "momentum is 1"),
        ({"momentum": -0.1}, "momentum is -0.1"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
        ({"milestones": [2, 1]}, "milestones 2,1 must increase"),
        ({"milestones": [1, 1]}, "milestones 1,1 must increase"),
        ({"milestones": [3]}, "milestones 3 must"),
        ({"milestones": [0]}, "milestones.0 is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"precision": "64"}, "precision is '64'"),
        ({"precision": "16-mixed", "device": "cpu"}, "needs a GPU"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"train_size": 5}, "train_size"),
        ({"alpha": 1.5}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"weight": -0.1}, "weight"),
        ({"warmup": 3}, "warmup 3 leaves no epoch for le out of 3"),
        ({"warmup": -1}, "warmup"),
        ({"model": "mlp", "saliency": "grad-cam"}, "use --saliency grad"),
        ({"model": "resnet9"}, "resnet"),
        ({"alhpa": 0.5}, "did you mean 'alpha'"),
    ],
)
def test_refusals_are_one_line(options, message):
    with pytest.raises(InputError) as refusal:
        quick.config("le", **options)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_cuda_run_without_a_gpu_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = quick.config(device="cuda")
    for train in (lambda: start(config, data_of(config)), lambda: run.train(config, tmp_path / "run")):
        with pytest.raises(InputError, match="--device cpu"):
            train()
    assert not (tmp_path / "run").exists()
    assert quick.config(device="auto").device == "cpu"


def test_unknown_names_come_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'le-permut'"):
        quick.config("le-permute")


def test_a_method_takes_only_its_own_settings():
    assert quick.config("ce", alpha=0.5).trial_id == quick.config("ce").trial_id
    assert quick.config("ls", alpha=0.5).trial_id != quick.config("ls").trial_id
    assert quick.config("ls", alpha=0.5).settings == {"alpha": 0.5}


def test_whole_numbers_name_the_same_trial_as_floats():
    assert quick.config("le", weight=1).trial_id == quick.config("le", weight=1.0).trial_id


def test_protocol_defaults():
    config = quick.config("le", epochs=10)
    assert config.settings["warmup"] == 2
    assert config.settings["saliency"] == "grad-cam"
    assert quick.config("le", model="mlp").settings["saliency"] == "grad"
    assert (config.seed, config.threads, config.device, config.precision) == (0, 1, "cpu", "32-true")


@pytest.mark.parametrize(
    ("epochs", "milestones"), [(160, (80, 120)), (10, (5, 8)), (3, (2,)), (2, (1,)), (1, ())]
)
def test_milestones_follow_the_epochs(monkeypatch, epochs, milestones):
    monkeypatch.setitem(presets.BY_DATA, "digits", ("resnet8", presets.CIFAR))
    assert quick.config(epochs=epochs).milestones == milestones
    assert quick.config(epochs=epochs, milestones=[]).milestones == ()


def test_the_papers_protocols():
    cifar, mnist = presets.preset_for("cifar10", None), presets.preset_for("mnist", None)
    names = ("epochs", "batch_size", "lr", "momentum", "augment")
    assert [cifar[0], *(cifar[1][name] for name in names)] == ["resnet14", 160, 128, 0.1, 0.9, "crop"]
    assert [mnist[0], *(mnist[1][name] for name in names)] == ["mlp", 50, 16, 0.01, 0.9, "none"]


def test_an_optimiser_or_schedule_of_ones_own_brings_its_defaults():
    adamw = quick.config(optimizer="adamw", lr=None)
    assert (adamw.lr, adamw.momentum, adamw.weight_decay) == (1e-3, 0.0, 0.01)
    cosine = quick.config(schedule="cosine", epochs=10)
    assert (cosine.milestones, cosine.momentum) == ((), 0.9)


def test_augmentations_by_name():
    photo, crop = quick.config(augment="photo"), quick.config(augment="crop", flip=False)
    assert (photo.padding, photo.flip, photo.min_scale) == (0, True, 0.25)
    trivial = quick.config(augment="trivial", erasing=0.0)
    assert (trivial.policy, trivial.erasing, trivial.min_scale) == ("trivial", 0.0, 0.25)
    assert quick.config(augment="rand", policy="none", erasing=0).trial_id == photo.trial_id
    assert (crop.padding, crop.flip, crop.min_scale) == (4, False, None)


def test_own_data_is_held_out_of_where_it_is_large_enough():
    held_out = quick.config(train_size=None)
    assert held_out.val_fraction == 0.1
    assert quick.config().val_fraction == 0.0  # of forty images four, for ten classes
    assert quick.config(train_size=None, val_fraction=0.0).val_fraction == 0.0


def test_a_split_of_its_own_for_each_trial():
    shared = [quick.config(seed=seed, split_seed=5, subset_per_trial=False) for seed in (0, 1)]
    assert shared[0].data_fingerprint == shared[1].data_fingerprint
    own = [quick.config(seed=seed, split_seed=5, split_per_trial=True) for seed in (0, 1)]
    assert [config.split_seed for config in own] == [5, 6]
    assert own[0].data_fingerprint != own[1].data_fingerprint
    assert own[0].protocol_id == own[1].protocol_id


def test_each_seed_has_a_subset_of_its_own_and_all_have_the_same_test_images():
    own = [quick.config(seed=seed, split_seed=5) for seed in (0, 1)]
    assert [(config.split_seed, config.subset_seed) for config in own] == [(5, 5), (5, 6)]
    assert own[0].data_fingerprint != own[1].data_fingerprint
    assert own[0].protocol_id == own[1].protocol_id
    for other in ({"image_size": 4}, {"val_fraction": 0.3}, {"test_size": 50}):
        assert quick.config(seed=0, split_seed=5, **other).shared().canonical() != own[0].shared().canonical()
    first, second = map(data_of, own)
    assert torch.equal(first.test_images, second.test_images)
    assert not torch.equal(first.train_images, second.train_images)
    assert torch.equal(first.train_labels.bincount(), second.train_labels.bincount())
    # Under the older name: whoever goes on with a study that was begun before has its first trial.
    assert own[0].trial_id == quick.config(seed=0, split_seed=5, subset_per_trial=False).trial_id
    assert quick.config(seed=1, split_per_trial=True).subset_seed is None
    assert quick.config(seed=1, train_size=None).subset_seed is None


def test_a_teacher_has_the_subset_of_its_student():
    config = quick.config("kd", model="resnet8", teacher="resnet14", seed=3)
    assert config.teacher.data_fingerprint == config.data_fingerprint
    assert config.teacher.subset_seed == config.subset_seed == 3
    with pytest.raises(InputError, match="train both with --one-subset"):
        quick.config("kd", model="resnet8", teacher=config.teacher, seed=4)


def test_data_that_changed_is_noticed():
    config = quick.config().model_copy(update={"data_fingerprint": "0" * 64})
    with pytest.raises(InputError, match="start a new run"):
        presets.data_of(config)
