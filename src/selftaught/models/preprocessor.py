"""What a transformers model's image processor does to a picture, as a `Preparation`."""

from pathlib import Path
from typing import Any

from PIL import Image

from selftaught.data.preparation import Preparation
from selftaught.errors import InputError
from selftaught.models.model_folder import PREPROCESSORS
from selftaught.models.wrapped import reason

_RESCALE = 1 / 255
# From this size on ConvNeXt stretches its pictures instead of cutting their middle out.
_CONVNEXT_STRETCHES = 384


def read(name: str, folder: Path, size: tuple[int, int] | None, channels: int) -> Preparation:
    """The preparation that the processor in `folder` stands for.

    Args:
        name: the model's, for messages.
        folder: the model's files. Without a processor among them only size and channels are known.
        size: the model's own (height, width), where the processor does not say.
        channels: the model's.

    Raises:
        InputError: the processor cannot be read, or does what a preparation cannot say.
    """
    if not any((folder / file).is_file() for file in PREPROCESSORS):
        return Preparation(size=size, channels=channels)
    from transformers import AutoImageProcessor

    try:
        # The class knows the defaults of what the file leaves out; its PIL variant needs no torchvision.
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)
        return _translate(processor.to_dict(), size, channels)
    except Exception as error:  # its parsers raise whatever the file makes them
        raise InputError(
            f"{name}: its {PREPROCESSORS[0]} cannot be used ({reason(error)}): mend it, or remove it to normalise "
            "with the statistics of the data"
        ) from None


def _translate(processor: dict[str, Any], size: tuple[int, int] | None, channels: int) -> Preparation:
    """The processor's settings as a preparation; ValueError, or another, where they make no sense."""
    if processor.get("do_flip_channel_order"):
        raise ValueError("it asks for colours in the order blue, green, red")
    rescaled = processor.get("do_rescale", True) and not processor.get("rescale_offset")
    if not rescaled or abs(processor.get("rescale_factor", _RESCALE) - _RESCALE) > 1e-6:
        raise ValueError("it scales pixel values by another factor than 1/255")
    own_size, crop, stretch = _size(processor)
    mean, std = (0.0,) * channels, (1.0,) * channels
    if processor.get("do_normalize"):
        mean = _per_channel(processor["image_mean"], channels)
        std = _per_channel(processor["image_std"], channels)
    if min(std) <= 0 or min(own_size or (1,)) < 1:
        raise ValueError("a size or an image_std is not positive")
    resample = processor.get("resample")
    resample = Image.Resampling.BILINEAR if resample is None else Image.Resampling(resample)
    return Preparation(own_size or size, channels, crop, resample.name.lower(), mean, std, stretch)


def _size(processor: dict[str, Any]) -> tuple[tuple[int, int] | None, float | None, bool]:
    """The size that pictures end with, its share of the scaled one (None: no crop), and whether scaling stretches."""
    asked = processor.get("size") or {}
    shorter, pair, share = asked.get("shortest_edge"), _pair(asked), processor.get("crop_pct")
    cut = _pair(processor.get("crop_size") or {}) if processor.get("do_center_crop") else None
    edge = shorter or min(pair or (0,))
    if not edge or not processor.get("do_resize", True):
        return cut, None, False
    if pair and cut and not share:
        if abs(cut[0] / pair[0] - cut[1] / pair[1]) > 1e-9:
            raise ValueError("it cuts another share off the height than off the width")
        return cut, min(1.0, cut[0] / pair[0]), True
    if pair and not share:
        return pair, None, False
    if share and not cut and edge >= _CONVNEXT_STRETCHES:
        return (edge, edge), None, False
    # Pictures of one size are needed: where nothing is cut off, the middle square of what keeps its proportions.
    cut = cut or (edge, edge)
    return cut, min(1.0, min(cut) * (share or 1.0) / edge), False


def _pair(size: dict[str, int]) -> tuple[int, int] | None:
    return (size["height"], size["width"]) if "height" in size and "width" in size else None


def _per_channel(values: Any, channels: int) -> tuple[float, ...]:
    values = [values] * channels if isinstance(values, int | float) else values
    if len(values) != channels:
        raise ValueError(f"it normalises {len(values)} channels, the model takes {channels}")
    return tuple(float(value) for value in values)
