"""A study of recipes by their names: tables and figures of the paper, and a user's own."""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from selftaught import errors, recipes
from selftaught.activities import OnActivity, activity, nobody
from selftaught.errors import InputError
from selftaught.files import record
from selftaught.files import study_folder as folder
from selftaught.recipes import Recipe
from selftaught.study.demands import ALL
from selftaught.study.expand import Cell, Chosen, expand
from selftaught.study.studies import Study, check_budget, searches_for

_RESERVED = ("comparison", "costs", "graph", "measures", "report", "study", "table", "trials")
"""Names of other files in a study's directory."""


def prepare(
    names: Sequence[str],
    budget: str,
    out: str | os.PathLike,
    options: Mapping[str, Any],
    command: Sequence[str] = (),
    variants: Sequence[str] = (),
    groups: Sequence[str] = (),
    keep_checkpoints: bool = False,
    on_activity: OnActivity = nobody,
) -> Study:
    """A study of recipes in directory `out`, which is looked at but not touched.

    Args:
        names: recipes, files of one's own, or "all", which with labels is every table that has them and the searches
            that it needs.
        budget: "smoke", "quick" or "paper".
        out: the directory; finished trials that are there are kept.
        options: of `selftaught.study.expand.expand`: trials, seed, threads, device, precision.
        command: what the user typed.
        variants: labels of the variants to run of what is asked for, searches aside; all of them if empty.
        groups: labels of the groups, the networks or data, to run them in, likewise.
        keep_checkpoints: whether those of finished trials stay.
        on_activity: hears of planning, whenever something is planned.

    Raises:
        InputError: an unknown recipe, variant, group or budget, a value out of range, or `out` holds something else.
    """
    whole, asked = _wanted(names, variants, groups)
    found = {recipe.name: recipe for recipe in asked}
    if budget not in recipes.budgets():
        raise errors.unknown("budget", budget, recipes.budgets())
    found |= searches_for(list(found.values()))
    directory = folder.checked(out)
    check_budget(directory, budget)
    _check_machine(directory, options)
    own = tuple(recipe.name for recipe in asked)
    narrowed = {
        recipe.name: recipe for recipe in whole if recipe.name in own and recipe != found[recipe.name]
    }

    def cells(recipe: Recipe, chosen: Chosen) -> list[Cell]:
        # A search that is only referred to keeps the budget's number of trials.
        options_of = {
            name: value for name, value in options.items() if recipe.name in own or name != "trials"
        }
        with activity(on_activity, f"planning {recipe.name}") as doing:
            return expand(recipe, budget, chosen, on_activity=doing, **options_of)

    return Study(
        tuple(found.values()),
        directory,
        cells,
        budget,
        tuple(command),
        own,
        narrowed,
        keep_checkpoints=keep_checkpoints,
    )


def _wanted(
    names: Sequence[str], variants: Sequence[str], groups: Sequence[str]
) -> tuple[list[Recipe], list[Recipe]]:
    """The recipes of these names, and what is to be run of them."""
    wanted = dict.fromkeys(n for name in names for n in (recipes.names() if name == ALL else [name]))
    if not wanted:
        raise InputError(f"no recipe given: name some of {', '.join(recipes.names())}, or all")
    whole = list(map(recipes.load, wanted))
    _check_names(list(wanted), whole)
    return whole, _chosen(whole, variants, groups, optional=wanted.keys() - set(names))


def _check_machine(directory: Path, options: Mapping[str, Any]) -> None:
    """Refuse what makes other trials than those that are there, whose lines would vanish from the tables.

    Raises:
        InputError: naming the option and what the trials have.
    """
    there = next(iter(sorted((directory / folder.TRIALS).glob(f"*/{record.CONFIG}"))), None)
    if there is None:
        return
    try:
        config = record.read_config(there.parent)
    except InputError:  # damaged: whoever needs it says so
        return
    asked = {"threads": 1, "precision": "32-true", "device": "auto", **options}
    if asked["device"] == "auto":
        asked["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    for name in ("threads", "precision", "device"):
        value = getattr(config, name)
        if value != asked[name]:
            raise InputError(
                f"{directory} holds trials with {name} {value}, not {asked[name]}: give --{name} {value}, or choose "
                "another --out"
            )


def _check_names(wanted: Sequence[str], loaded: Sequence[Recipe]) -> None:
    """Refuse a recipe of one's own that is called like another, or like another file of the study."""
    taken = Counter((*_RESERVED, *recipes.names()))
    taken.update(
        recipe.name for name, recipe in zip(wanted, loaded, strict=True) if name not in recipes.names()
    )
    for recipe in loaded:
        if taken[recipe.name] > 1:
            raise InputError(f"the name {recipe.name!r} of a recipe is taken: call it something else")


def _chosen(
    asked: Sequence[Recipe], variants: Sequence[str], groups: Sequence[str], optional: Collection[str]
) -> list[Recipe]:
    """The recipes with the variants and groups of these labels alone, all of them where none is given.

    Searches keep theirs, since they select among them. Of the recipes named in `optional` those stay that have some
    of the labels; their searches come with the tables that refer to them.
    """
    if not variants and not groups:
        return list(asked)
    tables = [recipe for recipe in asked if recipe.search is None]
    if not tables:
        raise InputError("a search runs all its variants and groups: leave out --variant and --group")
    _check_labels("variant", variants, [variant.label for recipe in tables for variant in recipe.variants])
    _check_labels("group", groups, [group.label for recipe in tables for group in recipe.groups])
    what = "groups" if not variants else "variants in these groups" if groups else "variants"
    chosen = []
    for recipe in asked:
        part = recipe if recipe.search is not None else _part_of(recipe, variants, groups)
        if part is None and recipe.name not in optional:
            raise InputError(f"{recipe.name} has none of these {what}: leave it out, or name one of its own")
        if part is not None and (recipe in tables or recipe.name not in optional):
            chosen.append(part)
    if not chosen:
        raise InputError(f"no recipe has any of these {what}")
    return chosen


def _check_labels(what: str, asked: Sequence[str], known: Sequence[str]) -> None:
    for label in asked:
        if label not in known:
            raise errors.unknown(what, label, list(dict.fromkeys(known)))


def _part_of(recipe: Recipe, variants: Sequence[str], groups: Sequence[str]) -> Recipe | None:
    """What a table has of these variants and groups, None if it is nothing."""
    own = [variant.label for variant in recipe.variants if variant.label in variants]
    part = recipe.only(own, groups)
    return None if (variants and not own) or not part.groups else part
