"""What a study will take, said before it begins."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from time import monotonic

from selftaught.activities import OnActivity, activity, nobody
from selftaught.errors import SelftaughtError
from selftaught.files.config import RunConfig
from selftaught.training.estimate import Estimate, estimate

LONGEST = 60.0
"""Seconds after which no further kind of trial is measured."""

_NO_MATTER = {
    *("data_fingerprint", "seed", "split_seed", "subset_seed", "teacher"),
    *("lr", "momentum", "weight_decay", "milestones", "settings"),
}
"""Fields of a configuration that have no say in how long its training takes, or a say in part."""


@dataclass(frozen=True)
class Outlook:
    """Of trials that are to be trained: `seconds` in all, `memory` in bytes of one, what is explained by method.

    Trials of one kind take equally long; `measured` of the `kinds` were, the others are reckoned up from them.
    `failures` say by method why steps could not be taken; with no kind measured there are no seconds and no memory.
    """

    seconds: float
    memory: int
    explained: dict[str, str]
    measured: int = 0
    kinds: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def outlook(pending: Sequence[RunConfig], jobs: int = 1, on_activity: OnActivity = nobody) -> Outlook:
    """Measure a few steps of each kind of trial and reckon up; `jobs` of at least one trial run at once.

    What is not training is left out: reading the data, starting processes, timing the steps for the table. Kinds of
    which there are most epochs come first; after `LONGEST` seconds the others are taken to be like those.
    """
    kinds = [_kind(config) for config in pending]
    first = dict(zip(reversed(kinds), reversed(pending), strict=True))
    epochs = Counter[str]()
    for kind, config in zip(kinds, pending, strict=True):
        epochs[kind] += config.epochs
    found, failures, begun = dict[str, Estimate](), dict[str, str](), monotonic()
    with activity(on_activity, "measuring a few steps of each method", len(first)) as doing:
        for kind, _ in epochs.most_common():
            if found and monotonic() - begun > LONGEST:
                break
            with activity(doing, first[kind].method):
                try:
                    found[kind] = estimate(first[kind])
                except (
                    SelftaughtError,
                    RuntimeError,
                ) as error:  # its trials will fail, and the others will not
                    failures[first[kind].method] = str(error)
            doing.advance(len(found) + len(failures))
    if not found:
        return Outlook(0.0, 0, {}, kinds=len(first), failures=failures)
    measured = {kind: (first[kind], of_kind.seconds) for kind, of_kind in found.items()}
    times = sorted((_seconds(*pair, measured) for pair in zip(kinds, pending, strict=True)), reverse=True)
    # Each worker takes the next trial when it is done: the sum shared out, but never less than the longest.
    return Outlook(
        seconds=max(sum(times) / jobs, times[0]),
        memory=max(of_kind.memory for of_kind in found.values()),
        explained={first[kind].method: one.explained for kind, one in found.items() if one.explained},
        measured=len(found),
        kinds=len(first),
        failures=failures,
    )


def _kind(config: RunConfig) -> str:
    """What trials that take equally long have in common."""
    counts = {
        name: value
        for name, value in config.settings.items()
        if isinstance(value, str | bool) or name in ("refresh", "warmup")
    }
    return json.dumps([config.model_dump(mode="json", exclude=_NO_MATTER), counts])


def _seconds(kind: str, config: RunConfig, measured: Mapping[str, tuple[RunConfig, float]]) -> float:
    """Of a trial: measured, or as many epochs as it has at the speed of those that are most like it."""
    if kind in measured:
        return measured[kind][1]

    def likeness(other: RunConfig) -> list[bool]:
        return [other.model == config.model, other.data == config.data, other.method == config.method]

    most = max(likeness(other) for other, _ in measured.values())
    alike = [seconds / other.epochs for other, seconds in measured.values() if likeness(other) == most]
    return config.epochs * mean(alike)
