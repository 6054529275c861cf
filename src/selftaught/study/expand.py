"""From a recipe to the configurations of its runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from selftaught import errors, models
from selftaught.activities import OnActivity, nobody
from selftaught.errors import InputError
from selftaught.files.config import RunConfig
from selftaught.methods import registry
from selftaught.recipes import Budget, Group, Recipe, Selected, Variant, budgets
from selftaught.training.presets import resolve

Chosen = Mapping[tuple[str, str], float]
"""What searches selected, by the search's name and the group's label."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table: a variant in a group, one configuration per seed."""

    group: Group
    variant: Variant
    configs: tuple[RunConfig, ...]


def expand(
    recipe: Recipe,
    budget: str,
    chosen: Chosen = MappingProxyType({}),
    trials: int | None = None,
    seed: int = 0,
    threads: int = 1,
    precision: str = "32-true",
    device: str | None = None,
    on_activity: OnActivity = nobody,
) -> list[Cell]:
    """The cells of a recipe, by group and then by variant, both in the recipe's order.

    Every value of the protocol is given to `resolve`, so that a recipe means what it says whatever the presets
    become; a cell that is in two recipes is the same trial.

    Args:
        recipe: what to run.
        budget: "smoke", "quick" or "paper".
        chosen: what `selftaught.report.selection.select` made of the searches that the recipe refers to.
        trials: seeds per cell, by default what the budget says.
        seed: the first of them.
        threads: see `RunConfig`, as are `precision` and `device`.
        on_activity: hears of the reading of the data.

    Raises:
        InputError: an unknown budget, method, model or setting, a value out of range, or a search whose result is
            not there yet.
    """
    check(recipe)
    if budget not in budgets():
        raise errors.unknown("budget", budget, budgets())
    size = budgets()[budget].for_recipe(recipe)
    count = size.trials_of(recipe) if trials is None else trials
    if count < 1:
        raise InputError(f"trials is {count} but should be at least 1")
    more = {"threads": threads, "precision": precision, "device": device, "on_activity": on_activity}
    cells: dict[str, list[Cell]] = {}
    # Data is kept for the next run in memory, one at a time.
    for group in sorted(recipe.groups, key=lambda group: group.data):
        cells[group.label] = [
            _cell(recipe, group, variant, _options(recipe, group, variant, size, chosen) | more, seed, count)
            for variant in recipe.variants
            if variant.runs_in(group.label)
        ]
    return [cell for group in recipe.groups for cell in cells[group.label]]


def searches(recipe: Recipe) -> dict[str, list[str]]:
    """The searches that must be finished before the recipe can be expanded, each with the groups that matter.

    >>> from selftaught import recipes
    >>> searches(recipes.load("table3"))["search-ls"]
    ['MNIST MLP']
    """
    found: dict[str, list[str]] = {}
    for group in recipe.groups:
        for variant in recipe.variants:
            for value in variant.settings_in(group.label).values() if variant.runs_in(group.label) else ():
                if isinstance(value, Selected) and group.label not in found.setdefault(value.selected, []):
                    found[value.selected].append(group.label)
    return found


def check(recipe: Recipe) -> None:
    """Refuse a recipe with an unknown model or method, a model that is code, or a setting that a method does not have.

    Raises:
        InputError: naming the recipe and the culprit.
    """
    for group in recipe.groups:
        for model in filter(None, (group.model, group.teacher, group.assistant)):
            if _told(recipe, lambda model=model: models.runs_code(model)):
                raise InputError(
                    f"recipe {recipe.name}: model {model!r} is a Python file, and recipes, which may come from "
                    f"anywhere, run no code: name it yourself, selftaught compare DATA --model {model}"
                )
            _told(recipe, lambda model=model: models.is_spatial(model))
    for variant in recipe.variants:
        had = _told(recipe, lambda variant=variant: registry.settings(variant.method))
        for name in [*variant.settings, *(name for more in variant.by_group.values() for name in more)]:
            if name not in had:
                problem = errors.unknown(f"setting of {variant.method}", name, had)
                raise InputError(f"recipe {recipe.name}: {problem}")


def _told(recipe: Recipe, ask: Any) -> Any:
    try:
        return ask()
    except InputError as error:
        raise InputError(f"recipe {recipe.name}: {error}") from None


def _cell(
    recipe: Recipe, group: Group, variant: Variant, options: dict[str, Any], seed: int, count: int
) -> Cell:
    try:
        configs = [
            resolve(group.data, variant.method, model=group.model, seed=seed + offset, **options)
            for offset in range(count)
        ]
    except InputError as error:
        raise InputError(
            f"recipe {recipe.name}, variant {variant.label!r} in {group.label!r}: {error}"
        ) from None
    return Cell(group, variant, tuple(configs))


def _options(
    recipe: Recipe, group: Group, variant: Variant, budget: Budget, chosen: Chosen
) -> dict[str, Any]:
    """What a variant's runs in a group are given, but for seed and machine."""
    protocol, bound = recipe.protocol_of(group, variant), budget.of(group.data)
    options = protocol.options(min(protocol.epochs, bound.epochs or protocol.epochs))
    options |= bound.model_dump(exclude_none=True, exclude={"epochs"})
    options |= {
        "split_seed": 0,
        "subset_per_trial": False,
        "teacher": group.teacher,
        "assistant": group.assistant,
    }
    return options | _settings(group, variant, chosen)


def _settings(group: Group, variant: Variant, chosen: Chosen) -> dict[str, Any]:
    """The variant's settings in the group, with what was selected in its place."""
    settings: dict[str, Any] = {}
    for name, value in variant.settings_in(group.label).items():
        if isinstance(value, Selected):
            if (value.selected, group.label) not in chosen:
                raise InputError(
                    f"{value.selected} has selected no {name} for {group.label} yet: "
                    f"selftaught reproduce {value.selected} does"
                )
            value = chosen[value.selected, group.label]
        settings[name] = value
    return settings
