"""A name says what sets a trial apart from the others, and no more."""

from selftaught.study.naming import names
from selftaught.study.trials import Trial
from tests.training import quick


def called(tmp_path, *configs):
    return names([Trial(config, tmp_path / config.trial_id) for config in configs])


def test_several_models_are_named(tmp_path):
    configs = [quick.config("ce"), quick.config("ce", model="resnet26", seed=10_000)]
    assert called(tmp_path, *configs) == ["ce resnet8 seed 0", "ce resnet26 seed 10000"]
    assert called(tmp_path, configs[1]) == ["ce seed 10000"]
    assert called(tmp_path) == []


def test_of_two_that_differ_both_say_how(tmp_path):
    configs = [quick.config("le", saliency=saliency) for saliency in ("grad-cam", "grad")]
    assert called(tmp_path, *configs, quick.config("ls")) == [
        "le seed 0 (saliency grad-cam)",
        "le seed 0 (saliency grad)",
        "ls seed 0",
    ]


def test_what_most_trials_have_is_not_said(tmp_path):
    changes = [
        {},
        {"alpha": 0.6},
        {"weight_decay": 0.0},
        {"relu": True, "upsample": True},
        {"milestones": []},
    ]
    configs = [quick.config("le", seed=seed, **change) for seed in (0, 1) for change in changes]
    found = called(tmp_path, *configs)
    assert found[:5] == [
        "le seed 0",
        "le seed 0 (alpha 0.6)",
        "le seed 0 (weight_decay 0.0)",
        "le seed 0 (upsample True, relu True)",
        "le seed 0 (milestones none)",
    ]
    assert len(set(found)) == len(found)


def test_a_setting_that_is_left_out_of_configurations_has_its_value(tmp_path):
    configs = [quick.config("le"), quick.config("le", upsample=True)]
    assert called(tmp_path, *configs) == ["le seed 0 (upsample False)", "le seed 0 (upsample True)"]


def test_students_of_different_teachers_are_told_apart(tmp_path):
    configs = [quick.config("kd", teacher=teacher) for teacher in ("resnet14", "resnet20")]
    assert called(tmp_path, *configs) == ["kd seed 0 (teacher resnet14)", "kd seed 0 (teacher resnet20)"]
