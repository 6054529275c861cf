"""The last layers of a run's networks, where they are trained in a way of their own."""

from contextlib import closing

import torch
from torch import Tensor, nn

from selftaught.data import ImageData
from selftaught.data.batches import Batches
from selftaught.files.config import RunConfig
from selftaught.models import classifier_layer


def found(config: RunConfig, networks: list[nn.Module], example: Tensor) -> dict[nn.Module, nn.Linear]:
    """The last layer of each network, where it begins with the probe's solution or has a rate of its own; else none.

    Args:
        config: the run's.
        networks: on the example's device.
        example: a few images as the networks take them, (B, K, H, W).

    Raises:
        InputError: a network has no linear layer that makes the logits.
    """
    if config.head == "new" and config.backbone_factor == 1:
        return {}
    remedy = "use --head new" if config.head == "probe" else "use --backbone-factor 1"
    return {network: classifier_layer.find(network, example, remedy)[1] for network in networks}


def below(classifiers: dict[nn.Module, nn.Linear]) -> list[nn.Parameter]:
    """The parameters below the classifiers."""
    own = {id(parameter) for layer in classifiers.values() for parameter in layer.parameters()}
    return [p for network in classifiers for p in network.parameters() if id(p) not in own]


def example(images: ImageData) -> Tensor:
    """Two training images as the networks take them, on the CPU."""
    few = Batches(
        images.train_images[:2], images.train_labels[:2], 2, images.mean, images.std, torch.device("cpu")
    )
    with closing(few.epoch(0)) as batches:
        made, _ = next(iter(batches))
    return made
