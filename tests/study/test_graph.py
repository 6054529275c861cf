import json

import pytest

from selftaught.errors import InputError
from selftaught.study import compare as studies
from selftaught.study import folder
from selftaught.study.executor import Event, Outcome
from selftaught.study.graph import GraphFile, with_teachers
from selftaught.study.plan import plan
from selftaught.training import cost, teaching
from tests.training import quick

OPTIONS = {**quick.OPTIONS, "epochs": 1}
TAUGHT = {**OPTIONS, "teacher": "resnet14", "subset_per_trial": False}


def test_teachers_come_once_and_before_their_students(tmp_path):
    configs = plan("digits", ["ce", "kd", "takd"], trials=2, assistant="resnet8", **TAUGHT)
    before, trials = with_teachers(configs, tmp_path, {})
    assert [(t.config.method, t.config.model) for t in before] == [("ce", "resnet14"), ("kd", "resnet8")]
    assert [t.config for t in trials] == configs
    seen = set()
    for trial in (*before, *trials):
        assert trial.teacher is None or trial.teacher in seen
        seen.add(trial.directory)


def test_a_teacher_that_lies_elsewhere_is_not_trained_again(tmp_path):
    configs = plan("digits", ["kd"], trials=1, **TAUGHT)
    elsewhere = tmp_path / "somewhere"
    before, [trial] = with_teachers(configs, tmp_path / "trials", {configs[0].teacher.trial_id: elsewhere})
    assert before == []
    assert trial.teacher == elsewhere


def test_a_teachers_teacher_that_lies_elsewhere_is_not_trained_again_either(tmp_path):
    [config] = plan("digits", ["takd"], trials=1, assistant="resnet8", **TAUGHT)
    first, assistant = teaching.lineage(config)[:-1]
    before, [trial] = with_teachers([config], tmp_path / "trials", {first.trial_id: tmp_path / "ready"})
    assert [t.config for t in before] == [assistant]
    assert before[0].teacher == tmp_path / "ready"
    assert trial.teacher == before[0].directory


def test_a_comparison_with_teachers_tables_the_students_only_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(
        cost, "measure", lambda configs, **_: [cost.StepCost(c.method, 1.0, 1.0) for c in configs]
    )
    configs = plan("digits", ["ce", "kd"], trials=2, **TAUGHT)
    study = studies.make_study(configs, tmp_path)
    assert studies.run(study, should_stop=quick.stop_after(8)).stopped
    again = studies.make_study(configs, tmp_path)  # its first run is a teacher of another model
    comparison = studies.run(again)
    assert [(row.method, row.trials) for row in comparison.table.rows] == [("ce", 2), ("kd", 2)]
    assert "kd learns from resnet14 (ce, seed 10000): one for all trials" in " ".join(
        comparison.table.caption
    )
    (tmp_path / folder.STUDY).unlink()
    assert len(folder.compared(tmp_path)) == 4
    nodes = folder.read_graph(tmp_path).nodes
    assert [node.teacher for node in nodes] == [None, None, None, nodes[0].trial_id, nodes[0].trial_id]
    with pytest.raises(InputError, match="holds another comparison"):
        studies.make_study(plan("digits", ["ce"], trials=1, **{**OPTIONS, "epochs": 2}), tmp_path)


def test_failures_are_kept_for_status(tmp_path):
    _, trials = with_teachers(plan("digits", ["ce"], trials=2, **OPTIONS), tmp_path / "trials", {})
    graph = GraphFile(tmp_path, trials, "a study")
    heard = []
    hear = graph.noting(trials, heard.append)
    hear(Event(1, outcome=Outcome(error="no luck")))
    assert len(heard) == 1
    assert [node["error"] for node in json.loads((tmp_path / folder.GRAPH).read_text())["nodes"]] == [
        None,
        "no luck",
    ]


def test_a_teacher_option_without_anyone_to_teach_is_refused():
    with pytest.raises(InputError, match="--teacher is of no use to ce, ban: it belongs to le-teacher, kd"):
        plan("digits", ["ce", "ban"], trials=1, teacher="resnet14", **quick.OPTIONS)
    assert teaching.lesson("le", "resnet8", None, None) is None
