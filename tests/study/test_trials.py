"""What is trained for a study, and in which order."""

from selftaught.study.flags import plan
from selftaught.study.trials import with_teachers
from selftaught.training import teaching
from tests.training import quick

TAUGHT = {**quick.OPTIONS, "epochs": 1, "teacher": "resnet14", "subset_per_trial": False}


def test_teachers_come_once_and_before_their_students_and_these_by_seed(tmp_path):
    configs = plan("digits", ["ce", "kd", "takd"], trials=2, assistant="resnet8", **TAUGHT)
    trials = with_teachers(configs, lambda config: tmp_path / config.trial_id, {})
    assert [(t.config.method, t.config.model) for t in trials[:2]] == [("ce", "resnet14"), ("kd", "resnet8")]
    assert [t.config for t in trials[2:]] == configs[::2] + configs[1::2]
    seen = set()
    for trial in trials:
        assert trial.teacher is None or trial.teacher in seen
        seen.add(trial.directory)


def test_a_teacher_that_lies_elsewhere_is_not_trained_again(tmp_path):
    configs = plan("digits", ["kd"], trials=1, **TAUGHT)
    elsewhere = {configs[0].teacher.trial_id: tmp_path / "somewhere"}
    [trial] = with_teachers(configs, lambda config: tmp_path / config.trial_id, elsewhere)
    assert trial.teacher == tmp_path / "somewhere"


def test_a_teachers_teacher_that_lies_elsewhere_is_not_trained_again_either(tmp_path):
    [config] = plan("digits", ["takd"], trials=1, assistant="resnet8", **TAUGHT)
    first, assistant = teaching.lineage(config)[:-1]
    ready = {first.trial_id: tmp_path / "ready"}
    before, trial = with_teachers([config], lambda config: tmp_path / config.trial_id, ready)
    assert before.config == assistant
    assert before.teacher == tmp_path / "ready"
    assert trial.teacher == before.directory
