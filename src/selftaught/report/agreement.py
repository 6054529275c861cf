"""Whether a mean of ours agrees with the printed one."""

import math

from selftaught.recipes.schema import Recipe, Value

FULL = "paper"
"""The budget that follows the paper's protocol."""

PAPER_TRIALS = 5
"""The trials behind each printed mean ± std (Section 3)."""


def against_paper(
    recipe: Recipe, budget: str, mean: float | None, std: float | None, trials: int, value: Value | None
) -> tuple[str, str]:
    """The verdict on a printed value, and why there is none."""
    if value is None or mean is None:
        return "", ""
    reasons = (
        (budget != FULL, "reduced budget"),
        (not value.anchor, "the printed number is doubtful"),
        (trials < recipe.trials, f"fewer than {recipe.trials} trials"),
        (value.std is None, "the paper prints no deviation"),
        (std is None, "one trial has no deviation"),
        (not std and not value.std, "all trials are equal, ours and the paper's"),
    )
    why = next((reason for holds, reason in reasons if holds), "")
    if why:
        return "not comparable", why
    error = math.sqrt((std or 0) ** 2 / trials + (value.std or 0) ** 2 / PAPER_TRIALS)
    if abs(mean - value.mean) <= 2 * error:
        return "agrees", ""
    return ("better" if (mean > value.mean) == (recipe.metric == "accuracy") else "worse"), ""
