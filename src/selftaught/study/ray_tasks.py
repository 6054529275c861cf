"""What runs on a Ray cluster: a trial in its task, and the board through which it talks with who sent it out.

Plain functions and classes, which do not need Ray to be imported.
"""

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from selftaught.events import Event, Outcome
from selftaught.files.config import RunConfig
from selftaught.study.executor import attempt
from selftaught.study.trials import Trial

ASK_SECONDS = 0.3
LOCK_SECONDS = 120.0
"""How long the lock of a process whose machine was lost may outlive it."""


class Board:
    """An actor beside the driver: takes what the tasks say until the driver collects it, and knows if they should stop.

    `directory` is the driver's working directory, against which relative paths in configurations are meant.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.messages: list[tuple[int, str | Event]] = []
        self.stopping = False

    def working_directory(self) -> str:
        """Where the driver is."""
        return self.directory

    def tell(self, number: int, message: str | Event) -> None:
        """From task `number`: the id of its node when it starts, then its events."""
        self.messages.append((number, message))

    def collect(self) -> list[tuple[int, str | Event]]:
        """What was said since the last time."""
        messages, self.messages = self.messages, []
        return messages

    def stop(self) -> None:
        """Ask all tasks to save and stop."""
        self.stopping = True

    def should_stop(self) -> bool:
        """Whether the tasks should; also returns only after all that the asking task said has arrived."""
        return self.stopping


def run(
    board: Any,
    number: int,
    index: int,
    config: str,
    directory: str,
    teacher: str | None,
    environment: dict[str, str],
    moved: bool,
    keep_checkpoint: bool,
) -> Outcome:
    """The task of one trial.

    Args:
        board: the actor.
        number: of this try, by which the driver knows it.
        index: the trial's.
        config: the trial's configuration as JSON.
        directory: its run directory, which is there already.
        teacher: its teacher's run directory.
        environment: variables that the driver has set for selftaught.
        moved: whether it goes on from another machine.
        keep_checkpoint: whether its checkpoint stays when it is finished.
    """
    import ray

    sys.stdout = sys.stderr  # both go to Ray's files; the driver's stdout is for the result
    board.tell.remote(number, ray.get_runtime_context().get_node_id())
    os.environ.update(environment)
    cwd = ray.get(board.working_directory.remote())
    trial = Trial(
        RunConfig.model_validate_json(config),
        Path(directory),
        None if teacher is None else Path(teacher),
        keep_checkpoint,
    )
    unseen = next((path for path in (directory, cwd) if not os.path.isdir(path)), None)
    if unseen is not None:
        return Outcome(
            error=f"{unseen} is not there on {platform.node()}: all machines of the Ray cluster must see the "
            f"study's and the working directory at the same paths (a shared file system)",
            foreseen=True,
        )
    os.chdir(cwd)
    signals = _Signals(ray, board)
    if signals.should_stop():
        return Outcome(stopped=True)
    outcome = attempt(
        index,
        trial,
        lambda event: board.tell.remote(number, event),
        signals.should_stop,
        LOCK_SECONDS if moved else 0.0,
    )
    ray.get(board.should_stop.remote())  # what was told before has arrived by then
    return outcome


class _Signals:
    """Asks the board now and then, and waits for no answer: a step takes less time than a message."""

    def __init__(self, ray: Any, board: Any) -> None:
        self.ray, self.board = ray, board
        self.stopping: bool = ray.get(board.should_stop.remote())
        self.asked: Any = None
        self.heard = time.monotonic()

    def should_stop(self) -> bool:
        """Whether the driver said so, or is gone."""
        if self.stopping:
            return True
        if self.asked is None:
            if time.monotonic() - self.heard >= ASK_SECONDS:
                self.asked = self.board.should_stop.remote()
        elif self.ray.wait([self.asked], timeout=0)[0]:
            try:
                self.stopping = self.ray.get(self.asked)
            except self.ray.exceptions.RayError:
                self.stopping = True
            self.asked, self.heard = None, time.monotonic()
        return self.stopping
