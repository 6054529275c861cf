"""How pictures become a model's input."""

from dataclasses import dataclass, replace

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIZE, _CROP = (224, 224), 0.875


@dataclass(frozen=True)
class Preparation:
    """What a model asks of its images; None leaves it to the data.

    Attributes:
        size: height and width in pixels.
        channels: 1 for grey, 3 for colour.
        crop: None stretches a picture to `size`; a share in (0, 1] scales it, its proportions kept, until `size` is
            that share of its shorter side, and cuts the middle out.
        stretch: with `crop`, stretch the picture until `size` is that share of both sides, instead of keeping its
            proportions.
        resample: the filter: nearest, box, bilinear, hamming, bicubic or lanczos.
        mean: subtracted from each channel of images in [0, 1]; None for that of the training images.
        std: divided by, likewise.
        levels: the grey values that become black and white in pictures of more than 8 bits, see
            `selftaught.data.levels`; None for 0 and 65535.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    crop: float | None = None
    resample: str = "bilinear"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    stretch: bool = False
    levels: tuple[float, float] | None = None


def usual(preparation: Preparation) -> Preparation:
    """What a pretrained model is taken to ask for where it does not say: what most were trained on, ImageNet's way.

    224x224 pixels, the middle of what is scaled with its proportions kept (unless it is to be stretched), and
    ImageNet's mean and standard deviation.

    >>> usual(Preparation(size=(96, 96)))  # doctest: +ELLIPSIS
    Preparation(size=(96, 96), channels=None, crop=0.875, resample='bilinear', mean=(0.485, 0.456, 0.406), ...)
    """
    crop = _CROP if preparation.crop is None and not preparation.stretch else preparation.crop
    return replace(
        preparation,
        size=preparation.size or _SIZE,
        crop=crop,
        mean=preparation.mean or IMAGENET_MEAN,
        std=preparation.std or IMAGENET_STD,
    )


def taken_for_granted(preparation: Preparation) -> str | None:
    """What `usual` adds to what a model says, in words; None where it says all."""
    missing = (
        [] if preparation.size else [f"{_SIZE[0]}x{_SIZE[1]} pixels unless --image-size chooses another size"]
    )
    if preparation.mean is None or preparation.std is None:
        missing.append("ImageNet's mean and standard deviation")
    return f"{' and '.join(missing)} are taken" if missing else None
