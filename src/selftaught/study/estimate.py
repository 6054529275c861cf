"""What a comparison will take, said before it begins."""

from dataclasses import dataclass

from selftaught.study.compare import Study
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
    first = {config.method: config for config in reversed(pending)}
    of_method = {method: estimate(config) for method, config in first.items()}
    times = sorted((of_method[config.method].seconds for config in pending), reverse=True)
    # Each worker takes the next trial when it is done: the sum shared out, but never less than the longest.
    return StudyEstimate(
        seconds=max(sum(times) / jobs, times[0]),
        memory=max(found.memory for found in of_method.values()),
        explained={method: found.explained for method, found in of_method.items() if found.explained},
    )
