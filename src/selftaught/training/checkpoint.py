"""The state of an unfinished run on disk."""

import io
import pickle
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selftaught.errors import InputError
from selftaught.files import checkpoints
from selftaught.files.reading import DamagedError, exists
from selftaught.files.record import CHECKPOINT, metrics_content, write
from selftaught.files.sealing import sha256
from selftaught.training import environment
from selftaught.training.head import Head
from selftaught.training.loop import Position, diverged
from selftaught.training.session import Session


@dataclass
class Saved:
    """How far a run has come and what it has to show for it.

    Attributes:
        position: where it is.
        lines: those of metrics.jsonl.
        trace: its explanations by epoch, see `selftaught.files.trace`.
        environment: what its sessions so far ran on, see `selftaught.training.environment`.
        head: what the fitting of the head came to, see `selftaught.training.head`; None where there was none.
    """

    position: Position = field(default_factory=Position)
    lines: list[dict[str, Any]] = field(default_factory=list)
    trace: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    environment: dict[str, str | int] = field(default_factory=dict)
    head: dict[str, float] | None = None

    def fitted(self, head: Head) -> None:
        """Note what the fitting of the head came to; its time is part of the training's."""
        self.head = asdict(head)
        self.position.spend(head.seconds)

    def ran_on(self, device: torch.device) -> None:
        """Note what this session runs on."""
        self.environment = environment.joined(self.environment, environment.describe(device))


def save(directory: Path, session: Session, saved: Saved) -> None:
    """Write the run's state in one step.

    Raises:
        SelftaughtError: the weights are no longer finite; the checkpoint before is kept.
    """
    if not session.is_finite():
        raise diverged("the weights became NaN or infinite", saved.position)
    buffer = io.BytesIO()
    trial = session.config.trial_id
    so_far = {
        "lines": saved.lines,
        "trace": saved.trace,
        "environment": saved.environment,
        "head": saved.head,
    }
    state = {"trial_id": trial, "position": asdict(saved.position), **so_far, **session.state()}
    torch.save(state, buffer)
    metrics = metrics_content(saved.lines)
    write(directory / CHECKPOINT, checkpoints.sealed(buffer.getvalue(), len(metrics), sha256(metrics)))


def restore(directory: Path, session: Session) -> Saved:
    """Put `session` where the checkpoint left it; at the start where there is none.

    Only tensors and plain values are unpickled, so a checkpoint from a stranger cannot run code.

    Raises:
        DamagedError: the checkpoint is not what was written, or another run's.
    """
    path = directory / CHECKPOINT
    if not exists(path):
        return Saved()
    checkpoints.read(path)
    try:
        _check_sums(path)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError("not a dictionary")
        if state["trial_id"] != session.config.trial_id:
            raise DamagedError(path, "it belongs to another run", checkpoints.REMEDY)
        if "parts" not in state:
            raise DamagedError(path, "an earlier version of selftaught wrote it", checkpoints.REMEDY)
        session.restore(state)
        so_far = state["lines"], state.get("trace", {}), state.get("environment", {}), state.get("head")
        return Saved(Position(**state["position"]), *so_far)
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        RuntimeError,
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:
        if isinstance(error, InputError):
            raise
        raise DamagedError(path, "it is not a usable checkpoint", checkpoints.REMEDY) from error


def _check_sums(path: Path) -> None:
    """Compare every part of the file with the checksum that `torch.save` stored beside it."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} does not match its checksum")
