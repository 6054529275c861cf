"""From a search's runs to what it selected."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from selftaught.errors import InputError
from selftaught.files import evidence
from selftaught.files.results import Record
from selftaught.recipes.schema import Recipe


def select(
    recipe: Recipe, records: Mapping[tuple[str, str], Sequence[Record]]
) -> dict[tuple[str, str], float]:
    """The value that a search found best for each group, fit for `expand`'s `chosen`.

    The best has the highest accuracy on the held-out training images after the last epoch, averaged over its
    trials; of equals the one with the lower NLL there, then the first. A value with failed trials is not chosen while
    there is one with more finished ones. Test images play no part.

    Args:
        recipe: of kind "search".
        records: its finished trials, by group label and variant label; groups without any are left out.

    Raises:
        InputError: the recipe is no search, or a record has no held-out accuracy.
    """
    if recipe.search is None:
        raise InputError(f"recipe {recipe.name} is no search: nothing can be selected by it")
    values, label = recipe.search.values, recipe.search.label
    chosen = {}
    for group in recipe.groups:
        merits = {value: _merit(records.get((group.label, label(value)), ())) for value in values}
        if any(finished for finished, _, _ in merits.values()):
            chosen[recipe.name, group.label] = max(merits, key=merits.__getitem__)  # the first of equals
    return chosen


def _merit(records: Sequence[Record]) -> tuple[int, float, float]:
    if not records:
        return 0, 0.0, 0.0
    accuracy, nll, _ = np.mean([evidence.scores(record, "held-out") for record in records], axis=0)
    # Rounded so that the order of summing decides no tie.
    return len(records), round(float(accuracy), 12), -math.inf if math.isnan(nll) else -float(nll)
