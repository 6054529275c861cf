"""The recipe of a comparison, which is made from the flags of a command."""

from collections.abc import Sequence

from selftaught.files.names import called
from selftaught.recipes.schema import Group, Recipe, Variant

COMPARISON = "comparison"
"""The name of the recipe of a comparison."""


def recipe_of(methods: Sequence[str], data: str, model: str, trials: int) -> Recipe:
    """The recipe of a comparison: one group whose variants are the methods.

    It is not checked as a recipe in a file is, since paths may hold bytes that are no text.
    """
    group = Group.model_construct(label=called(data), data=data, model=model)
    return Recipe.model_construct(
        name=COMPARISON,
        title=f"{', '.join(methods)} on {group.label} with {called(model)}",
        kind="table",
        trials=trials,
        groups=(group,),
        variants=tuple(Variant.model_construct(label=method, method=method) for method in methods),
    )
