"""The files of a transformers model, of the user's or fetched from the Hub, and what its image processor does."""

import hashlib
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from selftaught.data.preparation import Preparation
from selftaught.errors import InputError
from selftaught.models import digest
from selftaught.models.wrapped import reason

CONFIG = "config.json"
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"

_RESCALE = 1 / 255
# From this size on ConvNeXt stretches its pictures instead of cutting their middle out.
_CONVNEXT_STRETCHES = 384


def find(source: str) -> Path:
    """The folder of the model that `source` names: the folder itself, or the Hub model's copy in the Hub's cache.

    Raises:
        InputError: there is no such model, or it is none of transformers.
    """
    folder = Path(source).expanduser()
    if folder.is_file():
        raise InputError(f"hf:{source} is a file: name the folder that holds {CONFIG} and {_WEIGHTS}")
    if not folder.is_dir():
        folder = _from_hub(source)
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"hf:{source} is no transformers model, it has no {CONFIG}: write one with save_pretrained()"
        )
    return folder


@lru_cache
def _from_hub(source: str) -> Path:
    # Imported late: it takes a second, and a local folder does without.
    from huggingface_hub import errors, snapshot_download

    wanted = [CONFIG, *PREPROCESSORS, _WEIGHTS, _INDEX, "model-*.safetensors"]
    nothing = f"model hf:{source}: there is no such folder, and"
    try:
        with quiet_hub():
            return Path(snapshot_download(source, allow_patterns=wanted))
    except errors.HFValidationError:
        raise InputError(f"{nothing} no model of the Hub can be called so: check the path") from None
    except errors.GatedRepoError:
        raise InputError(
            f"model hf:{source} asks to accept its terms: do so on its page at huggingface.co, then hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(f"{nothing} the Hub has no such model: check the name") from None
    except errors.LocalEntryNotFoundError:
        raise InputError(
            f"{nothing} the Hub cannot be reached: check the path or the network, or name a downloaded folder"
        ) from None
    except Exception as error:  # whatever the network stack raises
        raise InputError(f"{nothing} the Hub did not give it ({reason(error)}): try again") from None


@contextmanager
def quiet_hub() -> Iterator[None]:
    """While inside, huggingface_hub says nothing but, on a terminal, how far a download has come."""
    from huggingface_hub import utils

    # Its advice about tokens and its retries are not for our user; a large download's progress is.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    hidden = utils.are_progress_bars_disabled()
    if not sys.stderr.isatty():
        utils.disable_progress_bars()
    try:
        yield
    finally:
        if not hidden:
            utils.enable_progress_bars()


def weights(source: str, folder: Path) -> list[Path]:
    """The safetensors files that hold the model's weights.

    Raises:
        InputError: there are none, or not all of them.
    """
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not (folder / _INDEX).is_file():
        pickled = next((path.name for path in folder.glob("*.bin")), None)
        why = f"only {pickled}, a pickle, which may run code" if pickled else "no weights"
        raise InputError(
            f"hf:{source} holds {why}: load the model where you trust it and write {_WEIGHTS} with save_pretrained()"
        )
    try:
        shards = sorted(set(json.loads((folder / _INDEX).read_bytes())["weight_map"].values()))
        # A path into another folder is nothing that save_pretrained() wrote.
        missing = [name for name in shards if Path(name).name != name or not (folder / name).is_file()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"hf:{source}: its {_INDEX} is damaged: download the model again") from None
    if missing:
        raise InputError(f"hf:{source}: {missing[0]} is missing from it: download the model again")
    return [folder / name for name in shards]


def fingerprint(source: str) -> str:
    """SHA-256 over all files that are read of the model."""
    folder = find(source)
    files = [folder / CONFIG, *(folder / name for name in PREPROCESSORS), *weights(source, folder)]
    whole = hashlib.sha256()
    for path in files:
        if path.is_file():
            whole.update(f"{path.name} {digest.of_file(path)}\n".encode())
    return whole.hexdigest()


def preparation(name: str, folder: Path, size: tuple[int, int] | None, channels: int) -> Preparation:
    """The preparation that the processor in the `folder` of the model called `name` stands for.

    `size` (height, width) and `channels` are the model's own, which alone are known without a processor.

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
