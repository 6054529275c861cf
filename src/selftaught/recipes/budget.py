"""How much of a recipe is run."""

from typing import Literal

from pydantic import Field

from selftaught.recipes.changes import DataBudget
from selftaught.recipes.schema import Recipe
from selftaught.recipes.values import Count, Strict, Text

BUDGETS = ("smoke", "quick", "paper")
"""How much of a recipe is run, the smallest first."""


class Budget(Strict):
    """How much of a recipe is run.

    `trials` and `search_trials` (those of each value of a search) are upper bounds, None for the recipe's own
    number. `data` is by the name of the data; ``other`` is for all that are not named.
    """

    name: Literal["smoke", "quick", "paper"]
    summary: Text
    trials: Count | None = None
    search_trials: Count | None = None
    data: dict[str, DataBudget] = Field(default_factory=dict)

    def for_recipe(self, recipe: Recipe) -> "Budget":
        """The budget with what the recipe says of its size."""
        own = recipe.quick if self.name == "quick" else {}
        return self.model_copy(update={"data": {**self.data, **own}})

    def trials_of(self, recipe: Recipe) -> int:
        """How many seeds of each cell of `recipe` are run."""
        bound = self.search_trials if recipe.kind == "search" else self.trials
        return recipe.trials if bound is None else min(bound, recipe.trials)

    def of(self, data: str) -> DataBudget:
        """What it changes of the runs on `data`."""
        return self.data.get(data) or self.data.get("other") or DataBudget()
