"""Models by name: those of the paper, image classifiers of transformers (hf:), functions of Python files.

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
from selftaught.models import cnn, huggingface, mlp, python_file, resnet  # noqa: F401
from selftaught.models.classifier import Classifier
from selftaught.models.huggingface import HuggingFaceClassifier
from selftaught.models.registry import Spec, find, names

__all__ = [
    "Classifier",
    "create",
    "default_saliency",
    "description",
    "fingerprint",
    "is_pretrained",
    "is_spatial",
    "located",
    "names",
    "preparation",
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
) -> nn.Module:
    """A new model that takes normalised images (B, K, H, W), in train mode, on the CPU, in float32.

    What is random about it (everything, or a pretrained model's new head) comes from torch's global generator.

    Args:
        name: one of `names()`; ``resnetN`` for any depth N = 6n+2; ``hf:`` and the folder or Hub id of an image
            classifier of transformers; or ``path.py:function``, a function of `num_classes`, `in_channels`,
            `image_size` (height, width) and `dropout`, or some of these, that returns a module.
        num_classes: C >= 2, the number of logits.
        in_channels: channels of the images, 1 for grey and 3 for colour.
        image_size: height and width in pixels, or one number for both.
        dropout: rate in [0, 1) of the dropout at the end of each block stage (MLP: after each hidden layer),
            Section 5.1 of the paper; before the classifier of a transformers model. The keys of the state dict do
            not depend on it.
        description: what `description` gave for such a model once: a model of transformers is then made from it
            alone, with random weights to be replaced. Other models do without.

    Raises:
        InputError: unknown name, a value out of range, a file that cannot be used, or images that do not suit.

    >>> import torch
    >>> model = create("resnet14", num_classes=10)
    >>> a = model.features(torch.zeros(2, 3, 32, 32))
    >>> a.shape, model.head(a).shape
    (torch.Size([2, 64, 8, 8]), torch.Size([2, 10]))
    """
    num_classes = _at_least("num_classes", num_classes, 2)
    in_channels = _at_least("in_channels", in_channels, 1)
    height, width = (_at_least("image_size", side, 1) for side in _pair(image_size))
    check_range("dropout", dropout, lambda rate: 0 <= rate < 1, "in [0, 1)")
    return find(name).build(Spec(num_classes, in_channels, height, width, dropout, description))


def preparation(name: str) -> Preparation:
    """What the model asks of its images; built-in models leave everything to the data.

    Raises:
        InputError: the model's files cannot be used, or ask for something that cannot be done.

    >>> preparation("cnn6") == Preparation()
    True
    """
    return find(name).preparation()


def fingerprint(name: str) -> str:
    """SHA-256 (hex) of the files that define and initialise the model; "" for built-in models.

    Raises:
        InputError: the files are missing.

    >>> fingerprint("cnn6")
    ''
    """
    return find(name).fingerprint()


def description(model: nn.Module) -> dict[str, Any] | None:
    """What `create` needs to make a model of transformers without its own files, fit for JSON; None for others."""
    return model.description() if isinstance(model, HuggingFaceClassifier) else None


def is_pretrained(name: str) -> bool:
    """Whether the model starts from trained weights.

    Raises:
        InputError: a Python file, which may say so, cannot be read, or says what is neither True nor False.

    >>> is_pretrained("hf:google/vit-base-patch16-224"), is_pretrained("cnn6")
    (True, False)
    """
    return find(name).pretrained()


def is_spatial(name: str) -> bool:
    """Whether the model's features are maps (B, K, H, W), so that Grad-CAM can explain it.

    Taken for granted of a Python file's model: Grad-CAM itself says so where it finds no such layer.

    >>> is_spatial("cnn6"), is_spatial("mlp")
    (True, False)
    """
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


def source(name: str) -> bytes | None:
    """The Python file that makes the model, None for models that are no user's code."""
    read = find(name).source
    return read() if read else None


def runs_code(name: str) -> bool:
    """Whether creating the model runs a Python file of the user's.

    >>> runs_code("net.py:build"), runs_code("cnn6")
    (True, False)
    """
    return find(name).runs_code


def summary(name: str) -> str:
    """One line about the model.

    >>> summary("resnet14")
    'CIFAR ResNet, 3 stages of 2 basic blocks, 16-32-64 channels'
    """
    return find(name).summary


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
