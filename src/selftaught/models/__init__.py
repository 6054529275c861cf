"""Models by name: those of the paper, classifiers of transformers, timm and torchvision, functions of Python files.

To add one, write a module here whose builder carries `@register(name, summary)` and import it below.
"""

import operator
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, SupportsIndex

from torch import nn

from selftaught._inputs import check_range
from selftaught.data.preparation import Preparation
from selftaught.errors import InputError

# Imported for their registrations.
from selftaught.models import (  # noqa: F401
    built,
    cnn,
    mlp,
    packages,
    python_file,
    resnet,
    timm_network,
    torchvision_network,
    transformers_network,
)
from selftaught.models.architecture import Spec, find, names
from selftaught.models.classifier import Classifier
from selftaught.models.wrapped import Wrapped

__all__ = [
    "Classifier",
    "check_start",
    "create",
    "default_saliency",
    "description",
    "fingerprint",
    "is_pretrained",
    "is_spatial",
    "located",
    "located_weights",
    "names",
    "notes",
    "preparation",
    "rebuilds",
    "runs_code",
    "source",
    "summary",
]


def create(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    image_size: int | tuple[int, int] = 32,
    dropout: float = 0.0,
    description: dict[str, Any] | None = None,
    weights: str | None = None,
    pretrained: bool = True,
) -> nn.Module:
    """A new model that takes normalised images (B, K, H, W), in train mode, on the CPU, in float32.

    What is random about it (everything, or a pretrained model's new head) comes from the global generators of torch,
    Python and NumPy. A model that is not built in is built once for each of their states: asked for again, its copy is
    returned, and they go on as after the first time.

    Args:
        name: one of `names()`; ``resnetN`` for any depth N = 6n+2; ``hf:`` and the folder or Hub id of an image
            classifier of transformers; ``timm:`` or ``torchvision:`` and the name of one of theirs; or
            ``path.py:function``, a function of `num_classes`, `in_channels`, `image_size` (height, width), `dropout`
            and `pretrained`, or some of these, that returns a module.
        num_classes: C >= 2, the number of logits.
        in_channels: channels of the images, 1 for grey and 3 for colour.
        image_size: height and width in pixels, or one number for both.
        dropout: rate in [0, 1) of the dropout at the end of each block stage (MLP: after each hidden layer),
            Section 5.1 of the paper; before the classifier of another package's model. The keys of the state dict do
            not depend on it.
        description: what `description` gave for such a model once: another package's model is then made from it
            alone, with random weights to be replaced. Other models do without.
        weights: a safetensors file that a model of timm or torchvision starts from, instead of the package's own.
        pretrained: False for a model whose weights are about to be replaced: what a Python file's function is told,
            if it asks.

    Raises:
        InputError: unknown name, a value out of range, a file that cannot be used, or images that do not suit.

    >>> import torch
    >>> model = create("resnet14", num_classes=10)
    >>> a = model.features(torch.zeros(2, 3, 32, 32))
    >>> a.shape, model.head(a).shape
    (torch.Size([2, 64, 8, 8]), torch.Size([2, 10]))
    """
    spec = _spec(num_classes, in_channels, image_size, dropout, description, pretrained)
    architecture = find(name, weights)
    # What is built to be filled is built once, and perhaps while the original files are gone.
    fingerprint = architecture.fingerprint() if pretrained and description is None else ""
    if not fingerprint:
        return architecture.build(spec)
    # Also by where it lies: a file may look around there.
    return built.once((architecture.located or name, fingerprint), spec, lambda: architecture.build(spec))


def preparation(name: str, weights: str | None = None) -> Preparation:
    """What the model asks of its images, see `Architecture.preparation`; built-in models leave everything to the data.

    >>> preparation("cnn6") == Preparation()
    True
    """
    return find(name, weights).preparation()


def fingerprint(name: str, weights: str | None = None) -> str:
    """SHA-256 (hex) of the files that define and initialise the model, see `Architecture.fingerprint`; or ""."""
    return find(name, weights).fingerprint()


def notes(name: str, weights: str | None = None) -> tuple[str, ...]:
    """What a user should know of how the model starts, one line each."""
    architecture = find(name, weights)
    remark = _REMARKS.get(architecture.fingerprint()) if architecture.runs_code else None
    return (*architecture.notes(), *filter(None, [remark]))


_REMARKS: dict[str, str | None] = {}
"""What `check_start` found, by fingerprint; None where there is nothing to say."""


def check_start(
    name: str, num_classes: int, in_channels: int, image_size: tuple[int, int], dropout: float = 0.0
) -> None:
    """Look, once in a process, whether a Python file's model starts from trained weights as it says.

    It is built with another seed than before, which shows what of it no seed changes. `notes` has what is doubtful.

    Raises:
        InputError: most of its weights are the same whatever the seed, and the file does not say what it is.
    """
    architecture = find(name)
    if not architecture.runs_code or architecture.fingerprint() in _REMARKS:
        return
    spec = _spec(num_classes, in_channels, image_size, dropout, None, True)
    model = create(name, num_classes, in_channels, image_size, dropout)
    share = built.share_alike(model, built.other_build(lambda: architecture.build(spec)))
    remark = None
    if built.is_alike(share) and not architecture.declared():
        raise InputError(
            f"{name} starts with the same weights whatever the seed: if they are trained ones, write PRETRAINED = True "
            "at the top level of the file (or PRETRAINED = False, if it is to be trained like a fresh network)"
        )
    if architecture.pretrained() and share == 0:
        remark = f"{name} says PRETRAINED = True, but no weight of it stays with another seed: nothing looks pretrained"
    _REMARKS[architecture.fingerprint()] = remark


def description(model: nn.Module) -> dict[str, Any] | None:
    """What `create` needs to make another package's model without its own files, fit for JSON; None for others."""
    return model.description if isinstance(model, Wrapped) else None


def is_pretrained(name: str) -> bool:
    """Whether the model starts from trained weights, see `Architecture.pretrained`.

    >>> is_pretrained("hf:google/vit-base-patch16-224"), is_pretrained("cnn6")
    (True, False)
    """
    return find(name).pretrained()


def is_spatial(name: str) -> bool:
    """Whether the model's features are maps, see `Architecture`, so that Grad-CAM can explain it."""
    return find(name).spatial


def default_saliency(name: str) -> str:
    """The saliency that is used unless another one is asked for: Grad-CAM if the model is spatial, else the gradient.

    >>> default_saliency("cnn6"), default_saliency("mlp")
    ('grad-cam', 'grad')
    """
    return "grad-cam" if is_spatial(name) else "grad"


def located(name: str) -> str:
    """The name by which the model is found from any directory."""
    return find(name).located or name


def located_weights(name: str, weights: str | None) -> str | None:
    """The absolute path of a file of weights; InputError where the model takes no such file, or there is none."""
    if weights is None:
        return None
    find(name, weights)
    return str(packages.given(weights).absolute())


def source(name: str) -> bytes | None:
    """The Python file that makes the model, None for models that are no user's code."""
    return find(name).source()


def runs_code(name: str) -> bool:
    """Whether creating the model runs a Python file of the user's."""
    return find(name).runs_code


def rebuilds(name: str) -> bool:
    """See `Architecture.rebuilds`. A user's code is run to find out."""
    return find(name).rebuilds()


def summary(name: str) -> str:
    """One line about the model.

    >>> summary("resnet14")
    'CIFAR ResNet, 3 stages of 2 basic blocks, 16-32-64 channels'
    """
    return find(name).summary


def _spec(
    num_classes: int,
    in_channels: int,
    image_size: int | tuple[int, int],
    dropout: float,
    description: dict[str, Any] | None,
    pretrained: bool,
) -> Spec:
    num_classes = _at_least("num_classes", num_classes, 2)
    in_channels = _at_least("in_channels", in_channels, 1)
    height, width = (_at_least("image_size", side, 1) for side in _pair(image_size))
    check_range("dropout", dropout, lambda rate: 0 <= rate < 1, "in [0, 1)")
    return Spec(num_classes, in_channels, height, width, dropout, description, pretrained)


def _pair(image_size: int | tuple[int, int]) -> tuple[int, int]:
    if not isinstance(image_size, Sequence):
        return image_size, image_size
    if len(image_size) != 2:
        raise InputError(f"image_size must be one number or (height, width), got {image_size!r}")
    return image_size[0], image_size[1]


def _at_least(what: str, value: SupportsIndex, least: int) -> int:
    """The value as Python's own whole number: NumPy's and those of tensors are as good."""
    with suppress(TypeError):
        number = operator.index(value)
        if number >= least and not isinstance(value, bool):
            return number
    raise InputError(f"{what} must be a whole number of at least {least}, got {value!r}")
