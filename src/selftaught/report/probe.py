"""The linear probe beside fine-tuned networks: what its row is, and whether fine-tuning was worth it."""

from collections import Counter
from collections.abc import Mapping, Sequence

from selftaught.files.catalogue import PROBE
from selftaught.files.results import Record
from selftaught.report.differences import CLEAR, Difference

_ADVICE = (
    "What is compared on networks that are no better than their own features says little of the methods: train longer "
    "(--epochs) or with another learning rate (--lr), and take the probe until fine-tuning beats it."
)


def remark(
    name: str,
    accuracy: float,
    of_probe: float,
    difference: Difference | None,
    above: Mapping[str, float],
) -> str | None:
    """What to say first where plain fine-tuning is not better than the probe; None where it is.

    Args:
        name: of the method that others are compared with.
        accuracy: its mean, a fraction.
        of_probe: the probe's.
        difference: the probe's to it, None where they have no seeds in common.
        above: the methods that are right more often than the probe, with their accuracies.
    """
    numbers = (
        f"{name} is right on {100 * accuracy:.2f} % of the test images, a linear classifier on the pretrained "
        f"network's features on {100 * of_probe:.2f} %"
    )
    if accuracy <= of_probe:
        if above:
            numbers += ", above it " + ", ".join(
                f"{one} on {100 * share:.2f} %" for one, share in above.items()
            )
        return f"Fine-tuning does not beat the linear probe here: {numbers}. {_ADVICE}"
    if difference is not None and difference.p is not None and difference.verdict not in CLEAR:
        return (
            f"Fine-tuning is not clearly better than the linear probe here: {numbers}. More trials or test images "
            "would tell; the probe costs next to nothing."
        )
    return None


def caption(records: Sequence[Record]) -> str | None:
    """What the row is; None without one."""
    runs = [run for run in records if run.config.method == PROBE]
    if not runs:
        return None
    strengths = strength(runs)
    return (
        f"{PROBE}: a linear classifier on the features of the pretrained network, which itself is not trained"
        + (f"; its C was chosen on held-out training images ({strengths})" if strengths else "")
        + "."
    )


def strength(runs: Sequence[Record]) -> str:
    """The strengths that were chosen, with how many trials chose each; empty where nobody knows."""
    counts = Counter(run.result.strength for run in runs if run.result.strength is not None)
    if len(counts) == 1:
        return f"{next(iter(counts)):g}"
    return ", ".join(
        f"{value:g} in {count} trial{'s' if count > 1 else ''}" for value, count in sorted(counts.items())
    )
