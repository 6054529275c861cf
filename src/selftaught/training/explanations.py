"""What a trained model sees in single images: a map per class and how alike the classes look (Figure 1)."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught import models, similarity
from selftaught.data.streaming import Images
from selftaught.errors import ExplanationError
from selftaught.files.trace import ExplainedImage
from selftaught.saliency import explain
from selftaught.saliency.layers import name_of
from selftaught.training.trained import TrainedModel

MOST_CLASSES = 10
"""How many classes are explained where there are more: what fits on a screen."""

_AT_ONCE = 4
"""Images explained together: one map for each of their classes, at full resolution, has to fit in memory."""

_STORED_SIDE = 64
"""Stored maps have no longer side than this: enough to look at, and a record stays small."""


def default_saliency(model: TrainedModel) -> str:
    """What the run itself explained with, else what suits its network."""
    return str(model.config.settings.get("saliency", models.default_saliency(model.config.model)))


def explain_images(
    model: TrainedModel,
    images: Tensor,
    names: Sequence[str],
    labels: Tensor | None = None,
    saliency: str | None = None,
    layer: str | None = None,
    most: int = MOST_CLASSES,
) -> list[ExplainedImage]:
    """Explain images (N, K, H, W), uint8, with a trained model.

    Args:
        model: from `selftaught.load`, in eval mode.
        images: as the model takes them.
        names: N names.
        labels: (N,) int64 true classes; the predicted ones are the reference where None.
        saliency: which maps; if None those the run was trained with, and its layer, ReLU, centring, upsampling and
            similarity.
        layer: Grad-CAM's layer in the network, if another.
        most: how many classes to explain, where there are more.

    Raises:
        InputError: an unknown saliency or layer.
        ExplanationError: there is nothing to explain, every map is zero, or a map is not a picture.
    """
    probabilities = probabilities_of(model, images)
    reference = probabilities.argmax(1) if labels is None else labels
    if probabilities.shape[1] > most:
        classes = most_relevant(probabilities, reference, most)
    else:
        classes = torch.arange(probabilities.shape[1]).expand(len(images), -1)
    maps, likeness = maps_and_similarity(model, images, classes, reference, saliency, layer)
    return [
        ExplainedImage(
            name=name,
            image=_picture(images[i]),
            classes=classes[i].numpy(),
            maps=maps[i].numpy(),
            similarity=likeness[i].numpy(),
            probabilities=probabilities[i].numpy(),
            reference=int(reference[i]),
            truth=None if labels is None else int(labels[i]),
        )
        for i, name in enumerate(names)
    ]


def examples(
    model: TrainedModel, images: Images, labels: Tensor, logits: Tensor, count: int = 8
) -> dict[str, np.ndarray]:
    """Test images that a model gets right or wrong with most confidence, and why: what a finished run stores.

    Half of the n <= `count` images are right, then come the wrong ones; each half goes through the true classes in
    turn, the surest first. Fewer where there are not enough, and none with maps of zeros.

    Args:
        model: in eval mode, on any device.
        images: N images, uint8 (N, K, H, W), or a stand-in that an int64 index tensor reads them from.
        labels: (N,) int64.
        logits: (N, C), what the model says of the images.
        count: how many to choose.

    Returns:
        `images` uint8 (n, K, H, W); `index` int64 (n,), their positions; `labels` int64 (n,); `probabilities`
        float32 (n, C); `classes` int64 (n, k), k = min(C, 10): truth, prediction, then the most probable; their
        `maps` float32 (n, k, h, w), no side above 64; `similarity` float32 (n, k) of each to the true class's map.
        Empty where the model cannot be explained or no image was chosen.
    """
    probabilities = logits.double().softmax(1)
    chosen = _surest(probabilities, labels, count)
    if not len(chosen):
        return {}
    shown, truth = images[chosen], labels[chosen]
    classes = most_relevant(probabilities[chosen], truth, MOST_CLASSES)
    try:
        maps, likeness = maps_and_similarity(model, shown, classes, truth)
    except Exception:
        # A network of the user's own may not be made for explanations, and may raise anything: its run is worth more
        # than these pictures.
        return {}
    found = {
        "images": shown,
        "index": chosen,
        "labels": truth,
        "probabilities": probabilities[chosen].float(),
        "classes": classes,
        "maps": shrunk(maps, _STORED_SIDE),
        "similarity": likeness,
    }
    visible = maps.flatten(1).any(1)
    return {name: value[visible].numpy() for name, value in found.items()} if visible.any() else {}


def most_relevant(probabilities: Tensor, reference: Tensor, most: int) -> Tensor:
    """The reference class, the predicted one, then the most probable others: int64 (N, min(C, most)).

    >>> most_relevant(torch.tensor([[0.1, 0.5, 0.3, 0.1], [0.1, 0.5, 0.3, 0.1]]), torch.tensor([3, 1]), 3)
    tensor([[3, 1, 2],
            [1, 2, 0]])
    """
    score = probabilities.clone().scatter_(1, reference[:, None], 2.0)
    return score.argsort(dim=1, descending=True, stable=True)[:, :most]


def one_per_class(labels: Tensor, count: int) -> list[int]:
    """Positions of `count` samples that go through the classes in turn, the first of each, then the second, ...

    >>> one_per_class(torch.tensor([1, 1, 0, 0, 2]), 4)
    [2, 0, 4, 3]
    """
    classes = [torch.nonzero(labels == label).flatten().tolist() for label in labels.unique()]
    rounds = range(max(map(len, classes)))
    return [members[turn] for turn in rounds for members in classes if turn < len(members)][:count]


@torch.no_grad()
def probabilities_of(model: TrainedModel, images: Tensor) -> Tensor:
    """Probabilities of images (N, K, H, W), uint8: float32 (N, C) on the CPU."""
    logits = [model(part.to(model.mean.device)) for part in images.split(_AT_ONCE)]
    return torch.cat(logits).float().softmax(1).cpu()


def _surest(probabilities: Tensor, labels: Tensor, count: int) -> Tensor:
    confidence, prediction = probabilities.max(1)
    order = confidence.argsort(descending=True, stable=True)
    right = (prediction == labels)[order]
    halves = [(order[right], count - count // 2), (order[~right], count // 2)]
    return torch.cat([_in_turn(positions, labels)[:size] for positions, size in halves])


def _in_turn(positions: Tensor, labels: Tensor) -> Tensor:
    """The same positions: the first of each class, then the second of each class, ..."""
    turns: Counter[int] = Counter()
    ranks = []
    for label in labels[positions].tolist():
        ranks.append(turns[label])
        turns[label] += 1
    return positions[torch.tensor(ranks, dtype=torch.int64).argsort(stable=True)]


def maps_and_similarity(
    model: TrainedModel,
    images: Tensor,
    classes: Tensor,
    reference: Tensor,
    saliency: str | None = None,
    layer: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Maps as pictures of each image's own k classes, and how similar they are to the reference class's.

    Args:
        model: in eval mode, on any device.
        images: uint8 (N, K, H, W).
        classes: int64 (N, k), which classes to explain of each image.
        reference: int64 (N,), each among its image's `classes`.
        saliency: which maps; if None those the run was trained with, and its layer, ReLU, centring, upsampling and
            similarity.
        layer: Grad-CAM's layer in the network, if another.

    Returns:
        (N, k, h, w), input channels summed, and (N, k), both float32 on the CPU.

    Raises:
        InputError: an unknown saliency or layer.
        ExplanationError: there is nothing to explain, every map is zero, or a map is not a picture.
    """
    settings = model.config.settings if saliency is None else {}
    saliency = saliency or default_saliency(model)
    layer = layer or cast(str | None, settings.get("layer"))
    if layer is not None:
        layer = f"model.{name_of(model.model, layer)}"
    compare = similarity.get(str(settings.get("similarity", "cosine")))
    plan, found, likeness = None, [], []
    for x, kept, truth in zip(*(t.split(_AT_ONCE) for t in (images, classes, reference)), strict=True):
        union = kept.unique()
        x = x.to(model.mean.device).float() / 255
        relu, centre = bool(settings.get("relu")), bool(settings.get("centre"))
        explanation = explain(model, x, saliency, layer, relu, union.tolist(), plan=plan, centre=centre)
        plan = explanation.plan
        maps = explanation.maps.cpu()[
            torch.arange(len(kept))[:, None], torch.searchsorted(union, kept.contiguous())
        ]
        compared = similarity.upsampled(maps, model.input_shape[1:]) if settings.get("upsample") else maps
        likeness.append(compare(compared, (kept == truth[:, None]).int().argmax(1)))
        found.append(_as_pictures(maps))
    return torch.cat(found).float(), torch.cat(likeness).float()


def _as_pictures(maps: Tensor) -> Tensor:
    """Maps (B, k, h, w), of several input channels their sum; tokens came as a grid of patches, if theirs is known."""
    match maps.dim():
        case 5:
            return maps.sum(2)
        case 4:
            return maps
    raise ExplanationError(
        f"a map of shape {tuple(maps.shape[2:])} is no picture: choose another layer= or saliency='grad'"
    )


def shrunk(maps: Tensor, side: int) -> Tensor:
    """Maps (N, k, h, w) averaged down by a whole factor until no side is longer than `side`."""
    factor = math.ceil(max(maps.shape[2:]) / side)
    return F.avg_pool2d(maps, factor, ceil_mode=True) if factor > 1 else maps


def _picture(image: Tensor) -> np.ndarray:
    return image[0].numpy() if image.shape[0] == 1 else image.permute(1, 2, 0).numpy()
