"""From a name to the training, validation and test tensors."""

import hashlib

from selftaught.data.dataset import Decoded, ImageData
from selftaught.data.sources import SOURCES
from selftaught.data.splits import complement, stratified
from selftaught.errors import InputError, unknown


def names() -> list[str]:
    """Names of the data sets.

    >>> names()
    ['digits', 'mnist', 'cifar10']
    """
    return list(SOURCES)


def summary(name: str) -> str:
    """One line about a data set.

    >>> summary("cifar10")
    '60,000 photographs, RGB 32x32, 10 classes'
    """
    if name not in SOURCES:
        raise unknown("data", name, SOURCES)
    return SOURCES[name].summary


def load(
    name: str,
    image_size: int | tuple[int, int] | None = None,
    train_size: int | None = None,
    val_fraction: float = 0.0,
    split_seed: int = 0,
) -> ImageData:
    """A data set by name, decoded, resized and divided.

    Args:
        name: one of `names()`. All but ``digits`` are looked for in ``$SELFTAUGHT_DATA/NAME`` as
            ``{train,test}-*.parquet``, then on the Hugging Face Hub.
        image_size: height and width in pixels (one number for both) to which all images are resized, bilinear
            with anti-aliasing; None keeps their size.
        train_size: how many training images to use, a stratified choice; None for all.
        val_fraction: share in [0, 1) of those held out for validation, stratified.
        split_seed: seeds both choices. The test part is always whole.

    Raises:
        InputError: unknown name, a value out of range, data that cannot be found or decoded.

    >>> digits = load("digits", val_fraction=0.1)
    >>> tuple(digits.train_images.shape), len(digits.val_labels), len(digits.test_labels), digits.classes[3]
    ((1294, 1, 16, 16), 144, 359, '3')
    """
    if name not in SOURCES:
        raise unknown("data", name, SOURCES)
    if not 0.0 <= val_fraction < 1.0:
        raise InputError(f"val_fraction must be in [0, 1), got {val_fraction}")
    decoded = SOURCES[name].read(_pair(image_size))
    return _divide(name, decoded, train_size, val_fraction, split_seed)


def _divide(
    name: str, decoded: Decoded, train_size: int | None, val_fraction: float, split_seed: int
) -> ImageData:
    labels = decoded.train_labels
    present = len(labels.unique())
    size = len(labels)
    if train_size is not None:
        if not len(decoded.classes) <= train_size <= size:
            raise InputError(
                f"train_size must be from {len(decoded.classes)} (one image per class) to {size}, "
                f"all that {name!r} has, got {train_size}"
            )
        size = train_size
    used = stratified(labels, size, split_seed)
    held_out = round(size * val_fraction)
    if val_fraction and not 0 < held_out <= size - present:
        raise InputError(
            f"val_fraction {val_fraction} of {size} images holds out {held_out}: it must hold out at least 1 and "
            f"leave at least {present}, one per class"
        )
    kept = stratified(labels[used], size - held_out, split_seed)
    train, val = used[kept], used[complement(kept, size)]
    chosen = hashlib.sha256(decoded.digest.encode() + train.numpy().tobytes() + b"|" + val.numpy().tobytes())
    return ImageData(
        name=name,
        classes=decoded.classes,
        train_images=decoded.train_images[train],
        train_labels=labels[train],
        val_images=decoded.train_images[val],
        val_labels=labels[val],
        test_images=decoded.test_images,
        test_labels=decoded.test_labels,
        fingerprint=chosen.hexdigest(),
    )


def _pair(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or min(pair) < 1:
        raise InputError(f"image_size must be one number or (height, width), at least 1, got {image_size}")
    return pair
