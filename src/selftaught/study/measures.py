"""What the explanations of finished runs say about classes, averaged over test images (Figures 2 and 3)."""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from selftaught import similarity
from selftaught.data.streaming import Images
from selftaught.errors import InputError
from selftaught.files import record, sealing
from selftaught.saliency import explain
from selftaught.saliency.plan import Plan
from selftaught.training import seeds, trained
from selftaught.training.explanations import default_saliency, one_per_class
from selftaught.training.loop import Stopped
from selftaught.training.presets import data_of

MEASURES = "measures.json"
"""The usual name of a cache, beside the runs that it is about."""

_AT_ONCE, _ELEMENTS = 64, 2**22
"""Images explained together, at most so many, and fewer where their maps have more elements than this."""


@dataclass(frozen=True)
class Measuring:
    """How to measure, whatever is measured.

    Attributes:
        images: how many test images to look at, going through the classes in turn; None for all.
        cache: a JSON file that remembers results; created if needed, a damaged one is begun anew.
        on_progress: called with the images done and their number after each batch.
        should_stop: asked before each batch; once it says yes, `Stopped` is raised.
    """

    images: int | None = None
    cache: Path | None = None
    on_progress: Callable[[int, int], None] = lambda done, total: None
    should_stop: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise InputError(f"images is {self.images} but should be at least 1, or None for all")


def class_similarity(
    run_directory: str | os.PathLike, saliency: str | None = None, how: Measuring | None = None
) -> np.ndarray:
    """Mean cosine between the explanations of every two classes over the test images: a panel of Figure 2.

    Args:
        run_directory: a finished run.
        saliency: which maps; None for those that the run was trained with, Grad-CAM where it was trained without (Grad
            for a network without feature maps).
        how: how many images, and the rest.

    Returns:
        float64 (C, C), symmetric, in [-1, 1].

    Raises:
        InputError: no finished run, its data is gone or changed, or an unknown saliency.
        ExplanationError: the network cannot be explained so.
        Stopped: `should_stop` said so.
    """
    measurement = _Measurement(run_directory, saliency, how or Measuring())
    classes = len(measurement.run.result.data.classes)

    def measure() -> list[list[float]]:
        total = torch.zeros(classes, classes, dtype=torch.float64)
        for maps, _ in measurement.batches():
            total += similarity.between_classes(maps).double().sum(0).cpu()
        mean = total / measurement.count
        return ((mean + mean.T) / 2).tolist()

    return np.array(measurement.cached("class-similarity", (classes, classes), measure))


def discriminativeness(
    run_directory: str | os.PathLike, saliency: str | None = None, how: Measuring | None = None
) -> float:
    """Mean over test images and classes k ≠ y of the Spearman correlation between the maps of k and the true class y.

    The lower, the better the maps tell classes apart: what Figure 3 sets beside the accuracy. Maps of colour images
    are compared over all channels, as LE compares them. Any run can be measured with any saliency.

    Args:
        run_directory: a finished run.
        saliency: which maps; None as for `class_similarity`.
        how: how many images, and the rest.

    Returns:
        A number in [-1, 1].

    Raises:
        InputError: no finished run, its data is gone or changed, or an unknown saliency.
        ExplanationError: the network cannot be explained so.
        Stopped: `should_stop` said so.
    """
    measurement = _Measurement(run_directory, saliency, how or Measuring())
    others = len(measurement.run.result.data.classes) - 1

    def measure() -> float:
        total = 0.0
        for maps, labels in measurement.batches():
            correlation = similarity.rank_correlation(maps, labels).double()
            total += float(correlation.scatter(1, labels[:, None], 0.0).sum())
        return total / (measurement.count * others)

    return float(measurement.cached("discriminativeness", (), measure))


class _Measurement:
    """A finished run to be explained."""

    def __init__(self, run_directory: str | os.PathLike, saliency: str | None, how: Measuring) -> None:
        self.run, self.saliency, self.how = record.read(run_directory), saliency, how
        total = self.run.result.data.test
        self.count = total if how.images is None else min(how.images, total)
        if not self.count:
            raise InputError(f"the run in {self.run.directory} has no test images to be explained")

    def cached(self, kind: str, shape: tuple[int, ...], measure: Callable[[], Any]) -> Any:
        """The cache's value of this shape, else what `measure` says, which the cache then remembers."""
        key, cache = self.key(kind), self.how.cache
        known = _read(cache).get(key) if cache else None
        if _is_measure(known, shape):
            return known
        with seeds.contained(self.run.config.threads):
            value = measure()
        if cache:
            # Read again: somebody else may have measured in the meantime.
            values = _read(cache) | {key: value}
            record.make_directory(cache.parent)
            record.write(cache, sealing.seal(dict(sorted(values.items()))))
        return value

    def key(self, kind: str) -> str:
        """What was measured of which run; its weights as well, which another machine may have found differently."""
        weights = self.run.result.sha256.get(record.WEIGHTS, "")[:12]
        return f"{self.run.config.trial_id} {weights} {kind} {self.saliency or 'own'} {self.count}"

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Maps (B, C, *shape of a map) and labels (B,) of the chosen test images, batch after batch."""
        config = self.run.config
        model = trained.load(self.run.directory)
        images = data_of(config, model.preparation)
        device = "cuda" if config.device == "cuda" and torch.cuda.is_available() else "cpu"
        explainer = _Explainer(model.to(device), self.saliency)
        chosen = torch.tensor(one_per_class(images.test_labels, self.count))
        size = max(1, min(_AT_ONCE, _ELEMENTS // (images.num_classes * math.prod(model.input_shape))))
        done = 0
        # Even parts: a last batch of one image might have no map but zeros, which is an error in a batch.
        for part in chosen.tensor_split(math.ceil(self.count / size)):
            if self.how.should_stop():
                raise Stopped("stopped")
            yield explainer(images.test_images, part), images.test_labels[part].to(device)
            done += len(part)
            self.how.on_progress(done, self.count)


class _Explainer:
    """Explains test images as the run did while it was trained, or with another saliency's defaults."""

    def __init__(self, model: trained.TrainedModel, saliency: str | None) -> None:
        settings = model.config.settings
        own = saliency is None or saliency == settings.get("saliency")
        self.model, self.saliency = model, saliency or default_saliency(model)
        self.layer = cast(str | None, settings.get("layer")) if own else None
        self.relu, self.centre = (own and bool(settings.get(name)) for name in ("relu", "centre"))
        self.plan: Plan | None = None

    def __call__(self, images: Images, index: Tensor) -> Tensor:
        # The network's own input, as in training: Grad*Input multiplies by it.
        x = (images[index].to(self.model.mean.device).float() / 255 - self.model.mean) / self.model.std
        explanation = explain(
            self.model.model, x, self.saliency, self.layer, self.relu, plan=self.plan, centre=self.centre
        )
        self.plan = explanation.plan
        return explanation.maps


def _read(cache: Path) -> dict[str, Any]:
    """What a cache remembers; nothing where it is missing or damaged, since all of it can be measured again."""
    if not cache.exists():
        return {}
    try:
        values = sealing.read(cache, None, "remove it")
    except InputError:
        return {}
    values.pop(sealing.KEY, None)
    return values


def _is_measure(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether a value is a number in [-1, 1], or lists of them in this shape."""
    if shape:
        fits = isinstance(value, list) and len(value) == shape[0]
        return fits and all(_is_measure(row, shape[1:]) for row in value)
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1 + 1e-9
