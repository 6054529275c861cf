"""The files of a run: their names, how they are written so that a kill leaves no half file, how they are read.

Nothing here imports torch, so that reports can be made from records alone.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from selftaught.errors import InputError, SelftaughtError
from selftaught.training.config import RunConfig

CONFIG = "config.json"
METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.pt"
WEIGHTS = "model.safetensors"
PREDICTIONS = "predictions.safetensors"
ANSWERS = "answers.safetensors"
MODEL = "model.json"
EXAMPLES = "examples.safetensors"
RESULT = "result.json"
COMMANDS = "command.json"
SOURCE = "network.py"
LOCK = ".lock"

TEMPERATURES = (0.05, 20.0)
"""Where the temperature of temperature scaling is searched for."""

OPPOSITE = -0.8
"""From this similarity down two classes' maps are nearly opposite: of s + 1, by which Eq. 6 shares, little is left."""

OWN_TEST_PART = "the source's own"
"""What `test_part` says where the data come with a test part that is used whole: the same images for every seed."""


_Side = Annotated[int, Field(ge=1, le=65535)]
_Count = Annotated[int, Field(ge=0)]
_Fraction = Annotated[float, Field(ge=0, le=1 + 1e-9)]


class DataSummary(BaseModel):
    """What the model was trained on and how its input is prepared: images in [0, 1], minus mean, over std.

    `crop`, `resample`, `stretch` and `levels` are those of `selftaught.data.preparation.Preparation`. `test_part` says
    in a few words where the test images come from, `duplicates` how many of them are also among the training images.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    classes: tuple[str, ...] = Field(min_length=2)
    channels: Annotated[int, Field(ge=1, le=4)]
    image_size: tuple[_Side, _Side]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    train: _Count
    val: _Count
    test: _Count
    crop: Annotated[float, Field(gt=0, le=1)] | None = None
    resample: Annotated[str, Field(pattern="^(nearest|box|bilinear|hamming|bicubic|lanczos)$")] = "bilinear"
    stretch: bool = False
    levels: tuple[float, float] | None = None
    test_part: str = OWN_TEST_PART
    duplicates: _Count = 0

    @model_validator(mode="after")
    def _consistent(self) -> "DataSummary":
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError("mean and std must have one value per channel")
        if self.levels and not self.levels[0] < self.levels[1]:
            raise ValueError("levels must be the lower and the higher value")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must have different names")
        return self


class SoftLabels(BaseModel):
    """What the soft labels of explanations said in the last epoch: means over its training images.

    `opposite` is the share of the wrong classes whose similarity is `OPPOSITE` or less, `moved` how much of what the
    wrong classes have in all lies elsewhere than in even shares (total variation), `classes` among how many of them it
    would be shared if evenly (inverse Simpson index, 1 to C - 1).
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    opposite: _Fraction
    moved: _Fraction
    classes: Annotated[float, Field(ge=1 - 1e-6)]


class Result(BaseModel):
    """What a finished run came to: the last epoch's model on the test images.

    `accuracy` and `ece` (15 bins) are fractions, `nll` is in nats per image, `seconds` counts training only,
    over all sessions of an interrupted run. `temperature` was fitted on the held-out training images; `nll_scaled`
    and `ece_scaled` are those of the test logits divided by it. They are None where nothing was held out.
    `per_class_accuracy` has a value per class, None for one without test images, `peer_accuracy` one for each other
    network that was trained at the same time (DML). `soft_labels` is None for methods without explanations, and in
    older records. `sha256` are the digests of the run's large files, by name.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    trial_id: str
    accuracy: _Fraction
    nll: float
    ece: _Fraction
    temperature: Annotated[float, Field(gt=0)] | None = None
    nll_scaled: float | None = None
    ece_scaled: _Fraction | None = None
    per_class_accuracy: tuple[_Fraction | None, ...] = ()
    peer_accuracy: tuple[_Fraction, ...] = ()
    soft_labels: SoftLabels | None = None
    epochs: int
    seconds: float
    images_per_second: float
    data: DataSummary
    environment: dict[str, str | int]
    sha256: dict[str, str] = {}


@dataclass(frozen=True)
class Record:
    """A finished run as it lies on disk."""

    directory: Path
    config: RunConfig
    result: Result


def read(directory: str | os.PathLike) -> Record:
    """The record of the finished run in `directory`; an `InputError` says what is missing."""
    directory = Path(directory)
    config = read_config(directory)
    if config is None:
        raise InputError(f"{directory} is not a run directory: it has no {CONFIG}")
    if not is_finished(directory):
        raise InputError(f"the run in {directory} is not finished: the command that started it resumes it")
    try:
        result = Result.model_validate_json(read_bytes(directory / RESULT))
    except ValidationError:
        raise InputError(
            f"{directory / RESULT} is damaged or of another version: remove it, and the run's command writes it again"
        ) from None
    return Record(directory, config, result)


def read_bytes(path: Path) -> bytes:
    """A file of a run; an `InputError` where it is none or cannot be read."""
    try:
        # A pipe that somebody put there would keep us waiting for ever.
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a regular file: remove it")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}): make it readable") from None


def read_config(directory: Path) -> RunConfig | None:
    """The configuration of the run in `directory`, None where there is no run."""
    path = directory / CONFIG
    try:
        if not path.exists():
            return None
    except OSError as error:
        raise InputError(f"cannot look into {directory} ({error.strerror}): make it readable") from None
    try:
        return RunConfig.model_validate_json(read_bytes(path))
    except ValidationError:
        raise InputError(
            f"{path} is damaged or of another version: remove {path.parent}, and the run's command trains it again"
        ) from None


def is_finished(directory: Path) -> bool:
    """Whether the run came to its end; `result.json` is the last file that a run writes."""
    return (directory / RESULT).is_file()


CLAIM_SECONDS = 10.0
"""How long a directory's configuration waits for another process that has just begun there."""


def claim(directory: Path, config: RunConfig) -> None:
    """Make `directory` the run directory of `config`, or refuse it.

    Raises:
        InputError: it is a file, cannot be written, is another process's just now, holds another run (the differences
            are named), or holds something that is not a run.
    """
    make_directory(directory)
    existing = read_config(directory)
    if existing is None:
        names = [path.name for path in directory.iterdir() if not path.name.startswith(".")]
        strangers = [name for name in names if name != CONFIG]  # which another process may just have written
        if strangers:
            raise InputError(f"{directory} is not empty and not a run ({strangers[0]}): choose another --out")
        # Without the lock another process might take what is being written for what a kill left.
        with locked(directory, CLAIM_SECONDS):
            existing = read_config(directory)
            if existing is None:
                existing = config
                write(directory / CONFIG, (config.model_dump_json(indent=2) + "\n").encode())
    if existing.trial_id != config.trial_id:
        changes = "; ".join(existing.differences(config))
        raise InputError(f"{directory} holds another run ({changes}): choose another --out or remove it")


@contextmanager
def locked(directory: Path, patience: float = 0.0) -> Iterator[None]:
    """While inside, no other process trains in `directory`; the lock goes with the process that holds it.

    Args:
        directory: of the run; what a killed process was about to write there is removed.
        patience: seconds to wait for a process that holds it.

    Raises:
        InputError: another process holds it.
    """
    try:
        with FileLock(directory / LOCK, timeout=patience):
            for left_by_a_kill in directory.glob(".*.tmp"):
                left_by_a_kill.unlink(missing_ok=True)
            yield
    except Timeout:
        raise InputError(f"{directory} is being trained by another process: wait for it or stop it") from None


def make_directory(directory: Path) -> None:
    """Create a directory that can be written to, or raise an `InputError` that says why not."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except FileExistsError:
        raise InputError(f"{directory} is a file: --out must name a directory") from None
    except OSError as error:
        raise InputError(f"cannot write to {directory}: {error.strerror}; choose another --out") from None


def write(path: Path, content: bytes) -> None:
    """Replace a file in one step: whoever reads it, also after a kill, sees the old or the new content."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SelftaughtError(f"cannot write {path}: {error.strerror}") from error


def note_command(directory: Path, command: Sequence[str]) -> None:
    """Keep what the user typed, for the report; the same command typed again is kept once."""
    path = directory / COMMANDS
    try:
        known = list(json.loads(read_bytes(path))["commands"])
    except (InputError, ValueError, KeyError, TypeError, RecursionError):
        known = []  # not there yet, or damaged: it is only for people to read
    if list(command) not in known:
        write(path, (json.dumps({"commands": [*known, list(command)]}, indent=2) + "\n").encode())


def write_metrics(directory: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per epoch."""
    write(directory / METRICS, "".join(json.dumps(line) + "\n" for line in lines).encode())
