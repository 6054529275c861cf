"""The time of a training step of each cell relative to plain training, measured once and kept in costs.json."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from selftaught.activities import OnActivity, nobody
from selftaught.files import record
from selftaught.files import study_folder as folder
from selftaught.files.config import RunConfig
from selftaught.methods import registry
from selftaught.study.expand import Cell
from selftaught.study.studies import Study
from selftaught.training import cost
from selftaught.training.loop import Stopped


class Effort(NamedTuple):
    """What is measured after the training: steps of each method, in about so many seconds for all methods of a network,
    and the test images that Figures 2 and 3 look at, None for all."""

    steps: int
    seconds: float
    images: int | None


EFFORT = {
    "smoke": Effort(1, 10, 16),
    "quick": Effort(30, 30, 100),
    "paper": Effort(50, 90, None),
    "": Effort(60, 10, None),
}
"""By budget."""


def of_cell(cell: Cell, known: dict[str, float]) -> float | None:
    """The time of a step of this cell, None where it is not known."""
    return next((known[config.trial_id] for config in cell.configs if config.trial_id in known), None)


def untimed(study: Study, cells: Iterable[Cell]) -> list[RunConfig]:
    """The first finished trial of each cell whose steps have no known time; what is fitted without steps has none."""
    known = folder.usable_costs(study.directory)
    found: dict[str, RunConfig] = {}
    for cell in cells:
        if of_cell(cell, known) is None and not registry.find(cell.variant.method).head_only:
            finished = (config for config in cell.configs if record.is_finished(study.trial(config)))
            found |= {config.trial_id: config for config in list(finished)[:1]}
    return list(found.values())


def time_steps(
    study: Study,
    configs: Iterable[RunConfig],
    should_stop: Callable[[], bool] = lambda: False,
    on_activity: OnActivity = nobody,
) -> dict[str, str]:
    """Measure the steps of these trials, all that share data and network together, for costs.json.

    Returns:
        By trial, for each that could not be timed, a sentence that says why: a column is not worth the table.

    Raises:
        Stopped: `should_stop` said so.
    """
    effort = EFFORT[study.budget]
    together: dict[tuple[str, str, int], list[RunConfig]] = {}
    for config in configs:
        together.setdefault((config.data, config.model, config.batch_size), []).append(config)
    problems: dict[str, str] = {}
    for alike in together.values():
        if should_stop():
            raise Stopped("stopped")
        found = cost.relative(alike, effort.steps, effort.seconds, on_activity)
        folder.write_costs(study.directory, folder.usable_costs(study.directory) | found.times)
        problems |= {
            config.trial_id: f"The steps of {config.method} are not timed ({found.errors[config.trial_id]})."
            for config in alike
            if config.trial_id in found.errors
        }
    return problems
