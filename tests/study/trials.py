"""Trials that take a fraction of a second, and what their executors should tell of them."""

from pathlib import Path

from selftaught.events import Busy, Event, Finished, Outcome, Started, Waits
from selftaught.study.trials import Trial
from tests.training import quick


def never() -> bool:
    return False


def make(folder: Path, *methods: str, **options) -> list[Trial]:
    configs = [quick.config(method, **options) for method in methods]
    return [Trial(config, folder / config.trial_id) for config in configs]


def occupy(trial: Trial) -> None:
    """Put something into the trial's directory that is not to be overwritten."""
    trial.directory.mkdir(parents=True)
    (trial.directory / "thesis.tex").write_text("mine")


def check_events(events: list[Event], index: int, outcome: Outcome) -> None:
    """Of a trial that went through at the first try."""
    mine = [event for event in events if event.index == index and not isinstance(event, Waits | Busy)]
    assert mine[0] == Started(index)
    assert mine[-1] == Finished(index, outcome)
    assert [e.progress.done for e in mine[1:-1] if e.progress.metrics] == [5, 10, 15]
