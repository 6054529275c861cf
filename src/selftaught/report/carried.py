"""What the soft labels of explanations say, where that is too little to learn from."""

from collections.abc import Iterator, Sequence

import numpy as np

from selftaught.files.results import OPPOSITE, Record

MOSTLY = 0.5
"""From this share of wrong classes with nearly opposite maps on, leftovers decide what the others get."""

NEARLY_EVEN = 0.05
"""Soft labels that have less than this share of their rest elsewhere than even ones are even for all that is known."""


def cautions(records: Sequence[Record]) -> Iterator[str]:
    """One sentence for each method whose explanations say little."""
    for method in dict.fromkeys(run.config.method for run in records):
        said = caution([run for run in records if run.config.method == method], method)
        if said:
            yield said


def caution(runs: Sequence[Record], name: str) -> str | None:
    """What to say of runs that were trained alike; nothing of older records, which did not measure it.

    Args:
        runs: of one method and its settings; what they measured is averaged.
        name: of the method or the cell.
    """
    found = [run.result.soft_labels for run in runs if run.result.soft_labels is not None]
    if not found or len(runs[0].result.data.classes) < 3:
        return None
    opposite, moved, classes = (
        float(np.mean([getattr(one, name) for one in found])) for name in ("opposite", "moved", "classes")
    )
    if opposite < MOSTLY and moved >= NEARLY_EVEN:
        return None
    settings = runs[0].config.settings
    rest = 1 - float(settings.get("alpha") or 0.0)
    wrong = len(runs[0].result.data.classes) - 1
    says = (
        f"{name}'s soft labels of the last epoch put {100 * rest * moved:.2g} % of the probability elsewhere than "
        f"even ones would (wrong classes have {100 * rest:.3g} % in all), as if {classes:.1f} of {wrong} wrong classes "
        "shared it"
    )
    if opposite < MOSTLY:
        return f"{says}: they are nearly even, so that {name} can hardly differ from even soft labels (le-uniform)."
    return (
        f"{says}; leftovers decide which, since {100 * opposite:.0f} % of the wrong classes' maps are nearly "
        f"opposite to the true class's ({settings.get('similarity', 'cosine')} −{-OPPOSITE:g} or less)."
    )
