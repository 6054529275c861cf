"""How pictures become a model's input."""

from dataclasses import dataclass


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
