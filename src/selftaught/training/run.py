"""One run from its configuration to its record."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from selftaught.activities import OnActivity, nobody
from selftaught.errors import InputError, ShortcutError
from selftaught.events import Progress
from selftaught.files import claiming, record
from selftaught.files.config import RunConfig
from selftaught.files.results import Result
from selftaught.training import checkpoint, environment, finishing, head, seeds, teachers, tracing
from selftaught.training.evaluate import scores
from selftaught.training.loop import Autosave, DivergedError, Stopped, train_epoch
from selftaught.training.optimising import lr_factor
from selftaught.training.presets import data_of
from selftaught.training.session import Session, start
from selftaught.training.trained import TrainedModel, load

__all__ = ["Stopped", "TrainedModel", "load", "train"]


def train(
    config: RunConfig,
    out_dir: str | os.PathLike,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    teacher: str | os.PathLike | None = None,
    keep_checkpoint: bool = False,
    on_activity: OnActivity = nobody,
) -> Result:
    """Train as configured, in `out_dir`, from where an earlier session left off; a finished run is only read.

    The model of the last epoch is the result: nothing is selected, and the test images are seen once, at the
    end. On the CPU an interrupted run ends with the same network, bit for bit, as an uninterrupted one.

    Args:
        config: from `selftaught.training.presets.resolve`.
        out_dir: the run directory; created if needed.
        on_progress: called a few times per second and at the end of each epoch.
        should_stop: asked after each step; once it says yes the run is saved there and `Stopped` is raised.
        teacher: the run directory of the network that the method learns from, where it learns from one; by default
            the directory beside `out_dir` that is named by the teacher's trial.
        keep_checkpoint: whether the state of the training stays when the run is finished, which takes several times
            as much room as all else.
        on_activity: hears what takes long beside the steps: reading the data, fitting a head, evaluating.

    Raises:
        InputError: the directory holds something else, the data is not what was configured, or the teacher is not
            there or not finished.
        Stopped: `should_stop` said so.
        SelftaughtError: the loss became NaN or infinite; the last checkpoint is kept.
    """
    directory = Path(out_dir)
    if not record.is_finished(directory):  # before anything is written
        environment.check_device(config.device)
    claiming.claim(directory, config)
    if record.is_finished(directory):
        return record.read(directory).result
    environment.code()  # known from here on, whatever is edited until the record is written
    with claiming.locked(directory):
        images = data_of(config, on_activity=on_activity)
        with seeds.contained(config.threads):
            session = start(config, images, _teacher(config, directory, teacher), on_activity)
            run = _Run(directory, session, on_progress or _ignore, should_stop or _never, keep_checkpoint)
            try:
                run.train()
                return run.finish()
            except DivergedError as error:
                if not (directory / record.CHECKPOINT).exists():
                    raise
                raise DivergedError(f"{error}; the last good checkpoint is kept") from error


def _teacher(config: RunConfig, directory: Path, given: str | os.PathLike | None) -> nn.Module | None:
    if config.teacher is None:
        return None
    beside = directory.absolute().parent / config.teacher.trial_id
    return teachers.trained(config, beside if given is None else Path(given))


class _Run:
    """A session, its directory, and how far it has come."""

    def __init__(
        self,
        directory: Path,
        session: Session,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
        keep_checkpoint: bool,
    ) -> None:
        self.keep_checkpoint = keep_checkpoint
        self.directory, self.session, self.images = directory, session, session.images
        self.on_progress, self.should_stop = on_progress, should_stop
        self.saved = checkpoint.restore(directory, session)
        if session.config.head == "probe" and self.saved.head is None:
            self.fit_head()
        self.saved.ran_on(session.fabric.device)
        self.position = self.saved.position
        self.resumed_at = self.position.epoch * len(session.batches) + self.position.step
        self.images_before, self.seconds_before = self.position.images, self.position.seconds
        self.save = Autosave(lambda: checkpoint.save(directory, session, self.saved), save_seconds())
        if session.recorder and not (directory / record.CHECKPOINT).exists():
            self.save()  # where `take_again` goes back to

    def fit_head(self) -> None:
        """Begin with the linear probe, whatever the method."""
        self.saved.fitted(head.fit(self.session))
        self.session.begin_average()

    def train(self) -> None:
        """The remaining epochs, each saved when it is done."""
        if self.session.method.head_only:
            return
        while self.position.epoch < self.session.config.epochs:
            try:
                train_epoch(self.session, self.position, self.report, self.should_stop, self.save)
            except Stopped:
                self.save()
                raise
            except ShortcutError:
                self.take_again()
            else:
                self.end_epoch()

    def take_again(self) -> None:
        """Go back to the last checkpoint: recorded steps since then were taken with a shortcut that does not hold.

        It was written after the steps before it were found to be right. The method keeps what it has learned since of
        the shortcut.
        """
        self.saved = checkpoint.restore(self.directory, self.session)
        self.position = self.saved.position

    def end_epoch(self) -> None:
        """Write the epoch's line and the checkpoint, which has the lines as well: what was written after it is lost."""
        config, epoch, means = self.session.config, self.position.epoch, self.position.means()
        steps = len(self.session.batches)
        of_training = {f"train_{name}": means.pop(name) for name in ("accuracy", "nll", "ece")}
        line = {"epoch": epoch + 1, "lr": config.lr * lr_factor(config, epoch * steps, steps)}
        line |= means | of_training
        average = self.session.average
        if epoch + 1 == config.epochs:  # the result from now on: what is measured of it must be so everywhere
            self.session.adopt_average()
            average = None
        if len(self.images.val_labels):
            with average.shown() if average else nullcontext():
                logits = finishing.logits(
                    self.session, self.images.val_images, self.images.val_labels, self.position
                )
            line |= scores(logits, self.images.val_labels, "val_")
        line |= {"seconds": self.position.seconds, "images_per_second": self.speed()}
        self.saved.lines.append(line)
        record.write_metrics(self.directory, self.saved.lines)
        self.look()
        self.report(line)
        self.position.next_epoch()
        self.save()

    def look(self) -> None:
        """Keep what the network sees in a few images, if this is an epoch to do so."""
        epoch = self.position.epoch + 1
        if epoch in tracing.epochs(self.session.config):
            seen = tracing.snapshot(finishing.trained_model(self.session), self.images)
            if seen:
                self.saved.trace[epoch] = seen

    def finish(self) -> Result:
        """Write the record of the last epoch's model."""
        result = finishing.finish(self.directory, self.session, self.saved)
        if not self.keep_checkpoint:
            (self.directory / record.CHECKPOINT).unlink(missing_ok=True)
        return result

    def report(self, line: dict[str, Any] | None = None) -> None:
        """Say where the run is."""
        means = self.position.means()
        self.on_progress(
            Progress(
                epoch=self.position.epoch,
                epochs=self.session.config.epochs,
                step=self.position.step,
                steps=len(self.session.batches),
                loss=means["loss"],
                accuracy=means["accuracy"],
                images_per_second=self.speed(),
                seconds=self.position.seconds - self.seconds_before,
                resumed_at=self.resumed_at,
                metrics=line or {},
            )
        )

    def speed(self) -> float:
        """Training images per second of this session."""
        return (self.position.images - self.images_before) / (self.position.seconds - self.seconds_before)


def save_seconds() -> float:
    """How often a run is saved, in seconds: ``$SELFTAUGHT_SAVE_SECONDS``, by default every half minute.

    It does not change any result.
    """
    text = os.environ.get("SELFTAUGHT_SAVE_SECONDS", "30")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise InputError(f"SELFTAUGHT_SAVE_SECONDS is {text!r} but should be a number of seconds, at least 0")
    return seconds


def _ignore(_: Progress) -> None:
    pass


def _never() -> bool:
    return False
