"""Image classifiers of transformers, pretrained and with a new head: ``hf:FOLDER`` and ``hf:HUB_ID``."""

import inspect
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from selftaught.data.preparation import Preparation, taken_for_granted, usual
from selftaught.errors import InputError
from selftaught.models import model_folder
from selftaught.models.architecture import Architecture, Spec, register_pattern
from selftaught.models.wrapped import Wrapped, head_layers, reason, try_out

# Plain matrix products: exact under batched gradients, and with the same bytes each time, on a GPU too.
_ATTENTION = "eager"
# Poolers and the like may be new; with more than that missing, the weights belong to another model.
_MAY_BE_NEW = 0.01


class HuggingFaceClassifier(Wrapped):
    """See `Wrapped`: a transformers classifier, whose position embeddings may be fitted to the images' size."""

    def __init__(
        self, network: nn.Module, head: Sequence[str], interpolate: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__(network, head, _description(network.config), dropout)
        self._options = {"interpolate_pos_encoding": True} if interpolate else {}

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of normalised images (B, K, H, W)."""
        return self.network(pixel_values=x, return_dict=True, **self._options).logits


def _description(config: Any) -> dict[str, Any]:
    """The network's configuration, from which `selftaught.models.create` makes it again."""
    # Defaults too, which another version may change; not the folder that it came from.
    values = json.loads(config.to_json_string(use_diff=False))
    return {"transformers": {key: value for key, value in values.items() if key != "_name_or_path"}}


@register_pattern("hf:(.+)")
class HuggingFace(Architecture):
    """The classifier in the folder `source`, or of that name on the Hub."""

    def __init__(self, source: str) -> None:
        super().__init__(f"transformers image classifier {source}, pretrained, with a new head")
        folder = Path(source).expanduser()
        self.source_name, self.name = source, f"hf:{source}"
        self.located = f"hf:{folder.absolute()}" if folder.is_dir() else None

    def build(self, spec: Spec) -> nn.Module:
        """See `Architecture`."""
        with _quiet():
            if spec.description is None:
                folder = model_folder.find(self.source_name)
                config = _config(self.source_name, folder)
            else:
                folder, config = None, _described(self.name, spec.description)
            channels = _own_channels(config)
            if spec.in_channels != channels:
                raise InputError(
                    f"{self.name} takes images of {channels} channels, not {spec.in_channels}: convert them"
                )
            config.num_labels = spec.num_classes
            head = _head(self.name, config)
            network = (
                _fresh(config) if folder is None else _pretrained(self.source_name, folder, config, head)
            )
            return _wrapped(self.name, network.float(), head, _own_size(config), spec)

    def preparation(self) -> Preparation:
        """See `Architecture`."""
        said = self._said()
        # A processor says how pictures come to their size, if only by leaving it out.
        return usual(said) if said.mean is None else replace(said, size=said.size or usual(said).size)

    def fingerprint(self) -> str:
        """See `Architecture`."""
        return model_folder.fingerprint(self.source_name)

    def pretrained(self) -> bool:
        """Always."""
        return True

    def notes(self) -> tuple[str, ...]:
        """What is taken for granted of the model's images."""
        note = taken_for_granted(self._said())
        return () if note is None else (f"{self.name} does not say how it wants its images: {note}",)

    def _said(self) -> Preparation:
        """What the model's files say of its images."""
        with _quiet():
            folder = model_folder.find(self.source_name)
            config = _config(self.source_name, folder)
            return model_folder.preparation(self.name, folder, _own_size(config), _own_channels(config))


def _wrapped(
    name: str, network: nn.Module, head: set[str], own_size: tuple[int, int] | None, spec: Spec
) -> HuggingFaceClassifier:
    layers = head_layers(name, network, head, spec.dropout)
    remedy, interpolate = "use another model or --image-size", False
    if own_size and own_size != (spec.height, spec.width):
        remedy = f"use --image-size {own_size[0]}"
        interpolate = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
    model = HuggingFaceClassifier(network, layers, interpolate, spec.dropout)
    try_out(name, model, spec, remedy)
    return model


def _config(source: str, folder: Path) -> Any:
    """The configuration of an image classifier, from `folder`."""
    import transformers

    name = f"hf:{source}"
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # its parsers raise whatever the file makes them
        raise InputError(
            f"{name}: its config.json is none that transformers {transformers.__version__} can use "
            f"({reason(error)}): use a model that is part of transformers, saved with save_pretrained()"
        ) from None
    if type(config) not in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise InputError(
            f"{name} is a {config.model_type!r} model, of which transformers has no image classifier: use a ViT, "
            "DeiT, Swin, ResNet, ConvNeXt, ..."
        )
    return config


def _described(name: str, description: dict[str, Any]) -> Any:
    """The configuration that `_description` made; it comes from outside."""
    from transformers import AutoConfig

    try:
        values = {key: value for key, value in description["transformers"].items() if key != "auto_map"}
        return AutoConfig.for_model(values.pop("model_type"), **values)
    except Exception as error:
        raise InputError(
            f"the stored description of {name} cannot be used ({reason(error)}): install the version of "
            "transformers that it was written with"
        ) from None


def _own_size(config: Any) -> tuple[int, int] | None:
    size = _vision(config, "image_size")
    return (size, size) if isinstance(size, int) else tuple(size[:2]) if size else None


def _own_channels(config: Any) -> int:
    return _vision(config, "num_channels") or 3


def _vision(config: Any, name: str) -> Any:
    """A setting of the configuration, or of its part for images in models of images and text."""
    own = getattr(config, name, None)
    return getattr(getattr(config, "vision_config", None), name, None) if own is None else own


def _fresh(config: Any) -> nn.Module:
    """The classifier with random weights."""
    from transformers import AutoModelForImageClassification

    return AutoModelForImageClassification.from_config(
        config, trust_remote_code=False, attn_implementation=_ATTENTION
    )


def _head(name: str, config: Any) -> set[str]:
    """The parameters whose shape depends on the number of classes."""
    from transformers import AutoModelForImageClassification

    shapes = []
    try:
        for more in (0, 1):
            copy = type(config).from_dict(config.to_dict())
            copy.num_labels = config.num_labels + more
            with torch.device("meta"):
                network = AutoModelForImageClassification.from_config(copy, trust_remote_code=False)
            shapes.append({key: parameter.shape for key, parameter in network.named_parameters()})
    except Exception as error:  # of the architecture's own code
        raise InputError(
            f"{name}: its config.json makes no network ({reason(error)}): mend it or use another model"
        ) from None
    head = {key for key, shape in shapes[0].items() if shape != shapes[1][key]}
    if not head:
        raise InputError(f"{name} has no head that could be made for other classes: use another model")
    return head


def _pretrained(source: str, folder: Path, config: Any, head: set[str]) -> nn.Module:
    """The classifier with the weights in `folder` and a new head."""
    from transformers import AutoModelForImageClassification

    model_folder.weights(source, folder)
    try:
        network, info = AutoModelForImageClassification.from_pretrained(
            folder,
            config=config,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation=_ATTENTION,
            output_loading_info=True,
        )
    except Exception as error:  # of safetensors, of transformers, of the architecture's own code
        raise InputError(
            f"hf:{source}: its weights cannot be loaded ({reason(error)}): download or save them again"
        ) from None
    mismatched = {key for key, *_ in info["mismatched_keys"]}
    _check_complete(f"hf:{source}", network, mismatched - head, set(info["missing_keys"]) - head)
    if not head <= mismatched | set(info["missing_keys"]):
        # As many classes as before, but not the same ones.
        fresh = dict(_fresh(config).named_parameters())
        with torch.no_grad():
            for key in head:
                network.get_parameter(key).copy_(fresh[key])
    return network


def _check_complete(name: str, network: nn.Module, mismatched: set[str], missing: set[str]) -> None:
    """Refuse weights of another network, which would leave this one largely untrained."""
    sizes = {key: parameter.numel() for key, parameter in network.named_parameters()}
    new = sum(sizes.get(key, 0) for key in missing)
    if mismatched or new > _MAY_BE_NEW * sum(sizes.values()):
        raise InputError(
            f"{name}: its weights do not fit its config.json ({min(mismatched | missing)}, for one): "
            "download or save the model again"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """While inside, transformers shows no progress bars and none of its notes on what it loads.

    Raises:
        InputError: transformers is not installed.
    """
    try:
        from transformers.utils import logging
    except ImportError:
        raise InputError(
            "models called hf: need the package transformers: pip install 'selftaught[hf]'"
        ) from None
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
