"""Is a finished run what was written, and do its numbers follow from its predictions?

Whoever reads a run goes through `faults`: tables, pages, archives, networks, `selftaught check`.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from selftaught.files import answers, scores
from selftaught.files.contents import PARTS, content, has_predictions, predictions, remedy, size
from selftaught.files.names import (
    ANSWERS,
    ARCHIVED,
    CHECKPOINT,
    CONFIG,
    METRICS,
    OF_THE_NETWORK,
    PREDICTIONS,
    RESULT,
    TRIALS,
    WEIGHTS,
)
from selftaught.files.reading import DamagedError, exists
from selftaught.files.results import Record, Result

_TRIAL = re.compile("[0-9a-f]{12}")


def faults(run: Record, network: bool = False) -> Iterator[DamagedError]:
    """What is wrong with a finished run, one after another; nothing where everything is what was written.

    Args:
        run: what its configuration and result say.
        network: whether to look at the files that only a network is built from, too.
    """
    yield from _names(run)
    whole = True
    for fault in _contents(run, network):
        whole = False
        yield fault
    if whole:
        yield from _numbers(run)


def kept(run: Record, network: bool = True) -> list[str]:
    """The files with a digest that are to lie in the run's folder.

    An archive leaves networks and logits out. Of older runs, whose results have no digest of their own, nobody knows
    what somebody left out: what is there is looked at.
    """
    told = run.result.sha256
    if ANSWERS in told:
        return [name for name in told if name in ARCHIVED]
    wanted = [name for name in told if network or name not in OF_THE_NETWORK]
    sealed = run.result.digest is not None
    return [name for name in wanted if sealed or (run.directory / name).exists()]


def check_unfinished(directory: Path) -> None:
    """Refuse a run that was finished and has lost its result: a checkpoint is let go of when that is written.

    Raises:
        DamagedError: it has.
    """
    has = {name: exists(directory / name) for name in (RESULT, CHECKPOINT, WEIGHTS, ANSWERS)}
    if (has[WEIGHTS] or has[ANSWERS]) and not has[RESULT] and not has[CHECKPOINT]:
        raise DamagedError(directory / RESULT, "it is missing", remedy(directory))


def same_labels(runs: Iterable[Record]) -> Iterator[DamagedError]:
    """What is wrong where trials on the same division of the data were judged by different labels."""
    first: dict[tuple[str, str], tuple[Record, str]] = {}
    for run in runs:
        for part in PARTS:
            told = answers.labels_digest(run, part) if size(run, part) else None
            if told is None:
                continue
            other, theirs = first.setdefault((run.config.data_fingerprint, part), (run, told))
            if theirs != told:
                name = PREDICTIONS if has_predictions(run) else ANSWERS
                reason = f"its {part} labels are not those of {other.directory}, which has the same data"
                yield DamagedError(run.directory / name, reason, remedy(run.directory))


def _names(run: Record) -> Iterator[DamagedError]:
    """The trial goes by three names: what its configuration comes to, what the result says, the folder's."""
    place = run.directory.absolute()
    ours, told, called = run.config.trial_id, run.result.trial_id, place.name
    named = place.parent.name == TRIALS or bool(_TRIAL.fullmatch(called))
    if ours != told:
        wrong = CONFIG if named and called == told else RESULT
        reason = f"{CONFIG} is that of trial {ours}, {RESULT} that of trial {told}"
        yield DamagedError(run.directory / wrong, reason, remedy(run.directory))
    elif named and called != ours:
        yield DamagedError(run.directory, f"it holds the trial {ours}", f"call it {ours}, or remove it")


def _contents(run: Record, network: bool) -> Iterator[DamagedError]:
    for name in kept(run, network):
        try:
            content(run, name)
        except DamagedError as fault:
            yield fault


def _numbers(run: Record) -> Iterator[DamagedError]:
    try:
        found = [(RESULT, difference) for difference in _differences(run)]
        found += [(RESULT, difference) for difference in _by_its_own_words(run.result)]
        found += [(METRICS, difference) for difference in _held_out(run)]
    except DamagedError as fault:
        yield fault
        return
    for name, difference in found:
        yield DamagedError(run.directory / name, difference, remedy(run.directory))


def _differences(run: Record) -> Iterator[str]:
    """What of the result does not follow from the predictions."""
    result = run.result
    if not size(run, "test"):
        return
    told: dict[str, float | None] = {"accuracy": result.accuracy, "nll": result.nll, "ece": result.ece}
    if not has_predictions(run):
        if answers.has_answers(run):
            archived = answers.read(run)
            known = told if archived.nll is not None else {"accuracy": result.accuracy}
            yield from archived.scores().differences(known)
        return
    logits, labels = predictions(run)
    found = scores.judged(logits, labels)
    yield from scores.scores(found).differences(told)
    by_class = scores.by_class(logits, labels)
    yield from by_class.differences({name: getattr(result, name) for name in _OF_CLASSES})
    if result.per_class_accuracy and not _same_by_class(run, by_class):
        yield "its accuracies by class are not those of the predictions"
    if result.per_class_images and list(result.per_class_images) != by_class.images.tolist():
        yield "its numbers of images by class are not those of the predictions"
    if result.temperature is not None:
        scaled = scores.scores(scores.judged(logits, labels, result.temperature))
        for difference in scaled.differences({"nll": result.nll_scaled, "ece": result.ece_scaled}):
            yield f"after temperature scaling {difference}"


_OF_CLASSES = ("balanced_accuracy", "macro_f1", "top5_accuracy")
"""Fields of a result that older records have not."""


def _by_its_own_words(result: Result) -> Iterator[str]:
    """What of a result contradicts the rest of it: all that can be told of an archive, which keeps no predictions."""
    classes = [value for value in result.per_class_accuracy if value is not None]
    balanced, images = result.balanced_accuracy, result.per_class_images
    if balanced is not None and classes and abs(balanced - sum(classes) / len(classes)) > 1e-6:
        yield f"its balanced_accuracy is {balanced:.6g}, of its classes {sum(classes) / len(classes):.6g}"
    if images and sum(images) != result.data.test:
        yield f"its classes have {sum(images)} test images together, not {result.data.test}"
    elif images and not _adds_up(result):
        yield "its accuracies and numbers of images by class do not make its accuracy"
    if result.learning and abs(result.learning[-1].accuracy - result.accuracy) > 1e-6:
        yield "the last point of its learning curve is not its accuracy"


def _adds_up(result: Result) -> bool:
    images, accuracies = result.per_class_images, result.per_class_accuracy
    if len(images) != len(accuracies):
        return False
    right = sum(n * (of or 0.0) for n, of in zip(images, accuracies, strict=True))
    return abs(right / sum(images) - result.accuracy) < 1e-6


def _same_by_class(run: Record, found: scores.ByClass) -> bool:
    told = run.result.per_class_accuracy
    return len(told) == len(found.images) and all(
        (value is None) == (not n) and (value is None or abs(value - r / n) < 1 / n)
        for value, n, r in zip(told, found.images, found.right, strict=True)
    )


def _held_out(run: Record) -> Iterator[str]:
    """What of the last epoch's numbers on held-out images does not follow from the predictions.

    They come from two passes over the images: a GPU may round the second one differently.
    """
    count = size(run, "held-out")
    told = _last_line(run) if count and run.config.device == "cpu" else {}
    if not told or not answers.has_answers(run):
        return
    if has_predictions(run):
        found = scores.scores(scores.judged(*predictions(run, "held-out")))
    else:
        archived = answers.read(run, "held-out")
        found = archived.scores()
        told = told if archived.nll is not None else {"accuracy": told.get("accuracy")}
    for difference in found.differences(told):
        yield f"of the held-out images in the last epoch {difference}"


def _last_line(run: Record) -> dict[str, float | None]:
    """Accuracy, NLL and ECE of the last epoch; nothing where there is no line, about which its reader will complain."""
    if not (run.directory / METRICS).exists():
        return {}
    try:
        line: Any = json.loads(content(run, METRICS).splitlines()[: run.config.epochs][-1])
        values = {name: line.get(f"val_{name}") for name in ("accuracy", "nll", "ece")}
    except (DamagedError, ValueError, AttributeError, LookupError, RecursionError):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


_Found = TypeVar("_Found")
_Signature = tuple[tuple[str, int, int, int, int], ...]
_known: dict[Path, tuple[_Signature, Any]] = {}

_SETTLED = 2.0
"""Seconds after which a file's time stamp tells what it holds from what is written into it now."""


def unchanged(directory: Path, read: Callable[[], _Found]) -> _Found:
    """What `read` made of a folder's files, which in this process is done once for as long as nobody touches them.

    Tables and searches read the same trials again and again. Files of the last two seconds are always read again:
    they might be changed once more without another time stamp.
    """
    place = directory.absolute()
    before = _signature(place)
    if before is not None and place in _known and _known[place][0] == before:
        found: _Found = _known[place][1]
        return found
    found = read()
    newest = max((max(entry[1:3]) for entry in before or ()), default=0)
    _known.pop(place, None)
    if before is not None and before == _signature(place) and time.time() - newest / 1e9 > _SETTLED:
        _known[place] = before, found
    return found


def _signature(directory: Path) -> _Signature | None:
    """Names, times, sizes and numbers of a folder's files."""
    try:
        entries = sorted((entry.name, entry.stat()) for entry in os.scandir(directory))
    except OSError:
        return None
    return tuple((name, of.st_mtime_ns, of.st_ctime_ns, of.st_size, of.st_ino) for name, of in entries)
