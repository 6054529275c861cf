"""A trial of a study, and the teachers that have to be trained before some of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selftaught.files.config import RunConfig
from selftaught.training.teaching import lineage


@dataclass(frozen=True)
class Trial:
    """One run of a study and where it goes; `teacher` is the run directory of the network that it learns from.

    `keep_checkpoint` says whether its checkpoint stays when it is finished.
    """

    config: RunConfig
    directory: Path
    teacher: Path | None = None
    keep_checkpoint: bool = False


def with_teachers(
    configs: Sequence[RunConfig],
    place: Callable[[RunConfig], Path],
    ready: Mapping[str, Path],
    keep_checkpoints: bool = False,
) -> list[Trial]:
    """The trials of these configurations and of the teachers that have to be trained for them, each once.

    Teachers come first, those of teachers before them; then the rest, by seed: a study that is not finished has pairs
    of trials to compare, not one method's alone.

    Args:
        configs: what is to be trained.
        place: the directory of a trial.
        ready: the directories of teachers that are trained already, by trial.
        keep_checkpoints: whether those of finished trials stay.
    """
    wanted = {run.trial_id: run for config in configs for run in _untrained(config, ready)}
    teaching = {run.teacher.trial_id for run in wanted.values() if run.teacher}

    def order(config: RunConfig) -> tuple[int, int, int]:
        if config.trial_id in teaching:
            return 0, len(lineage(config)), config.seed
        return 1, config.seed, 0

    def trial(config: RunConfig) -> Trial:
        above = config.teacher
        teacher = None if above is None else ready.get(above.trial_id) or place(above)
        return Trial(config, place(config), teacher, keep_checkpoints)

    return [trial(config) for config in sorted(wanted.values(), key=order)]


def _untrained(config: RunConfig, ready: Mapping[str, Path]) -> list[RunConfig]:
    """A run and what has to be trained for it, the first teacher first."""
    runs = lineage(config)
    known = [number for number, run in enumerate(runs[:-1]) if run.trial_id in ready]
    return runs[max(known) + 1 :] if known else runs
