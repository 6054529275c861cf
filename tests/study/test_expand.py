"""From recipes to configurations."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught import recipes
from selftaught.errors import InputError
from selftaught.study.expand import check, expand, searches
from selftaught.training import presets, teaching
from selftaught.training.teaching import lineage
from tests.data import made_up

CHOSEN = {
    (name, group.label): search.values[1]
    for name in recipes.names()
    if (search := recipes.load(name).search)
    for group in recipes.load(name).groups
}


@pytest.fixture
def no_images(monkeypatch):
    """A configuration has of its data the fingerprint alone."""
    monkeypatch.setattr(presets, "data_of_options", made_up.known_by_name)


def _expanded(name, budget="paper", **options):
    """The cells of a recipe by group and variant."""
    cells = expand(recipes.load(name), budget, CHOSEN, device="cpu", **options)
    return {(cell.group.label, cell.variant.label): cell.configs for cell in cells}


def _ids(configs):
    return [config.trial_id for config in configs]


@pytest.mark.usefixtures("no_images")
class TestCells:
    @pytest.mark.parametrize("name", recipes.names())
    @pytest.mark.parametrize("budget", recipes.budgets())
    def test_every_recipe_expands_in_its_own_order_with_one_trial_per_seed(self, name, budget):
        recipe = recipes.load(name)
        cells = expand(recipe, budget, CHOSEN, device="cpu")
        assert [(cell.group, cell.variant) for cell in cells] == [
            (g, v) for g in recipe.groups for v in recipe.variants if v.runs_in(g.label)
        ]
        trials = recipes.budgets()[budget].trials_of(recipe)
        assert all([c.seed for c in cell.configs] == list(range(trials)) for cell in cells)
        assert all(len(set(_ids(cell.configs))) == trials for cell in cells)
        # Two epochs are too few for different warm-ups, and CE has no α.
        asked = {
            str((c.group.model, c.variant.method, c.configs[0].shared(), c.configs[0].settings))
            for c in cells
        }
        assert len({trial for cell in cells for trial in _ids(cell.configs)}) == trials * len(asked)

    def test_the_protocol_of_table_2_is_the_papers(self):
        config = _expanded("table2")["ResNet14", "LE (Grad-CAM)"][3]
        expected = {
            **{
                "data": "cifar10",
                "model": "resnet14",
                "method": "le",
                "seed": 3,
                "threads": 1,
                "teacher": None,
            },
            **{"epochs": 160, "batch_size": 128, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
            **{"milestones": (80, 120), "padding": 4, "flip": True, "min_scale": None, "optimizer": "sgd"},
            **{"train_size": None, "test_size": None, "val_fraction": 0.0, "precision": "32-true"},
        }
        assert {name: getattr(config, name) for name in expected} == expected
        le = {"saliency": "grad-cam", "similarity": "cosine", "relu": False, "alpha": 0.9, "weight": 0.1}
        assert config.settings == {**le, "layer": None, "warmup": 32}

    def test_the_protocol_of_table_3_is_the_papers(self):
        config = _expanded("table3")["MNIST MLP", "LE (Grad)"][0]
        assert (config.epochs, config.batch_size, config.lr, config.momentum) == (50, 16, 0.01, 0.9)
        assert (config.milestones, config.padding, config.flip, config.warmup) == ((), 0, False, 10)

    @pytest.mark.parametrize(
        ("budget", "expected"),
        [
            ("smoke", (2, 1, (1,), 256, 256)),
            ("quick", (8, 2, (4, 6), 1000, 2000)),
            ("paper", (160, 32, (80, 120), None, None)),
        ],
    )
    def test_a_budget_shortens_every_stage_and_leaves_none_out(self, budget, expected):
        for cell in ("LE (Grad-CAM)", "LE-Uniform"):
            config = _expanded("table2", budget)["ResNet8", cell][0]
            found = (config.epochs, config.warmup, config.milestones, config.train_size, config.test_size)
            assert found == expected

    def test_a_recipe_may_have_a_quick_version_of_its_own_size(self):
        for budget, expected in (("smoke", (2, 512)), ("quick", (12, 5000))):
            config = _expanded("refresh", budget)["MNIST MLP", "CE"][0]
            assert (config.epochs, config.train_size) == expected

    def test_a_recipe_means_what_it_says_whatever_the_presets_become(self, monkeypatch):
        names = ("table1", "table4", "table5", "table6", "search-ls", "figure3")
        before = {name: _expanded(name, "quick", trials=1) for name in names}
        other = {
            "epochs": 3, "batch_size": 7, "lr": 0.3, "momentum": 0.1, "weight_decay": 0.5, "milestones": (0.9,),
            "augment": "none", "optimizer": "adamw", "schedule": "cosine", "val_fraction": 0.3, "warmup": 0.5,
        }  # fmt: skip
        monkeypatch.setattr(presets, "BY_DATA", dict.fromkeys(presets.BY_DATA, ("resnet8", other)))
        monkeypatch.setattr(presets, "BY_MODEL", dict.fromkeys(presets.BY_MODEL, other))
        monkeypatch.setattr(teaching, "TEACHERS", {"resnet.*": "resnet32", "cnn.*": "cnn8"})
        monkeypatch.setattr(teaching, "ASSISTANTS", {"resnet14": "resnet32", "resnet8": "resnet32"})
        assert {name: _expanded(name, "quick", trials=1) for name in names} == before


@pytest.mark.usefixtures("no_images")
class TestSharing:
    @pytest.mark.parametrize("budget", recipes.budgets())
    def test_the_same_cell_in_two_recipes_is_the_same_trial(self, budget):
        """What agrees in network, method, settings and size is trained once; searches share nothing."""
        found = {}
        for name in recipes.names():
            recipe = recipes.load(name)
            alone = name if recipe.kind == "search" else ""
            for (group, _), configs in _expanded(name, budget, trials=2).items():
                settings = json.dumps(configs[0].settings, sort_keys=True)
                described = (group.split(" at ")[0], configs[0].method, settings, alone)
                sizes = (
                    configs[0].train_size,
                    configs[0].val_fraction,
                    configs[0].epochs,
                    configs[0].batch_size,
                )
                described += (configs[0].lr, configs[0].weight_decay, *sizes)
                found.setdefault(described, []).append(tuple(_ids(configs)))
        assert all(len(set(same)) == 1 for same in found.values())
        different = {same[0] for same in found.values()}
        assert len(different) == len(found)

    def test_the_rows_that_the_paper_repeats_are_shared(self):
        tables = {name: _expanded(name, "smoke") for name in recipes.names()}
        for group in ("ResNet14", "ResNet8"):
            for variant in ("CE", "LE (Grad-CAM)", "LE-Uniform"):
                for name in ("table4", "table5", "table6", "figure3"):
                    assert _ids(tables[name][group, variant]) == _ids(tables["table2"][group, variant])
            assert tables["table6"][group, "LE (Grad)"] == tables["figure3"][group, "LE (Grad)"]
        for name in ("table6", "figure2"):
            assert tables[name]["MNIST MLP", "LE (Grad)"] == tables["table3"]["MNIST MLP", "LE (Grad)"]
        assert tables["figure2"]["ResNet14", "LE (Grad-CAM)"] == tables["table2"]["ResNet14", "LE (Grad-CAM)"]
        first = tables["figure2"]["ResNet14", "LE (Grad-CAM)"][:1]
        assert tables["figure1"]["ResNet14", "LE (Grad-CAM)"] == first
        assert (
            tables["similarities"]["ResNet8", "LE (cosine)"] == tables["table2"]["ResNet8", "LE (Grad-CAM)"]
        )
        for place in (("MNIST MLP", "LE (Grad)"), ("ResNet8", "LE (Grad)"), ("ResNet8", "LE-Uniform")):
            assert _ids(tables["refresh"][place]) == _ids(tables["table6"][place])
        for group in ("CNN-8", "CNN-6"):
            assert _ids(tables["sweep-beta"][group, "CE"]) == _ids(tables["table1"][group, "CE"])
            assert _ids(tables["sweep-beta"][group, "beta 0.5"]) == _ids(
                tables["table1"][group, "CWTM-Random"]
            )


@pytest.mark.usefixtures("no_images")
class TestTeachers:
    def test_takd_goes_by_way_of_its_assistant_under_the_same_protocol(self):
        configs = _expanded("table5")
        for group, models in (
            ("ResNet14", ["resnet26", "resnet20", "resnet14"]),
            ("ResNet8", ["resnet26", "resnet14", "resnet8"]),
        ):
            line = lineage(configs[group, "TAKD"][0])
            assert [config.model for config in line] == models
            assert [config.method for config in line] == ["ce", "kd", "takd"]
            assert line[1].settings == {"temperature": 4.0, "weight": 0.1}
            assert {(c.epochs, c.lr, c.milestones, c.data_fingerprint) for c in line} == {
                (160, 0.1, (80, 120), line[0].data_fingerprint)
            }

    def test_one_teacher_serves_all(self):
        taught = [c for configs in _expanded("table5").values() for c in configs if c.teacher]
        firsts = {lineage(config)[0].trial_id for config in taught}
        assert len(firsts) == 1
        assert len(taught) == 2 * 5 * 5

    def test_the_teacher_of_table_1_is_trained_as_its_students(self):
        configs = _expanded("table1")
        teacher = configs["CNN-8", "KD"][0].teacher
        assert (teacher.model, teacher.method, teacher.lr, teacher.milestones) == ("cnn10", "ce", 0.01, ())
        assert configs["CNN-6", "DKPP"][4].teacher == teacher
        assert configs["CNN-6", "CWTM-Random"][0].teacher is None

    def test_the_teacher_of_a_search_never_saw_the_held_out_images(self):
        for configs in _expanded("search-ban").values():
            for config in configs:
                assert config.val_fraction == config.teacher.val_fraction == 0.1
                assert config.teacher.data_fingerprint == config.data_fingerprint
                assert (config.teacher.model, config.teacher.method) == (config.model, "ce")


@pytest.mark.usefixtures("no_images")
class TestChoices:
    def test_what_a_search_selected_is_used_in_its_group(self):
        chosen = {**CHOSEN, ("search-ban", "ResNet14"): 20.0, ("search-ban", "ResNet8"): 1.0}
        cells = expand(recipes.load("table4"), "smoke", chosen)
        found = {(c.group.label, c.variant.label): c.configs[0].settings.get("temperature") for c in cells}
        assert {found["ResNet14", label] for label in ("BAN", "BAN+L")} == {20.0}
        assert {found["ResNet8", label] for label in ("BAN", "BAN+L")} == {1.0}

    def test_what_no_search_selected_yet_is_asked_for(self):
        with pytest.raises(
            InputError, match=r"search-ls has selected no alpha for MNIST MLP yet: selftaught reproduce"
        ):
            expand(recipes.load("table3"), "smoke", {k: v for k, v in CHOSEN.items() if k[0] != "search-ls"})

    def test_the_searches_of_a_recipe_come_with_the_groups_that_matter(self):
        assert searches(recipes.load("table2")) == {}
        assert searches(recipes.load("table3")) == {
            f"search-{key}": ["MNIST MLP"] for key in ("dropout", "ls", "cp")
        }
        assert searches(recipes.load("table4")) == {"search-ban": ["ResNet14", "ResNet8"]}

    def test_the_machine_and_the_seeds_are_the_callers(self):
        configs = _expanded("figure1", "smoke", trials=2, seed=7, threads=2)["MNIST MLP", "LE (Grad)"]
        assert [(c.seed, c.threads, c.device) for c in configs] == [(7, 2, "cpu"), (8, 2, "cpu")]


MINE = """
name: mine
title: mine
kind: table
source: mine
command: selftaught reproduce mine.yaml
expected: {smoke: a, quick: b, paper: c}
protocol:
  digits: {epochs: EPOCHS, batch_size: 32, lr: 0.1, momentum: 0.9, weight_decay: 0, milestones: MILESTONES,
    warmup: WARMUP, augment: none}
groups:
  - {label: G, data: digits, model: resnet8}
variants:
  - {label: CE, method: ce}
  - {label: LE, method: le, settings: {alpha: 0.9}}
"""


def _mine(epochs=4, milestones=(), warmup=0.2, old="name", new="name"):
    text = MINE.replace("EPOCHS", str(epochs)).replace("MILESTONES", str(list(milestones)))
    return recipes.parse(text.replace("WARMUP", repr(warmup)).replace(old, new, 1), "mine.yaml")


class TestRefusals:
    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("resnet8", "resnet9", r"recipe mine: .*resnet9"),
            ("method: le,", "method: lee,", r"recipe mine: unknown method 'lee': did you mean 'le'\?"),
            ("{alpha: 0.9}", "{alfa: 0.9}", r"recipe mine: unknown setting of le 'alfa': did you mean 'alpha'\?"),
            ("{alpha: 0.9}", "{epochs: 9}", r"recipe mine: unknown setting of le 'epochs'"),
            ("{alpha: 0.9}", "{alpha: 2}", r"recipe mine, variant 'LE' in 'G': alpha must be in \(0, 1\], not 2"),
            ("model: resnet8", "model: resnet8, teacher: x", r"recipe mine: unknown model 'x'"),
            ("model: resnet8", "model: 'evil.py:build'", r"recipes, which may come from anywhere, run no code"),
            ("model: resnet8", "model: resnet8, teacher: 'evil.py:build'", r"model 'evil.py:build' is a Python"),
            ("data: digits, model", "data: nowhere, model", r"unknown protocol 'nowhere'"),
        ],
    )  # fmt: skip
    def test_what_a_recipe_names_must_exist(self, old, new, said):
        with pytest.raises(InputError, match=said) as caught:
            expand(_mine(old=old, new=new), "smoke")
        assert "\n" not in str(caught.value)

    def test_a_budget_and_a_number_of_trials_too(self):
        with pytest.raises(InputError, match=r"unknown budget 'smok': did you mean 'smoke'\?"):
            expand(_mine(), "smok")
        with pytest.raises(InputError, match="trials is 0 but should be at least 1"):
            expand(_mine(), "smoke", trials=0)

    @pytest.mark.parametrize("name", recipes.names())
    def test_none_of_ours_is_refused(self, name):
        assert check(recipes.load(name)) is None


@settings(max_examples=40)
@given(
    st.integers(1, 200),
    st.lists(st.floats(0.001, 0.999), max_size=3, unique=True).map(sorted),
    st.sampled_from([0.0, 0.001, 0.2, 0.5, 0.999]),
    st.sampled_from(list(recipes.budgets())),
)
def test_any_protocol_becomes_a_valid_training_at_any_budget(epochs, milestones, warmup, budget):
    bound = recipes.budgets()[budget].of("digits").epochs or epochs
    ce, le = (cell.configs[0] for cell in expand(_mine(epochs, milestones, warmup), budget, trials=1))
    assert ce.epochs == le.epochs == min(epochs, bound)
    assert all(0 < m < ce.epochs for m in ce.milestones)
    assert le.warmup < le.epochs
    assert (le.warmup > 0) == (warmup > 0 and le.epochs > 1)
