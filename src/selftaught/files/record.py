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

from selftaught.errors import InputError
from selftaught.files import integrity, sealing
from selftaught.files.config import RunConfig
from selftaught.files.contents import remedy
from selftaught.files.names import (
    ANSWERS,
    CHECKPOINT,
    COMMANDS,
    CONFIG,
    EXAMPLES,
    LOCK,
    METRICS,
    MODEL,
    PREDICTIONS,
    RESULT,
    SOURCE,
    WEIGHTS,
)
from selftaught.files.reading import MOST_TEXT, DamagedError, exists, read_bytes
from selftaught.files.writing import write

__all__ = [
    "ANSWERS",
    "CHECKPOINT",
    "COMMANDS",
    "CONFIG",
    "EXAMPLES",
    "LOCK",
    "METRICS",
    "MODEL",
    "PREDICTIONS",
    "RESULT",
    "SOURCE",
    "WEIGHTS",
    "DataSummary",
    "LearningPoint",
    "Record",
    "Result",
    "claim",
    "config_content",
    "is_finished",
    "locked",
    "make_directory",
    "metrics_content",
    "note_command",
    "read",
    "read_bytes",
    "read_commands",
    "read_config",
    "read_result",
    "result_content",
    "write",
    "write_metrics",
    "write_result",
]

TEMPERATURES = (0.05, 20.0)
"""Where the temperature of temperature scaling is searched for."""

OPPOSITE = -0.8
"""From this similarity down two classes' maps are nearly opposite: of s + 1, by which Eq. 6 shares, little is left."""

PROBE = "probe"
"""The method of a run that trains no network: a linear classifier on the features of a pretrained one."""

OWN_TEST_PART = "the source's own"
"""What `test_part` says where the data come with a test part that is used whole: the same images for every seed."""


_Side = Annotated[int, Field(ge=1, le=2048)]
_Count = Annotated[int, Field(ge=0, le=2**53)]
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


class LearningPoint(BaseModel):
    """How well the linear probe does on the test images when it is fitted on so many training images.

    Accuracies are fractions; `seconds` is the time of the fit.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    images: Annotated[int, Field(ge=1, le=2**53)]
    accuracy: _Fraction
    balanced_accuracy: _Fraction | None = None
    seconds: Annotated[float, Field(ge=0)]


class Result(BaseModel):
    """What a finished run came to: the last epoch's model on the test images.

    `accuracy` and `ece` (15 bins) are fractions, `nll` is in nats per image, `seconds` counts training only,
    over all sessions of an interrupted run. `temperature` was fitted on the held-out training images; `nll_scaled`
    and `ece_scaled` are those of the test logits divided by it. They are None where nothing was held out.
    `balanced_accuracy`, `macro_f1` and `top5_accuracy` are fractions; they are None in older records, and the last one
    for fewer than 20 classes. `per_class_accuracy` has a value per class, None for one without test images,
    `per_class_images` how many it has (empty in older records), `peer_accuracy` one for each other network that was
    trained at the same time (DML). `soft_labels` is None for methods without explanations, and in older records. The
    linear probe alone has `learning`, from few training images to all of them, whose accuracy is the run's own, and
    `strength`, the C that was chosen (the inverse of the regularisation's strength). `sha256` are the digests of the
    run's files, by name, and `digest` that of the result itself (`selftaught.files.sealing`), which older versions did
    not write.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    trial_id: str
    accuracy: _Fraction
    nll: float
    ece: _Fraction
    balanced_accuracy: _Fraction | None = None
    macro_f1: _Fraction | None = None
    top5_accuracy: _Fraction | None = None
    temperature: Annotated[float, Field(gt=0)] | None = None
    nll_scaled: float | None = None
    ece_scaled: _Fraction | None = None
    per_class_accuracy: tuple[_Fraction | None, ...] = ()
    per_class_images: tuple[_Count, ...] = ()
    peer_accuracy: tuple[_Fraction, ...] = ()
    soft_labels: SoftLabels | None = None
    learning: tuple[LearningPoint, ...] = ()
    strength: Annotated[float, Field(gt=0)] | None = None
    epochs: int
    seconds: float
    images_per_second: float
    data: DataSummary
    environment: dict[str, str | int]
    sha256: dict[str, str] = {}
    digest: str | None = None


@dataclass(frozen=True)
class Record:
    """A finished run as it lies on disk."""

    directory: Path
    config: RunConfig
    result: Result


def read(directory: str | os.PathLike) -> Record:
    """The record of the finished run in `directory`, all of which is what was written.

    Its files, but for those that only a network is built from, have the digests that its result tells, and its numbers
    follow from its predictions (`selftaught.files.integrity`).

    Raises:
        DamagedError: a file is missing, or not what was written.
        InputError: there is no finished run, or a file cannot be read.
    """
    directory = Path(directory)
    return integrity.unchanged(directory, lambda: _verified(directory))


def _verified(directory: Path) -> Record:
    config = read_config(directory)
    if config is None:
        raise InputError(f"{directory} is not a run directory: it has no {CONFIG}")
    if not is_finished(directory):
        integrity.check_unfinished(directory)
        raise InputError(f"the run in {directory} is not finished: the command that started it resumes it")
    found = Record(directory, config, read_result(directory))
    for fault in integrity.faults(found):
        raise fault
    return found


def read_result(directory: Path) -> Result:
    """What the run in `directory` came to, by its own words alone."""
    path, help = directory / RESULT, remedy(directory)
    values = sealing.read(path, Result.model_fields, help)
    try:
        return Result.model_validate_json(json.dumps(values))
    except ValidationError:
        raise DamagedError(path, "or it is of another version", help) from None


def read_config(directory: Path) -> RunConfig | None:
    """The configuration of the run in `directory`, None where there is no run.

    Raises:
        DamagedError: it is no configuration, or missing from what is a run.
        InputError: it cannot be read.
    """
    path, help = directory / CONFIG, remedy(directory)
    if not exists(path):
        if exists(directory / METRICS) and (exists(directory / RESULT) or exists(directory / CHECKPOINT)):
            raise DamagedError(path, "it is missing", help)
        return None
    try:
        return RunConfig.model_validate_json(read_bytes(path, MOST_TEXT, help))
    except ValidationError:
        raise DamagedError(path, "or it is of another version", help) from None


def is_finished(directory: Path) -> bool:
    """Whether the run came to its end; `result.json` is the last file that a run writes."""
    return exists(directory / RESULT)


CLAIM_SECONDS = 10.0
"""How long a directory's configuration waits for another process that has just begun there."""


def claim(directory: Path, config: RunConfig) -> None:
    """Make `directory` the run directory of `config`, or refuse it.

    Raises:
        InputError: it is a file, cannot be written, is another process's just now, holds another run (the differences
            are named), or holds something that is not a run.
    """
    make_directory(directory)
    existing = checked(directory)
    if existing is None:
        # Without the lock another process might take what is being written for what a kill left.
        with locked(directory, CLAIM_SECONDS):
            existing = read_config(directory)
            if existing is None:
                existing = config
                write(directory / CONFIG, config_content(config))
    check_same(directory, existing, config)


def checked(directory: Path) -> RunConfig | None:
    """The configuration of the run in `directory`, which is looked at but not touched; None where there is none.

    Raises:
        InputError: it is a file, or holds something that is not a run.
        DamagedError: the configuration is not what was written.
    """
    if directory.exists() and not directory.is_dir():
        raise _is_a_file(directory)
    existing = read_config(directory)
    if existing is None and directory.exists():
        names = [path.name for path in directory.iterdir() if not path.name.startswith(".")]
        strangers = [name for name in names if name != CONFIG]  # which another process may just have written
        if strangers:
            raise InputError(f"{directory} is not empty and not a run ({strangers[0]}): choose another --out")
    return existing


def check_same(directory: Path, existing: RunConfig, config: RunConfig) -> None:
    """Refuse to take the run that is in `directory` for another one.

    Raises:
        InputError: naming the differences.
    """
    if existing.trial_id != config.trial_id:
        if directory.absolute().name == config.trial_id:
            raise DamagedError(directory / CONFIG, "it is that of another trial", remedy(directory))
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
    path = directory / LOCK
    # A lock is written to, and who put a link there might wish something else to be.
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise InputError(f"{path} is no lock but a link or a folder: remove it")
    lock = FileLock(path, timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"{directory} is being trained by another process: wait for it or stop it") from None
    except OSError as error:
        raise InputError(
            f"cannot lock {path} ({error.strerror}): it is another user's; remove it, or choose another --out"
        ) from None
    try:
        for left_by_a_kill in directory.glob(".*.tmp"):
            left_by_a_kill.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def make_directory(directory: Path) -> None:
    """Create a directory that can be written to, or raise an `InputError` that says why not."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except FileExistsError:
        raise _is_a_file(directory) from None
    except OSError as error:
        raise InputError(f"cannot write to {directory}: {error.strerror}; choose another --out") from None


def _is_a_file(directory: Path) -> InputError:
    return InputError(f"{directory} is a file: --out must name a directory")


def note_command(directory: Path, command: Sequence[str]) -> None:
    """Keep what the user typed, for the report; the same command typed again is kept once."""
    try:
        known = [list(one) for one in read_commands(directory)]
    except InputError:
        known = []  # damaged: it is only for people to read
    if list(command) not in known:
        write(directory / COMMANDS, sealing.seal({"commands": [*known, list(command)]}))


class _Commands(BaseModel):
    """command.json."""

    commands: tuple[tuple[str, ...], ...]


def read_commands(directory: Path) -> tuple[tuple[str, ...], ...]:
    """The commands that made a run, where it was made by one.

    Raises:
        DamagedError: the file is not what was written.
    """
    path = directory / COMMANDS
    if not exists(path):
        return ()
    help = "remove it, and the command of the run is left out"
    try:
        return _Commands.model_validate(sealing.read(path, _Commands.model_fields, help)).commands
    except ValidationError:
        raise DamagedError(path, "it holds no commands", help) from None


def config_content(config: RunConfig) -> bytes:
    """A configuration as it is written."""
    return (config.model_dump_json(indent=2) + "\n").encode()


def metrics_content(lines: Iterable[dict[str, Any]]) -> bytes:
    """One JSON object per epoch."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def write_metrics(directory: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per epoch."""
    write(directory / METRICS, metrics_content(lines))


def result_content(result: Result) -> bytes:
    """A result as it is written, with its own digest."""
    return sealing.seal(result.model_dump(mode="json", exclude={sealing.KEY}))


def write_result(directory: Path, result: Result) -> Result:
    """Write the last file of a run; returns the result with its digest."""
    content = result_content(result)
    write(directory / RESULT, content)
    return Result.model_validate_json(content)
