"""The paper's tables and figures as data: protocol, variants and printed numbers, one YAML file each.

Nothing here imports torch, so that listing and validating recipes is fast.
"""

from functools import cache
from importlib import resources
from pathlib import Path

from selftaught import errors
from selftaught.errors import InputError
from selftaught.recipes import reading
from selftaught.recipes.budget import BUDGETS, Budget
from selftaught.recipes.changes import DataBudget, Protocol
from selftaught.recipes.schema import Group, Quoted, Recipe, Search, Variant
from selftaught.recipes.values import Selected, Value

__all__ = [
    "Budget",
    "DataBudget",
    "Group",
    "Protocol",
    "Quoted",
    "Recipe",
    "Search",
    "Selected",
    "Value",
    "Variant",
    "budgets",
    "load",
    "names",
    "parse",
    "summary",
]

_FILES = resources.files(__name__)
_BUDGETS = "budgets.yaml"


@cache
def names() -> list[str]:
    """The recipes that come with the package: tables, figures, then the others.

    >>> names()[:7]
    ['table1', 'table2', 'table3', 'table4', 'table5', 'table6', 'figure1']
    """
    found = (file.name for file in _FILES.iterdir() if file.name.endswith(".yaml") and file.name != _BUDGETS)
    first = ("table", "figure")

    def place(name: str) -> tuple[int, str]:
        return next((i for i, prefix in enumerate(first) if name.startswith(prefix)), len(first)), name

    return sorted((name.removesuffix(".yaml") for name in found), key=place)


def summary(name: str) -> str:
    """A recipe in one line.

    >>> summary("table2")
    'CNNs trained with different regularizations on CIFAR-10'
    """
    return load(name).title


def load(name: str) -> Recipe:
    """The recipe called `name`, or that in the YAML file `name`.

    Raises:
        InputError: there is none of that name, or the file cannot be read or is no recipe.
    """
    if name.endswith((".yaml", ".yml")):
        return parse(reading.text(Path(name)), name)
    if name not in names():
        raise InputError(f"{errors.unknown('recipe', name, names())}; one of your own is a file, NAME.yaml")
    return _packaged(name)


def parse(text: str, where: str) -> Recipe:
    """The recipe in this YAML text; `where` is what the errors call it.

    Raises:
        InputError: it is no recipe; one line with the place and the remedy.
    """
    recipe = reading.model(Recipe, reading.mapping(text, where), where)
    _check_searches(recipe, where)
    return recipe


@cache
def budgets() -> dict[str, Budget]:
    """How much of a recipe can be run, by name, the smallest first.

    >>> list(budgets())
    ['smoke', 'quick', 'paper']
    """
    values = reading.mapping((_FILES / _BUDGETS).read_text(encoding="utf-8"), _BUDGETS)
    return {
        name: reading.model(Budget, {"name": name, **values.get(name, {})}, f"{_BUDGETS}: {name}")
        for name in BUDGETS
    }


@cache
def _packaged(name: str) -> Recipe:
    file = f"{name}.yaml"
    return parse((_FILES / file).read_text(encoding="utf-8"), file)


def _check_searches(recipe: Recipe, where: str) -> None:
    """Refuse a value that is to be selected by what does not search for it in that group."""
    for group in recipe.groups:
        for variant in recipe.variants:
            if not variant.runs_in(group.label):
                continue
            for setting, value in variant.settings_in(group.label).items():
                if isinstance(value, Selected):
                    _check_search(value.selected, setting, group, f"{where}: variant {variant.label!r}")


def _check_search(name: str, setting: str, group: Group, where: str) -> None:
    # By its name first: a recipe that refers to itself must not be read for ever.
    searches = [known for known in names() if known.startswith("search-")]
    if name not in searches:
        raise InputError(f"{where}: {errors.unknown('search', name, searches)}")
    found = _packaged(name)
    if found.search is None or found.search.setting != setting:
        raise InputError(f"{where}: {name} does not search for {setting}: refer to another search")
    same = [g for g in found.groups if g.label == group.label]
    if not same or (same[0].data, same[0].model) != (group.data, group.model):
        raise InputError(
            f"{where}: {name} has no group {group.label!r} with {group.model} on {group.data}: "
            "give the setting a value there"
        )
