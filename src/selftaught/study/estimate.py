"""What a comparison will take, said before it begins."""

from collections.abc import Sequence
from dataclasses import dataclass

from selftaught.activities import activity
from selftaught.files.config import RunConfig
from selftaught.study.compare import Study
from selftaught.training.estimate import estimate


@dataclass(frozen=True)
class StudyEstimate:
    """Of the trials that are not finished: `seconds` in all, `memory` in bytes of one, what is explained by method."""

    seconds: float
    memory: int
    explained: dict[str, str]


def estimate_study(study: Study, jobs: int) -> StudyEstimate:
    """What the trials of a study take that are not finished, see `estimate_trials`."""
    return estimate_trials([trial.config for trial in study.pending()], jobs)


def estimate_trials(pending: Sequence[RunConfig], jobs: int = 1) -> StudyEstimate:
    """Measure a few steps of each method and reckon up; `jobs` of at least one trial run at once.

    What is not training is left out: reading the data, starting processes, timing the steps for the table.
    """
    first = {_kind(config): config for config in reversed(pending)}
    found = {}
    with activity("measuring a few steps of each method", len(first)) as advance:
        for kind, config in first.items():
            with activity(config.method):
                found[kind] = estimate(config)
            advance(len(found))
    times = sorted((found[_kind(config)].seconds for config in pending), reverse=True)
    # Each worker takes the next trial when it is done: the sum shared out, but never less than the longest.
    return StudyEstimate(
        seconds=max(sum(times) / jobs, times[0]),
        memory=max(of_kind.memory for of_kind in found.values()),
        explained={
            method: of_kind.explained
            for (method, _), of_kind in found.items()
            if of_kind.explained is not None
        },
    )


def _kind(config: RunConfig) -> tuple[str, str]:
    """Runs of one kind take equally long: a teacher is another network than its students."""
    return config.method, config.model
