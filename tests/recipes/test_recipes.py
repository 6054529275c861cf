"""The recipes that come with the package, and reading one's own."""

import subprocess
import sys
from importlib import resources

import pytest

from selftaught import recipes
from selftaught.errors import InputError
from selftaught.files.config import NEUTRAL
from selftaught.methods import registry
from selftaught.recipes.budget import BUDGETS
from selftaught.recipes.schema import Selected

FILES = resources.files("selftaught.recipes")


def test_tables_come_first_then_figures():
    assert recipes.names() == [
        *(f"table{i}" for i in range(1, 7)),
        *(f"figure{i}" for i in range(1, 4)),
        *("controls", "open-points", "refresh", "search-ban", "search-cp", "search-dropout", "search-fsp"),
        *("search-ls", "share", "similarities", "sweep-beta", "weight-decay"),
    ]


@pytest.mark.parametrize("name", recipes.names())
def test_every_file_says_at_its_head_what_it_is(name):
    recipe = recipes.load(name)
    assert recipe.name == name
    assert recipes.summary(name) == recipe.title
    assert recipe.notes
    assert recipe.command == f"selftaught reproduce {name}"
    head = (FILES / f"{name}.yaml").read_text(encoding="utf-8").split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert recipe.command in head


@pytest.mark.parametrize("name", recipes.names())
def test_le_comes_with_its_control_and_with_every_setting_spelled_out(name):
    recipe = recipes.load(name)
    for group in recipe.groups:
        variants = [variant for variant in recipe.variants if variant.runs_in(group.label)]
        settings = {variant.label: variant.settings_in(group.label) for variant in variants}
        for variant in variants:
            # The protocol has the warm-up; the others change nothing unless somebody wants them.
            optional = {"layer", *NEUTRAL}
            asked = set(registry.settings(variant.method)) - {"warmup"} - optional
            assert set(settings[variant.label]) - optional == asked
        if recipe.kind in ("table", "figure3") and any(v.method == "le" for v in variants):
            control = settings["LE-Uniform"]
            for variant in variants:
                if variant.method in ("le", "le-permut") and variant.based_on is None:
                    own = settings[variant.label]
                    assert (control["alpha"], control["weight"]) == (own["alpha"], own["weight"])
                    assert name == "share" or (own["alpha"], own["weight"]) == (0.9, 0.1)


@pytest.mark.parametrize("name", [name for name in recipes.names() if recipes.load(name).kind == "table"])
def test_every_table_has_the_baseline_in_every_group(name):
    recipe = recipes.load(name)
    baseline = [v for v in recipe.variants if v.method == "ce" and v.based_on is None]
    assert [variant.groups for variant in baseline] == [None]


def test_what_is_searched_for_is_marked_so():
    selected = {
        (name, variant.label, setting): value.selected
        for name in recipes.names()
        for variant in recipes.load(name).variants
        for setting, value in variant.settings.items()
        if isinstance(value, Selected)
    }
    assert selected == {
        ("table3", "Dropout", "drop_rate"): "search-dropout",
        ("table3", "LS", "alpha"): "search-ls",
        ("table3", "CP", "strength"): "search-cp",
        ("table4", "BAN", "temperature"): "search-ban",
        ("table4", "BAN+L", "temperature"): "search-ban",
    }


def test_recipes_are_read_without_torch():
    code = "from selftaught import recipes; recipes.load('table3'); recipes.budgets()"
    code += "; import sys; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_a_file_of_ones_own_is_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        (FILES / "table2.yaml").read_text(encoding="utf-8").replace("trials: 5", ""), encoding="utf-8"
    )
    assert recipes.load(str(path)) == recipes.load("table2")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tabel2", r"unknown recipe 'tabel2': did you mean 'table2'\?.*; one of your own is a file"),
        ("nowhere/mine.yaml", r"there is no file nowhere/mine\.yaml: name a recipe's YAML file"),
    ],
)
def test_a_recipe_that_is_not_there_is_named(name, said):
    with pytest.raises(InputError, match=said):
        recipes.load(name)


def test_a_folder_and_a_file_that_is_no_text_are_named(tmp_path):
    (tmp_path / "a.yaml").mkdir()
    with pytest.raises(InputError, match="is not a regular file"):
        recipes.load(str(tmp_path / "a.yaml"))
    (tmp_path / "b.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no UTF-8 text"):
        recipes.load(str(tmp_path / "b.yml"))


class TestBudgets:
    def test_they_grow_and_paper_leaves_the_recipe_alone(self):
        budgets = recipes.budgets()
        assert tuple(budgets) == BUDGETS
        for data in ("cifar10", "mnist"):
            smoke, quick = budgets["smoke"].of(data), budgets["quick"].of(data)
            assert smoke.epochs < quick.epochs
            assert smoke.train_size < quick.train_size
            assert smoke.test_size < quick.test_size
            assert set(budgets["paper"].of(data).model_dump().values()) == {None}

    @pytest.mark.parametrize(
        ("name", "trials"), [("table2", [2, 3, 5]), ("figure1", [1, 1, 1]), ("search-ls", [1, 1, 5])]
    )
    def test_they_bound_the_trials(self, name, trials):
        assert [budget.trials_of(recipes.load(name)) for budget in recipes.budgets().values()] == trials

    def test_data_that_is_not_named_has_fewer_epochs_too(self):
        assert [budget.of("my-flowers").epochs for budget in recipes.budgets().values()] == [2, 8, None]
