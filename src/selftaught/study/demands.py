"""What may be asked of a study, checked before anything long begins. Nothing here imports torch."""

from selftaught import errors
from selftaught.errors import InputError

EXECUTORS = ("local", "ray")

ALL = "all"
"""The name of all recipes together."""


def check_executor(name: str, jobs: int | None) -> None:
    """Refuse what there is no executor for, before anything is planned.

    Raises:
        InputError: no such executor, or fewer jobs than one.
    """
    if name not in EXECUTORS:
        raise errors.unknown("executor", name, EXECUTORS)
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs is {jobs} but should be at least 1")


def check_trials(trials: int) -> None:
    """Refuse a comparison without a trial.

    Raises:
        InputError: there is none.
    """
    if trials < 1:
        raise InputError(f"trials is {trials} but should be at least 1")


def split_methods(text: str) -> list[str]:
    """Method keys from a list separated by commas or spaces, in order.

    >>> split_methods("ce, ls le")
    ['ce', 'ls', 'le']
    """
    return text.replace(",", " ").split()
