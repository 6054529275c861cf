import json

import pytest

from selftaught.errors import InputError
from selftaught.events import Finished, Outcome
from selftaught.files import study_folder as folder
from selftaught.report import sentences
from selftaught.study import compare as studies
from selftaught.study.executor import in_this_process
from selftaught.study.finishing import finish
from selftaught.study.flags import plan
from selftaught.study.graph import GraphFile
from selftaught.study.trials import Trial
from selftaught.training import cost, teaching
from tests.training import quick

OPTIONS = {**quick.OPTIONS, "epochs": 1}
TAUGHT = {**OPTIONS, "teacher": "resnet14", "subset_per_trial": False}


def test_a_comparison_with_teachers_tables_the_students_only_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(
        cost, "measure", lambda configs, **_: [cost.StepCost(c.method, 1.0, 1.0) for c in configs]
    )
    configs = plan("digits", ["ce", "kd"], trials=2, **TAUGHT)
    assert studies.study_of(configs, tmp_path).run(in_this_process, should_stop=quick.stop_after(8))
    again = studies.study_of(configs, tmp_path)
    studies.check_directory(again)  # its first run is a teacher of another model
    assert not again.run(in_this_process)
    comparison = finish(again)
    assert [(row.method, row.trials) for row in comparison.table.rows] == [("ce", 2), ("kd", 2)]
    assert "kd learns from resnet14 (ce, seed 10000): one for all trials" in " ".join(
        sentences.caption(comparison.table)
    )
    (tmp_path / folder.STUDY).unlink()
    assert len(folder.compared(tmp_path)) == 4
    nodes = folder.read_graph(tmp_path).nodes
    assert [node.teacher for node in nodes] == [None, None, nodes[0].trial_id, None, nodes[0].trial_id]
    with pytest.raises(InputError, match="holds another comparison"):
        studies.check_directory(
            studies.study_of(plan("digits", ["ce"], trials=1, **{**OPTIONS, "epochs": 2}), tmp_path)
        )


def test_failures_are_kept_for_status(tmp_path):
    configs = plan("digits", ["ce"], trials=2, **OPTIONS)
    trials = [Trial(config, tmp_path / config.trial_id) for config in configs]
    graph = GraphFile(tmp_path, trials, "a study")
    heard = []
    hear = graph.noting(trials, heard.append)
    hear(Finished(1, Outcome(error="no luck")))
    assert len(heard) == 1
    assert [node["error"] for node in json.loads((tmp_path / folder.GRAPH).read_text())["nodes"]] == [
        None,
        "no luck",
    ]


def test_a_teacher_option_without_anyone_to_teach_is_refused():
    with pytest.raises(InputError, match="--teacher is of no use to ce, ban: it belongs to le-teacher, kd"):
        plan("digits", ["ce", "ban"], trials=1, teacher="resnet14", **quick.OPTIONS)
    assert teaching.lesson("le", "resnet8", None, None) is None
