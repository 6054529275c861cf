"""A pretrained network's new head, before anything else is trained: the linear probe's solution.

Features are computed once, without augmentation, for all trials with the same network and images, and so is the
solution: both are kept in the cache of decoded data.
"""

import sys
import time
from dataclasses import dataclass
from typing import Any

import sklearn
import torch
import xxhash
from torch import Tensor, nn

from selftaught.activities import activity
from selftaught.data import cache
from selftaught.data.streaming import Images
from selftaught.files.config import RunConfig
from selftaught.models import classifier_layer
from selftaught.training import probe, seeds
from selftaught.training.probe import Probe
from selftaught.training.session import Session

_PARTS = {"train": "training", "test": "test"}


VERSION = 2
"""Raised whenever what is kept of features or solutions would be another with the same key."""


@dataclass(frozen=True)
class Head:
    """What the fitting of a head came to: the strength of its penalty, and the seconds of features and fit."""

    strength: float
    of_features: float
    of_fit: float

    @property
    def seconds(self) -> float:
        """Of both."""
        return self.of_features + self.of_fit


def fit(session: Session) -> Head:
    """Give the model's classifier, and those of its peers, the solution of the linear probe.

    A peer begins with the solution for other images, drawn with replacement: two equal networks could not teach each
    other anything.
    """
    images, config = session.images, session.config
    network, *peers = session.classifiers
    balanced = _is_balanced(config)
    found, fitted = _solution(session, network, balanced)
    _write(session.classifiers[network], found)
    generator = torch.Generator().manual_seed(seeds.derive(config.seed, "peers"))
    for peer in peers:
        features, _ = _features(session, peer, "train")
        drawn = _drawn_again(images.train_labels, generator)
        other = probe.fit(
            features[drawn], images.train_labels[drawn], images.num_classes, balanced, found.strength
        )
        _write(session.classifiers[peer], other)
    return fitted


def _drawn_again(labels: Tensor, generator: torch.Generator) -> Tensor:
    """As many images of each class as there are, drawn with replacement: their positions, int64 (N,)."""
    members = [(labels == label).nonzero().flatten() for label in labels.unique()]
    return torch.cat([of[torch.randint(len(of), (len(of),), generator=generator)] for of in members])


def learning_curve(session: Session) -> list[tuple[int, Tensor, float]]:
    """For a quarter and a half of the training images: their number, the probe's logits (N, C) of the test images, and
    the seconds that the fit took.
    """
    images, config = session.images, session.config
    network = next(iter(session.classifiers))
    features, _ = _features(session, network, "train")
    of_test, _ = _features(session, network, "test")
    balanced, points = _is_balanced(config), []
    with activity(session.on_activity, "fitting the probe to fewer images"):
        begun = time.perf_counter()
        for size, found in probe.curve(features, images.train_labels, images.num_classes, balanced):
            points.append((size, found(of_test), time.perf_counter() - begun))
            begun = time.perf_counter()
    return points


def _is_balanced(config: RunConfig) -> bool:
    """Whether training counts each class alike."""
    return config.class_weights == "balanced" or config.sampling == "balanced"


def _solution(session: Session, network: nn.Module, balanced: bool) -> tuple[Probe, Head]:
    """The probe of a network's training images, and what it took whoever computed it."""
    key = f"probe {balanced} {sklearn.__version__} {_key(session, network, 'train')}"
    kept = _read(key)
    if kept is None:
        features, seconds = _features(session, network, "train")
        begun = time.perf_counter()
        labels, classes = session.images.train_labels, session.images.num_classes
        with activity(session.on_activity, "fitting the linear probe"):
            found = probe.fit(features, labels, classes, balanced)
        taken = time.perf_counter() - begun
        numbers = torch.tensor([found.strength, seconds, taken], dtype=torch.float64)
        kept = {"weight": found.weight, "bias": found.bias, "numbers": numbers}
        cache.write(key, kept)
    fitted = Head(*kept["numbers"].tolist())
    return Probe(kept["weight"], kept["bias"], fitted.strength), fitted


def _features(session: Session, network: nn.Module, part: str) -> tuple[Tensor, float]:
    """What the classifier reads of each image of a part, float32 (N, D), and the seconds that this took."""
    key = f"features {_key(session, network, part)}"
    kept = _read(key)
    if kept is None:
        images: Images = getattr(session.images, f"{part}_images")
        labels: Tensor = getattr(session.images, f"{part}_labels")
        begun = time.perf_counter()
        batches = session.evaluation_batches(images, labels)
        inputs, read = (x for x, _ in batches.epoch(0)), list[Tensor]()
        what = f"computing the features of the {_PARTS[part]} images"
        with session.fabric.autocast(), activity(session.on_activity, what, len(labels)) as doing:
            for features in classifier_layer.features(network, session.classifiers[network], inputs):
                read.append(features)
                doing.advance(min(len(read) * batches.batch_size, len(labels)))
        taken = torch.tensor([time.perf_counter() - begun], dtype=torch.float64)
        kept = {"features": torch.cat(read).contiguous(), "seconds": taken}
        cache.write(key, kept)
    return kept["features"], float(kept["seconds"])


def _key(session: Session, network: nn.Module, part: str) -> str:
    """All that the features of a part depend on."""
    config, images = session.config, session.images
    device = torch.cuda.get_device_name() if config.device == "cuda" else "cpu"
    return repr(
        (
            *(part, config.data_fingerprint, images.image_size, images.mean, images.std),
            *(config.model_fingerprint or config.model, _digest(network, session.classifiers[network])),
            *(config.precision, config.threads, device, session.evaluation_size),
            *(VERSION, torch.__version__, *_packages(network)),
        )
    )


def _packages(network: nn.Module) -> list[str]:
    """Name and version of each package that a part of the network comes from: its code may change with it."""
    names = {type(module).__module__.partition(".")[0] for module in network.modules()}
    return [f"{name} {getattr(sys.modules.get(name), '__version__', '')}" for name in sorted(names)]


def _digest(network: nn.Module, classifier: nn.Linear) -> str:
    """XXH3 of a network's weights and buffers but for those of its classifier, which features do not depend on."""
    total = xxhash.xxh3_128()
    own = {id(parameter) for parameter in classifier.parameters()}
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if id(tensor) not in own:
            total.update(repr((name, tensor.shape, tensor.dtype)).encode())
            total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _read(key: str) -> dict[str, Any] | None:
    try:
        return cache.read(key)
    except cache.DamagedError:
        return None  # it is computed anew, and then written over


def _write(layer: nn.Linear, found: Probe) -> None:
    with torch.no_grad():
        layer.weight.copy_(found.weight)
        layer.bias.copy_(found.bias)  # `classifier_layer.find` takes no layer without one
