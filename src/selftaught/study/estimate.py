"""What a comparison will take, said before it begins."""

from dataclasses import dataclass

from selftaught.study.compare import Study
from selftaught.training.config import RunConfig
from selftaught.training.estimate import estimate


@dataclass(frozen=True)
class StudyEstimate:
    """Of the trials that are not finished: `seconds` in all, `memory` in bytes of one, what is explained by method."""

    seconds: float
    memory: int
    explained: dict[str, str]


def estimate_study(study: Study, jobs: int) -> StudyEstimate:
    """Measure a few steps of each method and reckon up; `jobs` trials run at once.

    What is not training is left out: reading the data, starting processes, timing the steps for the table.
    """
    pending = [trial.config for trial in study.pending()]
    first = {_kind(config): config for config in reversed(pending)}
    found = {kind: estimate(config) for kind, config in first.items()}
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
