"""What a trained model sees in single images: one map per class and how alike the classes look (Figure 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from selftaught import models, similarity
from selftaught.saliency import explain
from selftaught.saliency.layers import name_of
from selftaught.training.trained import TrainedModel


@dataclass(frozen=True)
class ExplainedImage:
    """One image's explanation, C classes.

    Attributes:
        name: what the image is called.
        image: uint8 (H, W) or (H, W, 3).
        maps: (C, h, w), signed; several input channels are summed.
        similarity: (C,), of each class's map to the reference class's.
        probabilities: (C,).
        reference: the true class where it is known, else the predicted one.
        truth: the true class, or None.
    """

    name: str
    image: np.ndarray
    maps: np.ndarray
    similarity: np.ndarray
    probabilities: np.ndarray
    reference: int
    truth: int | None

    @property
    def prediction(self) -> int:
        """The most probable class."""
        return int(self.probabilities.argmax())


def default_saliency(model: TrainedModel) -> str:
    """What the run itself explained with, else Grad-CAM where the network has feature maps."""
    fallback = "grad-cam" if models.is_spatial(model.config.model) else "grad"
    return str(model.config.settings.get("saliency", fallback))


def explain_images(
    model: TrainedModel,
    images: Tensor,
    names: Sequence[str],
    labels: Tensor | None = None,
    saliency: str | None = None,
    layer: str | None = None,
) -> list[ExplainedImage]:
    """Explain images (N, K, H, W), uint8, with a trained model.

    Args:
        model: from `selftaught.load`.
        images: as the model takes them.
        names: N names.
        labels: (N,) int64 true classes; the predicted ones are the reference where None.
        saliency: which maps; if None those the run was trained with, and its layer, ReLU and similarity.
        layer: Grad-CAM's layer in the network, if another.
    """
    settings = model.config.settings if saliency is None else {}
    layer = layer or cast(str | None, settings.get("layer"))
    if layer is not None:
        layer = f"model.{name_of(model.model, layer)}"
    explanation = explain(
        model, images.float() / 255, saliency or default_saliency(model), layer, bool(settings.get("relu"))
    )
    reference = explanation.logits.argmax(1) if labels is None else labels
    likeness = similarity.get(str(settings.get("similarity", "cosine")))(explanation.maps, reference)
    probabilities = explanation.logits.softmax(1)
    maps = explanation.maps.sum(2) if explanation.maps.dim() == 5 else explanation.maps
    return [
        ExplainedImage(
            name=name,
            image=_picture(images[i]),
            maps=maps[i].numpy(),
            similarity=likeness[i].numpy(),
            probabilities=probabilities[i].numpy(),
            reference=int(reference[i]),
            truth=None if labels is None else int(labels[i]),
        )
        for i, name in enumerate(names)
    ]


def one_per_class(labels: Tensor, count: int) -> list[int]:
    """Positions of `count` samples that go through the classes in turn, the first of each, then the second, ...

    >>> one_per_class(torch.tensor([1, 1, 0, 0, 2]), 4)
    [2, 0, 4, 3]
    """
    classes = [torch.nonzero(labels == label).flatten().tolist() for label in labels.unique()]
    rounds = range(max(map(len, classes)))
    return [members[turn] for turn in rounds for members in classes if turn < len(members)][:count]


def _picture(image: Tensor) -> np.ndarray:
    return image[0].numpy() if image.shape[0] == 1 else image.permute(1, 2, 0).numpy()
