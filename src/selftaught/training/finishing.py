"""The end of a run: its last epoch's model on the test images, and the record of it all."""

import json
from pathlib import Path
from typing import Any

from safetensors.numpy import save as save_arrays
from safetensors.torch import save
from torch import Tensor

from selftaught import models
from selftaught.data import ImageData
from selftaught.data.streaming import Images
from selftaught.files import record, trace
from selftaught.files.results import Result
from selftaught.files.sealing import sha256
from selftaught.training import explanations, head
from selftaught.training.checkpoint import Saved
from selftaught.training.evaluate import by_class, calibrate, predict, scores
from selftaught.training.loop import Position, diverged
from selftaught.training.metrics import accuracy, balanced_accuracy
from selftaught.training.session import Session
from selftaught.training.trained import TrainedModel


def finish(directory: Path, session: Session, saved: Saved) -> Result:
    """Evaluate the last epoch's model on the test images and write the record; result.json comes last.

    Raises:
        DivergedError: predictions are not finite.
    """
    images, position = session.images, saved.position
    of_test = logits(session, images.test_images, images.test_labels, position)
    predictions = {"logits": of_test, "labels": images.test_labels}
    calibrated: dict[str, Any] = {}
    if len(images.val_labels):
        of_val = logits(session, images.val_images, images.val_labels, position)
        predictions |= {"val_logits": of_val, "val_labels": images.val_labels}
        calibrated = calibrate(of_test, images.test_labels, of_val, images.val_labels)
    result = Result(
        trial_id=session.config.trial_id,
        **{**scores(of_test, images.test_labels), **by_class(of_test, images.test_labels), **calibrated},
        peer_accuracy=_peers(session),
        soft_labels=_soft_labels(saved.lines[-1]) if saved.lines else None,
        epochs=position.epoch,
        seconds=position.seconds,
        images_per_second=position.images / position.seconds,
        **_probed(session, saved.head, of_test),
        data=_summary(images),
        environment=saved.environment,
        sha256=_write_files(directory, session, saved, predictions),
    )
    return record.write_result(directory, result)


def logits(session: Session, images: Images, labels: Tensor, position: Position) -> Tensor:
    """Logits of images, float32 (N, C).

    Raises:
        DivergedError: one is not finite: nothing could be measured of them.
    """
    found = predict(session, images, labels)
    if not found.isfinite().all():
        raise diverged("the predictions became NaN or infinite", position)
    return found


def trained_model(session: Session) -> TrainedModel:
    """The network as it is now, with its preprocessing, on its device."""
    return TrainedModel(session.network, session.config, _summary(session.images)).to(session.fabric.device)


def _probed(session: Session, fitted: dict[str, float] | None, of_test: Tensor) -> dict[str, Any]:
    """What a probe has to say of itself: the strength of its penalty, and what fewer images would have given."""
    if not session.method.head_only or fitted is None:
        return {}
    points = head.learning_curve(session)
    points.append((len(session.images.train_labels), of_test, fitted["of_fit"]))
    labels = session.images.test_labels
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


def _peers(session: Session) -> tuple[float, ...]:
    """The test accuracy of other whole networks that were trained at the same time."""
    images = session.images
    return tuple(
        accuracy(predict(session, images.test_images, images.test_labels, peer), images.test_labels)
        for peer in session.wrapped[1:]
    )


def _write_files(
    directory: Path, session: Session, saved: Saved, predictions: dict[str, Tensor]
) -> dict[str, str]:
    """The configuration, the metrics, the weights, what rebuilds the network, the predictions and some examples.

    Returns:
        Their digests.
    """
    network, images = session.network, session.images
    # Clones, because a module that goes by two names would be refused.
    weights = {name: value.cpu().contiguous().clone() for name, value in network.state_dict().items()}
    trained = trained_model(session).cpu().eval()
    examples = explanations.examples(trained, images.test_images, images.test_labels, predictions["logits"])
    files = {
        # The data may have moved, or the file have been damaged, since it was first written.
        record.CONFIG: record.config_content(session.config),
        record.METRICS: record.metrics_content(saved.lines),
        record.WEIGHTS: save(weights),
        record.PREDICTIONS: save(predictions),
    }
    if examples:
        names = [images.test_name(index) for index in examples["index"].tolist()]
        files[record.EXAMPLES] = save_arrays(examples, {"names": json.dumps(names)})
    description = models.description(network)
    if description is not None:
        files[record.MODEL] = (json.dumps(description, indent=2) + "\n").encode()
    if saved.trace:
        files[trace.TRACE] = trace.pack(saved.trace)
    if session.source is not None:
        files[record.SOURCE] = session.source  # nothing runs it unasked
    for name, content in files.items():
        record.write(directory / name, content)
    return {name: sha256(content, name) for name, content in files.items()}


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
