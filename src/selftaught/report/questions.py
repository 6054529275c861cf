"""What is compared with what: the questions that a table asks before any trial is looked at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from selftaught.files.catalogue import PROBE
from selftaught.recipes.schema import Recipe

Place = tuple[str, str]
"""A cell's group and variant."""

REFERENCE = "reference"
"""What the comparison with the variant that the recipe names is called: the one that a variant is an alternative to, or
its method's. The others are called by the method that they are with."""

CONTROLS = ("ce", "le-uniform")
"""The methods that all others of a recipe are compared with; LE is compared with all."""

_UNPERMUTED = {"dkpp": "kd"}
"""What else is compared: a method with what it is a control of."""


@dataclass(frozen=True)
class Question:
    """Whether a cell is better than the `base`; `name` is what the comparison is called.

    One that stands `apart` was not asked for, and does not make the answers to the others any harder.
    """

    cell: Place
    base: Place
    name: str
    apart: bool = False


def baseline_of(methods: Sequence[str]) -> str:
    """What the methods of a comparison are compared with: ``ce``, else the first one that is not the linear probe.

    >>> baseline_of(["le", "ce"]), baseline_of(["probe", "ls", "le"]), baseline_of(["probe"])
    ('ce', 'ls', 'probe')
    """
    return "ce" if "ce" in methods else next((one for one in methods if one != PROBE), methods[0])


def of_methods(places: Sequence[Place], baseline: str) -> list[Question]:
    """Those of a comparison: every method with the baseline, and LE with all others, its controls among them.

    The linear probe stands apart.

    >>> asked = of_methods([("d", m) for m in ("ce", "ls", "le-uniform", "le", "probe")], "ce")
    >>> [(question.cell[1], question.base[1]) for question in asked if not question.apart]
    [('ls', 'ce'), ('le-uniform', 'ce'), ('le', 'ce'), ('le', 'ls'), ('le', 'le-uniform')]
    >>> [(question.cell[1], question.base[1]) for question in asked if question.apart]
    [('probe', 'ce')]
    """
    place = {method: (group, method) for group, method in places}
    others = [method for method in place if method not in (baseline, PROBE)]
    pairs = [(method, baseline) for method in others]
    if "le" in others:
        pairs += [("le", base) for base in others if base != "le"]
    asked = [Question(place[method], place[base], base) for method, base in pairs]
    if PROBE in place and baseline != PROBE:
        asked.append(Question(place[PROBE], place[baseline], baseline, apart=True))
    return asked


def of_recipe(recipe: Recipe, places: Sequence[Place]) -> Iterator[Question]:
    """Those of a recipe, within each group: of all methods with CE and LE-Uniform, and of LE with all others.

    Where the recipe names a reference, the other variants of its method are compared with that too; what is instead of
    another variant is compared with that one alone.
    """
    alternatives = {variant.label: variant.based_on for variant in recipe.variants if variant.based_on}
    for group, variant in places:
        method = recipe.variant(variant).method
        here = [label for other, label in places if other == group and label != variant]
        alternative_to = alternatives.get(variant)
        if alternative_to is None:
            first: dict[str, str] = {}
            for label in (label for label in here if label not in alternatives):
                first.setdefault(recipe.variant(label).method, label)
            for base, label in first.items():
                if _is_compared(method, base):
                    yield Question((group, variant), (group, label), base)
        reference = alternative_to or recipe.reference
        same = alternative_to or (reference in here and recipe.variant(str(reference)).method == method)
        if same and reference in here:
            yield Question((group, variant), (group, str(reference)), REFERENCE)


def _is_compared(method: str, base: str) -> bool:
    if method == base:
        return False
    if {method, base} <= set(CONTROLS):
        return base == CONTROLS[0]  # once is enough
    return method == "le" or base in CONTROLS or _UNPERMUTED.get(method) == base
