"""Image classifiers of torchvision, pretrained and with a new head: ``torchvision:NAME``."""

import difflib
import os
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from selftaught.data.preparation import Preparation
from selftaught.errors import InputError, shown
from selftaught.models import packages
from selftaught.models.architecture import Architecture, Spec, register_pattern
from selftaught.models.wrapped import reason
from selftaught.saliency.preserve import preserved_rng

# Their second heads go; their own weights expect pictures that the network itself has scaled anew.
_AUXILIARY = {"googlenet", "inception_v3"}
_OF_AUXILIARY = {"aux_logits": False, "transform_input": True, "init_weights": True}
_OWN_WEIGHTS = "give weights of your own as --weights FILE.safetensors"


@register_pattern(r"torchvision:(\w+)(?:\.(\w+))?", takes_weights=True)
class TorchVision(packages.Packaged):
    """The classifier that torchvision calls `source`, with the weights called `tag` (else the best) or a file's."""

    package = "torchvision"

    def __init__(self, source: str, tag: str | None, weights: str | None) -> None:
        super().__init__(source, weights)
        self.tag = tag
        self.name += f".{tag}" if tag else ""

    def preparation(self) -> Preparation:
        """See `Architecture`."""
        asked = _own(self.source_name, self.tag).transforms()
        try:
            (size,), (edge,) = asked.crop_size, asked.resize_size
            resample, mean, std = asked.interpolation.value, tuple(asked.mean), tuple(asked.std)
        except (AttributeError, ValueError, TypeError):
            raise InputError(
                f"what torchvision:{self.source_name} does to its pictures is not understood: use another model"
            ) from None
        return Preparation((size, size), 3, min(1.0, size / edge), resample, mean, std)

    def own_file(self) -> Path:
        """See `Packaged`."""
        return _own_file(self.source_name, self.tag)

    def head(self) -> Iterable[str]:
        """See `Packaged`."""
        return _head(self.source_name)

    def fresh(self, spec: Spec) -> tuple[nn.Module, dict[str, Any]]:
        """See `Packaged`."""
        source = self.source_name if spec.description is None else _described(spec.description)
        if spec.in_channels != 3:
            raise InputError(f"{self.name} takes images of 3 channels, not {spec.in_channels}: convert them")
        _head(source)  # refuses what torchvision does not have
        with packages.refusing(f"{self.name} cannot be built", "use another release of torchvision"):
            return _network(source, spec.num_classes), {"name": source}

    def filled(self, network: nn.Module, recipe: dict[str, Any], spec: Spec, head: list[str]) -> nn.Module:
        """See `Packaged`."""
        own = network.state_dict()
        if self.weights is not None:
            found = packages.tensors(packages.given(self.weights), own, head)
            auxiliary = ("AuxLogits.", "aux1.", "aux2.")
            found = {key: value for key, value in found.items() if not key.startswith(auxiliary)}
            packages.fill(f"the weights in {self.weights}", network, found)
            return network
        options = {"aux_logits": False} if self.source_name in _AUXILIARY else {}
        weights, models = _own(self.source_name, self.tag), packages.imported("torchvision").models
        self.own_file()
        with packages.refusing(f"the weights of {self.name} cannot be loaded", _OWN_WEIGHTS):
            # torchvision knows what it called its tensors when the file was written.
            original = models.get_model(self.source_name, weights=weights, **options).state_dict()
        packages.fill(f"the weights of {self.name}", network, original | {key: own[key] for key in head})
        return network


@register_pattern(r"torchvision:(.*)", takes_weights=True)
def _no_name(source: str, weights: str | None) -> Architecture:
    raise InputError(
        f"model torchvision:{shown(source)} is none of torchvision's: name it like torchvision:resnet50, or with its "
        "weights like torchvision:resnet50.IMAGENET1K_V1"
    )


def _check_known(source: str) -> None:
    torchvision = packages.imported("torchvision")
    known = torchvision.models.list_models(module=torchvision.models)
    if source not in known:
        near = difflib.get_close_matches(source, known, n=1)
        hint = f"did you mean torchvision:{near[0]}?" if near else f"there are {', '.join(known)}"
        raise InputError(
            f"unknown model torchvision:{source} (torchvision {torchvision.__version__}): {hint}"
        )


def _own(source: str, tag: str | None) -> Any:
    """torchvision's own weights for a model."""
    _check_known(source)
    there_are = packages.imported("torchvision").models.get_model_weights(source)
    if tag is None:
        return there_are.DEFAULT
    if tag not in there_are.__members__:
        raise InputError(
            f"torchvision has no weights {tag} for {source}: there are {', '.join(there_are.__members__)}"
        )
    return there_are[tag]


@lru_cache
def _own_file(source: str, tag: str | None) -> Path:
    """The file of torchvision's own weights, in torch hub's cache; fetched if it is not there."""
    url = _own(source, tag).url
    path = Path(torch.hub.get_dir(), "checkpoints", os.path.basename(url))
    if path.is_file():
        return path
    checksum = path.stem.rpartition("-")[2]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with packages.quiet():
            torch.hub.download_url_to_file(url, str(path), checksum, progress=sys.stderr.isatty())
    except Exception as error:  # whatever the network stack raises
        raise InputError(
            f"the weights of torchvision:{source} are not here and cannot be fetched ({reason(error)}): {_OWN_WEIGHTS}"
        ) from None
    return path


def _network(source: str, num_classes: int) -> Any:
    """With random weights."""
    options = _OF_AUXILIARY if source in _AUXILIARY else {}
    models = packages.imported("torchvision").models
    with packages.quiet():
        return models.get_model(source, weights=None, num_classes=num_classes, **options)


@lru_cache
def _head(source: str) -> tuple[str, ...]:
    """The parameters whose shape depends on the number of classes."""
    _check_known(source)
    try:
        with torch.device("meta"):
            few, more = _sizes(source)
    except (RuntimeError, NotImplementedError):  # some look at their weights while they are built
        with preserved_rng(torch.device("cpu")):
            few, more = _sizes(source)
    return tuple(key for key, parameter in few.items() if parameter.shape != more[key].shape)


def _sizes(source: str) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """The parameters of networks for two and for three classes."""
    few, more = (dict(_network(source, number).named_parameters()) for number in (2, 3))
    return few, more


def _described(description: dict[str, Any]) -> str:
    """The name of the network that was trained; it comes from outside."""
    try:
        source = description["torchvision"]["name"]
        _check_known(source)
    except InputError:
        raise
    except Exception:  # whatever the wrong types lead to
        raise InputError(
            "the stored description of this network is damaged: train the run again, or take a whole copy of it"
        ) from None
    return source
