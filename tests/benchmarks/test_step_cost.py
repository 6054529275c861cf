import doctest

import pytest
import torch
from torch import nn

from benchmarks import harness, networks, step_cost
from selftaught import IntrospectiveLoss
from selftaught.methods import registry
from tests.benchmarks import pages

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return pages.smoke(step_cost, "What a step costs", tmp_path_factory.mktemp("pages"))


def test_every_setting_has_its_table(page):
    mlp, resnet, *profiles = page["tables"]
    assert [table["columns"] for table in (mlp, resnet)] == [step_cost.COLUMNS] * 2
    assert [row["method"] for row in mlp["rows"]] == ["ce", "le (grad)"]
    assert "no blocks to compare: hint" in mlp["note"]
    expected = ["ce", "kd", "le (grad-cam)", "le (grad)", "le (grad, refresh=0.5)"]
    assert [row["method"] for row in resnet["rows"]] == expected
    assert "Teacher: resnet26." in resnet["note"]
    for row in mlp["rows"] + resnet["rows"]:
        assert row["ms"] > 0
        assert 0 < row["low"] <= row["× ce"] <= row["high"]
        assert row["MB"] > 0
        assert row["MB × ce"] > 0.9
    assert mlp["rows"][0]["× ce"] == mlp["rows"][0]["MB × ce"] == 1
    assert len(profiles) == 2
    for table in profiles:
        assert len(table["rows"]) == 8
        assert 0 < sum(row["share of time"] for row in table["rows"]) <= 1


def test_floors_stand_beside_the_methods_that_have_one(page):
    rows = {row["method"]: row for row in page["tables"][1]["rows"]}
    assert rows["ce"]["floor × ce"] is None
    assert rows["le (grad-cam)"]["floor × ce"] is None
    assert rows["kd"]["floor × ce"] > 0
    assert rows["le (grad, refresh=0.5)"]["floor × ce"] > 0


def test_every_method_is_measured_on_the_small_networks():
    full = step_cost.settings(smoke=False)
    for setting in full[:4]:
        assert {variant.method for variant in setting.variants} == set(registry.names())
        assert len({variant.label for variant in setting.variants}) == len(setting.variants)
    assert {(setting.classes) for setting in full} == {10, 100, 1000}
    maps = {variant.settings.get("saliency") for variant in full[3].variants}
    assert maps >= {"grad-cam", "grad", "grad-input", "guided-backprop"}
    assert len({setting.heading for setting in full}) == len(full)
    assert {setting.heading for setting in full} >= set(step_cost.PROFILED)


@pytest.mark.parametrize("method", registry.names())
def test_every_method_takes_its_steps_past_its_first_stage(method):
    setting = step_cost.Setting("resnet8", 2, 3, (), size=8)
    variant = step_cost.Variant(method, method)
    trainer = step_cost.Trainer(setting, variant, CPU)
    assert trainer.turn() > 0
    assert not trainer.method.warming_up


def test_all_begin_with_equal_weights():
    setting = step_cost.Setting("resnet8", 2, 3, (), size=8)
    first, second = (
        step_cost.Trainer(setting, step_cost.Variant(key, key), CPU).student.state_dict()
        for key in ("ce", "kd")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_turn_with_refresh_has_one_explanation(monkeypatch):
    setting = step_cost.Setting("resnet8", 2, 3, (), size=8)
    [variant] = step_cost.explained(refresh=(0.25,))
    trainer = step_cost.Trainer(setting, variant, CPU)
    trainer.turn()
    explained = []
    exact = IntrospectiveLoss._exact
    monkeypatch.setattr(IntrospectiveLoss, "_exact", lambda *args: explained.append(1) or exact(*args))
    for turns in (1, 2, 3):
        trainer.turn()
        assert len(explained) == turns


def test_the_resnet_of_plain_torch_has_the_size_that_its_name_says():
    network = networks.create("resnet18", 10, 3, 32)
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1) == 11.2
    assert network.features(torch.zeros(1, 3, 32, 32)).shape == (1, 512, 4, 4)
    dropping = networks.create("resnet18", 10, 3, 32, dropout=0.1)
    assert sum(isinstance(module, nn.Dropout) for module in dropping.modules()) == 4


def test_numbers_for_people():
    assert doctest.testmod(harness).failed == 0
