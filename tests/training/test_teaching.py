import json

import pytest
import torch

from selftaught.errors import InputError
from selftaught.files import record
from selftaught.files.config import RunConfig
from selftaught.methods import registry
from selftaught.training import teachers, teaching
from selftaught.training.presets import data_of
from selftaught.training.run import Stopped, train
from selftaught.training.session import start
from tests.training import quick

TAUGHT = [method for method in registry.names() if registry.find(method).learns_from]
TRAINED = [method for method in registry.names() if not registry.find(method).head_only]


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Finished teachers of a resnet8 on digits, in directories named by their trials."""
    folder = tmp_path_factory.mktemp("trials")
    for method in ("kd", "ban", "takd"):
        for config in teaching.lineage(small(method))[:-1]:
            train(config, folder / config.trial_id)
    return folder


def small(method, **options) -> RunConfig:
    names = {"teacher": "resnet14"} if registry.find(method).learns_from in ("teacher", "assistant") else {}
    names |= {"assistant": "resnet8"} if method == "takd" else {}
    """On one choice of training images for all seeds, and so with one teacher."""
    return quick.config(method, **{"epochs": 2, "subset_per_trial": False, **names, **options})


@pytest.mark.parametrize("method", TRAINED)
def test_every_method_trains_on_digits_and_resumes_to_the_same_bytes(tmp_path, taught, method):
    """Regressors and peers, their momentum and what they draw are part of the checkpoint; past a warm-up too."""
    config = small(method, seed=1, **({"warmup": 1} if "warmup" in registry.settings(method) else {}))
    teacher = taught / config.teacher.trial_id if config.teacher else None
    train(config, tmp_path / "whole", teacher=teacher)
    for stop in (3, 4):
        with pytest.raises(Stopped):
            train(config, tmp_path / "parts", should_stop=quick.stop_after(stop), teacher=teacher)
    train(config, tmp_path / "parts", teacher=teacher)
    assert quick.fingerprint(tmp_path / "parts") == quick.fingerprint(tmp_path / "whole")


@pytest.mark.parametrize("method", TAUGHT)
def test_a_teacher_and_how_it_was_trained_are_part_of_the_name(method):
    config = small(method)
    assert config.teacher is not None
    other = config.model_copy(update={"teacher": config.teacher.model_copy(update={"epochs": 9})})
    assert other.trial_id != config.trial_id
    assert config.differences(other)
    assert config.shared() == other.shared()
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_a_plain_run_is_named_as_before_there_were_teachers():
    config = quick.config("ce")
    assert "teacher" not in json.loads(config.canonical())


def test_the_teacher_is_trained_as_the_student_on_the_same_images_but_with_a_seed_of_its_own():
    config = small("kd", seed=3, epochs=2, val_fraction=0.2, split_seed=4)
    teacher = config.teacher
    assert (teacher.model, teacher.method, teacher.seed) == ("resnet14", "ce", teaching.TEACHER_SEED)
    assert teacher.data_fingerprint == config.data_fingerprint
    for name in ("epochs", "batch_size", "lr", "momentum", "milestones", "padding", "threads", "precision"):
        assert getattr(teacher, name) == getattr(config, name)
    assert small("kd", seed=4, epochs=2, val_fraction=0.2, split_seed=4).teacher == teacher
    assert small("kd", seed=3, teacher_per_trial=True).teacher.seed == teaching.TEACHER_SEED + 3


def test_a_teacher_sees_the_division_of_its_student():
    """Otherwise it would have been trained on images that the student is tested with."""
    config = small("kd", seed=2, split_per_trial=True)
    assert config.teacher.data_fingerprint == config.data_fingerprint
    assert (
        config.teacher.data_fingerprint != small("kd", seed=3, split_per_trial=True).teacher.data_fingerprint
    )


def test_takd_learns_from_an_assistant_who_learnt_from_the_teacher():
    first, second, third = teaching.lineage(quick.config("takd", model="resnet14", epochs=2, temperature=2.0))
    assert [first.model, second.model, third.model] == ["resnet26", "resnet20", "resnet14"]
    assert [first.method, second.method, third.method] == ["ce", "kd", "takd"]
    assert second.settings["temperature"] == third.settings["temperature"] == 2.0
    assert first == quick.config("kd", model="resnet14", epochs=2).teacher


def test_how_many_further_networks_a_student_takes():
    counts = {method: teaching.extra_networks(small(method)) for method in TRAINED}
    assert {method for method, count in counts.items() if count == 0} == {
        *("ce", "dropout", "ls", "cp", "le", "le-permut", "le-uniform", "cwtm-random")
    }
    assert counts["takd"] == 2
    assert counts["dml"] == counts["ban"] == counts["kd"] == 1


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("kd", {"model": "mlp"}, "kd needs to know which teacher mlp has: name a model with --teacher"),
        ("takd", {"model": "resnet20"}, "takd needs to know which assistant resnet20 has"),
        ("kd", {"teacher": "resnet15"}, "there is no resnet15"),
    ],
)
def test_refused_teachers(method, options, message):
    with pytest.raises(InputError, match=message):
        quick.config(method, **options)


def test_a_twin_is_of_the_same_architecture_whoever_teaches_others():
    assert quick.config("ban", teacher="resnet14").teacher.model == "resnet8"


@pytest.mark.parametrize("seed", [0, 10_000, 10_003])
@pytest.mark.parametrize("per_trial", [False, True])
def test_a_twin_never_begins_with_its_students_weights(seed, per_trial):
    config = quick.config("ban", seed=seed, teacher_per_trial=per_trial)
    assert config.teacher.seed != seed


def test_a_finished_run_may_teach_if_it_saw_the_same_images():
    ready = quick.config("ce", model="resnet14", epochs=2)
    assert small("kd", teacher=ready).teacher == ready
    with pytest.raises(InputError, match="not trained on the same images"):
        small("kd", teacher=quick.config("ce", model="resnet14", train_size=41))


def test_a_student_does_not_start_without_its_finished_teacher(tmp_path, taught):
    config = small("kd")
    with pytest.raises(InputError, match=r"kd learns from resnet14 \(ce, seed 10000\), which is not trained"):
        train(config, tmp_path / "student")
    with pytest.raises(InputError, match="is not the teacher that this run was configured with"):
        train(config, tmp_path / "student", teacher=taught / small("ban").teacher.trial_id)
    assert not record.is_finished(tmp_path / "student")


def test_the_teacher_is_the_one_in_its_directory_and_training_leaves_it_alone(taught):
    config = small("kd")
    images = data_of(config)
    network = teachers.trained(config, taught / config.teacher.trial_id)
    stored = teachers.trained(config, taught / config.teacher.trial_id).state_dict()
    session = start(config, images, network)
    before = [parameter.clone() for parameter in session.network.parameters()]
    session.train_mode()
    for x, y in session.batches.epoch(0):
        session.optimizer.zero_grad()
        session.fabric.backward(session.method(x, y).loss)
        session.optimizer.step()
        assert session.network.training
        assert not network.training
    assert all(torch.equal(value, stored[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not all(map(torch.equal, before, session.network.parameters()))


def test_a_peer_is_trained_measured_and_not_the_student_again(tmp_path):
    result = train(small("dml"), tmp_path / "run")
    assert len(result.peer_accuracy) == 1
    assert record.read(tmp_path / "run").result.peer_accuracy == result.peer_accuracy
    session = start(small("dml"), data_of(small("dml")))
    ours, peers = (network.state_dict() for network in session.networks)
    assert any(not torch.equal(ours[name], value) for name, value in peers.items())
    in_optimizer = sum(len(group["params"]) for group in session.optimizer.param_groups)
    assert in_optimizer == 2 * len(list(session.network.parameters()))


def test_companions_change_nothing_of_where_the_student_begins():
    plain, mutual = (start(small(method), data_of(small(method))) for method in ("ce", "dml"))
    for name, value in plain.network.state_dict().items():
        assert torch.equal(value, mutual.network.state_dict()[name])
