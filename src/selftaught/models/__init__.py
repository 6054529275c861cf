"""The models of the paper, by name: each is `features(x)` and then `head(a)`.

To add one, write a module here whose builder carries `@register(name, summary)` and import it below.
"""

from selftaught.errors import InputError

# Imported for their registrations.
from selftaught.models import cnn, mlp, resnet  # noqa: F401
from selftaught.models.classifier import Classifier
from selftaught.models.registry import Spec, find, names

__all__ = ["Classifier", "create", "is_spatial", "names", "summary"]


def create(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    image_size: int | tuple[int, int] = 32,
    dropout: float = 0.0,
) -> Classifier:
    """A new, randomly initialised model (from torch's global generator), in train mode, on the CPU.

    Args:
        name: one of `names()`, or ``resnetN`` for any depth N = 6n+2.
        num_classes: C >= 2, the number of logits.
        in_channels: channels of the images, 1 for grey and 3 for colour.
        image_size: height and width in pixels, or one number for both.
        dropout: rate in [0, 1) of the dropout at the end of each block stage (MLP: after each hidden layer),
            Section 5.1 of the paper. The keys of the state dict do not depend on it.

    Raises:
        InputError: unknown name, a value out of range, or images too small for the model's pooling.

    >>> import torch
    >>> model = create("resnet14", num_classes=10)
    >>> a = model.features(torch.zeros(2, 3, 32, 32))
    >>> a.shape, model.head(a).shape
    (torch.Size([2, 64, 8, 8]), torch.Size([2, 10]))
    """
    height, width = _pair(image_size)
    _at_least("num_classes", num_classes, 2)
    _at_least("in_channels", in_channels, 1)
    _at_least("image_size", height, 1)
    _at_least("image_size", width, 1)
    if not 0.0 <= dropout < 1.0:
        raise InputError(f"dropout must be in [0, 1), got {dropout}")
    return find(name).build(Spec(num_classes, in_channels, height, width, dropout))


def is_spatial(name: str) -> bool:
    """Whether the model's features are maps (B, K, H, W), so that Grad-CAM can explain it.

    >>> is_spatial("cnn6"), is_spatial("mlp")
    (True, False)
    """
    return find(name).spatial


def summary(name: str) -> str:
    """One line about the model.

    >>> summary("resnet14")
    'CIFAR ResNet, 3 stages of 2 basic blocks, 16-32-64 channels'
    """
    return find(name).summary


def _pair(image_size: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(image_size, int):
        return image_size, image_size
    if len(image_size) != 2:
        raise InputError(f"image_size must be one number or (height, width), got {image_size!r}")
    return image_size[0], image_size[1]


def _at_least(what: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise InputError(f"{what} must be a whole number of at least {least}, got {value!r}")
