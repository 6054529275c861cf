"""One run from its configuration to its record."""

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from safetensors.numpy import save as save_arrays
from safetensors.torch import save
from torch import Tensor, nn

from selftaught import models
from selftaught.activities import OnActivity, nobody
from selftaught.data import ImageData
from selftaught.data.streaming import Images
from selftaught.errors import InputError, ShortcutError
from selftaught.events import Progress
from selftaught.files import claiming, record, trace
from selftaught.files.config import RunConfig
from selftaught.files.results import Result
from selftaught.files.sealing import sha256
from selftaught.training import checkpoint, environment, explanations, head, seeds, teachers, tracing
from selftaught.training.evaluate import by_class, calibrate, predict, scores
from selftaught.training.loop import Autosave, DivergedError, Stopped, diverged, train_epoch
from selftaught.training.metrics import accuracy, balanced_accuracy
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
            run = _Run(
                directory, session, images, on_progress or _ignore, should_stop or _never, keep_checkpoint
            )
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
        images: ImageData,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
        keep_checkpoint: bool,
    ) -> None:
        self.keep_checkpoint = keep_checkpoint
        self.directory, self.session, self.images = directory, session, images
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
                logits = self.predict(self.images.val_images, self.images.val_labels)
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
            seen = tracing.snapshot(self.trained_model(_summary(self.images)), self.images)
            if seen:
                self.saved.trace[epoch] = seen

    def trained_model(self, data: record.DataSummary) -> TrainedModel:
        """The network as it is now, with its preprocessing, on its device."""
        return TrainedModel(self.session.network, self.session.config, data).to(self.session.fabric.device)

    def predict(self, images: Images, labels: Tensor) -> Tensor:
        """Logits of images; `SelftaughtError` where one is no number, since nothing could be measured of them."""
        logits = predict(self.session, images, labels)
        if not logits.isfinite().all():
            raise diverged("the predictions became NaN or infinite", self.position)
        return logits

    def finish(self) -> Result:
        """Evaluate the last epoch's model on the test images and write the record; result.json comes last."""
        images, position, session = self.images, self.position, self.session
        logits = self.predict(images.test_images, images.test_labels)
        predictions = {"logits": logits, "labels": images.test_labels}
        calibrated: dict[str, Any] = {}
        if len(images.val_labels):
            val_logits = self.predict(images.val_images, images.val_labels)
            predictions |= {"val_logits": val_logits, "val_labels": images.val_labels}
            calibrated = calibrate(logits, images.test_labels, val_logits, images.val_labels)
        data = _summary(images)
        result = Result(
            trial_id=session.config.trial_id,
            **{
                **scores(logits, images.test_labels),
                **by_class(logits, images.test_labels),
                **calibrated,
            },
            peer_accuracy=self.peers(),
            soft_labels=_soft_labels(self.saved.lines[-1]) if self.saved.lines else None,
            epochs=position.epoch,
            seconds=position.seconds,
            images_per_second=position.images / position.seconds,
            **self.probed(logits),
            data=data,
            environment=self.saved.environment,
            sha256=self.write_files(predictions, data),
        )
        result = record.write_result(self.directory, result)
        if not self.keep_checkpoint:
            (self.directory / record.CHECKPOINT).unlink(missing_ok=True)
        return result

    def probed(self, logits: Tensor) -> dict[str, Any]:
        """What a probe has to say of itself: the strength of its penalty, and what fewer images would have given."""
        session, fitted = self.session, self.saved.head
        if not session.method.head_only or fitted is None:
            return {}
        points = head.learning_curve(session)
        points.append((len(self.images.train_labels), logits, fitted["of_fit"]))
        labels = self.images.test_labels
        learning = tuple(
            record.LearningPoint(
                images=images,
                accuracy=accuracy(of_these, labels),
                balanced_accuracy=balanced_accuracy(of_these, labels),
                seconds=seconds,
            )
            for images, of_these, seconds in points
        )
        return {"strength": fitted["strength"], "learning": learning}

    def peers(self) -> tuple[float, ...]:
        """The test accuracy of other whole networks that were trained at the same time."""
        session, images = self.session, self.images
        return tuple(
            accuracy(predict(session, images.test_images, images.test_labels, peer), images.test_labels)
            for peer in session.wrapped[1:]
        )

    def write_files(self, predictions: dict[str, Tensor], data: record.DataSummary) -> dict[str, str]:
        """The configuration, the metrics, the weights, what rebuilds the network, the predictions and some examples.

        Returns:
            Their digests.
        """
        network, images = self.session.network, self.images
        # Clones, because a module that goes by two names would be refused.
        weights = {name: value.cpu().contiguous().clone() for name, value in network.state_dict().items()}
        trained = self.trained_model(data).cpu().eval()
        examples = explanations.examples(
            trained, images.test_images, images.test_labels, predictions["logits"]
        )
        files = {
            # The data may have moved, or the file have been damaged, since it was first written.
            record.CONFIG: record.config_content(self.session.config),
            record.METRICS: record.metrics_content(self.saved.lines),
            record.WEIGHTS: save(weights),
            record.PREDICTIONS: save(predictions),
        }
        if examples:
            names = [images.test_name(index) for index in examples["index"].tolist()]
            files[record.EXAMPLES] = save_arrays(examples, {"names": json.dumps(names)})
        description = models.description(network)
        if description is not None:
            files[record.MODEL] = (json.dumps(description, indent=2) + "\n").encode()
        if self.saved.trace:
            files[trace.TRACE] = trace.pack(self.saved.trace)
        if self.session.source is not None:
            files[record.SOURCE] = self.session.source  # nothing runs it unasked
        for name, content in files.items():
            record.write(self.directory / name, content)
        return {name: sha256(content, name) for name, content in files.items()}

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


def _soft_labels(line: dict[str, Any]) -> record.SoftLabels | None:
    """What the soft labels said in the epoch of a line of the metrics; None where it says nothing of them."""
    found = {name: line.get(f"soft_{name}") for name in record.SoftLabels.model_fields}
    return None if None in found.values() else record.SoftLabels.model_validate(found)


def _summary(images: ImageData) -> record.DataSummary:
    return record.DataSummary(
        classes=images.classes,
        channels=images.channels,
        image_size=images.image_size,
        mean=images.mean,
        std=images.std,
        train=len(images.train_labels),
        val=len(images.val_labels),
        test=len(images.test_labels),
        crop=images.crop,
        resample=images.resample,
        stretch=images.stretch,
        levels=images.levels,
        test_part=images.test_part,
        duplicates=images.duplicates,
    )


def _ignore(_: Progress) -> None:
    pass


def _never() -> bool:
    return False
