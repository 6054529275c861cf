"""Image classifiers of timm, pretrained and with a new head: ``timm:NAME``."""

import difflib
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from selftaught.data.preparation import Preparation
from selftaught.errors import InputError, shown
from selftaught.models import packages, rehearsal
from selftaught.models.model_folder import quiet_hub
from selftaught.models.registry import Architecture, Spec, register_pattern
from selftaught.models.rehearsal import reason
from selftaught.models.wrapped import Wrapped, head_layers

_WEIGHTS = "model.safetensors"


@register_pattern(r"timm:([\w.-]+)", takes_weights=True)
def architecture(source: str, weights: str | None) -> Architecture:
    """The classifier that timm calls `source`, with the Hub's weights or those of a file of the user's."""
    return Architecture(
        build=lambda spec: _build(source, weights, spec),
        summary=f"timm's {source}, pretrained, with a new head",
        spatial=True,
        preparation=lambda: _preparation(source),
        fingerprint=lambda: packages.fingerprint(
            f"timm:{source}", _file(source, weights), _preparation(source)
        ),
        pretrained=lambda: True,
        notes=lambda: _notes(source, weights),
    )


@register_pattern(r"timm:(.*)", takes_weights=True)
def _no_name(source: str, weights: str | None) -> Architecture:
    raise InputError(
        f"model timm:{shown(source)} is none of timm's own: name one that timm.list_models() lists"
    )


def _config(source: str) -> dict[str, Any]:
    """What timm knows of the weights and their images."""
    timm = packages.imported("timm")
    if not timm.is_model(source):
        near = difflib.get_close_matches(source, timm.list_models(), n=1)
        hint = f"did you mean timm:{near[0]}?" if near else "timm.list_models() lists those that there are"
        raise InputError(f"unknown model timm:{source} (timm {timm.__version__}): {hint}")
    with packages.refusing(
        f"timm {timm.__version__} has no weights called {source}", "leave out what follows the dot"
    ):
        found = timm.get_pretrained_cfg(source)
    return {} if found is None else found.to_dict()


def _preparation(source: str) -> Preparation:
    config = _config(source)
    with packages.quiet():
        asked = packages.imported("timm").data.resolve_data_config({}, pretrained_cfg=config)
    channels, height, width = asked["input_size"]
    resample = asked["interpolation"] if asked["interpolation"] != "random" else "bilinear"
    stretch = asked["crop_mode"] == "squash"
    mean, std = (tuple(map(float, asked[name])) for name in ("mean", "std"))
    return Preparation((height, width), channels, min(1.0, asked["crop_pct"]), resample, mean, std, stretch)


def _notes(source: str, weights: str | None) -> tuple[str, ...]:
    config = _config(source)
    found: list[str | None] = []
    if config.get("crop_mode") == "border":
        found.append(
            f"timm:{source} was trained on whole pictures with a border: here their middle is cut out instead"
        )
    if weights is not None:
        found.append(packages.left_out(weights, _head(config)))
    return tuple(note for note in found if note)


def _head(config: dict[str, Any]) -> list[str]:
    """The names that parameters of the head may have."""
    layers = config.get("classifier") or ()
    layers = (layers,) if isinstance(layers, str) else layers
    return [f"{layer}.{parameter}" for layer in layers for parameter in ("weight", "bias")]


def _file(source: str, weights: str | None) -> Path:
    return packages.given(weights) if weights is not None else _from_hub(source)


@lru_cache
def _from_hub(source: str) -> Path:
    from huggingface_hub import errors, hf_hub_download

    own = "give weights of your own as --weights FILE.safetensors"
    config = _config(source)
    if not config.get("hf_hub_id"):
        raise InputError(f"timm has no weights for {source} on the Hub: {own}")
    repository, _, revision = config["hf_hub_id"].partition("@")
    try:
        with quiet_hub():
            name = config.get("hf_hub_filename") or _WEIGHTS
            return Path(
                hf_hub_download(
                    repository, str(Path(name).with_suffix(".safetensors")), revision=revision or None
                )
            )
    except errors.LocalEntryNotFoundError:
        raise InputError(
            f"the weights of timm:{source} are not here, and the Hub cannot be reached: {own}"
        ) from None
    except errors.EntryNotFoundError:
        raise InputError(
            f"the weights of timm:{source} are pickled, which could run code, or gone from the Hub: {own}"
        ) from None
    except Exception as error:  # whatever the network stack raises
        raise InputError(
            f"the Hub did not give the weights of timm:{source} ({reason(error)}): {own}"
        ) from None


def _build(source: str, weights: str | None, spec: Spec) -> nn.Module:
    timm = packages.imported("timm")
    full, size = _described(spec.description) if spec.description else _full(source, spec)
    name = f"timm:{source}"
    options: dict[str, Any] = {"num_classes": spec.num_classes, "in_chans": spec.in_channels}
    if size:
        options["img_size"] = tuple(size)
    own = _config(full).get("input_size", (3, 224, 224))[-1]
    remedy = f"use --image-size {own}"
    with packages.refusing(f"{name} cannot take images of {spec.height}x{spec.width}", remedy):
        network = timm.create_model(full, pretrained=False, **options)
    head = [key for key in _head(_config(full)) if key in network.state_dict()]
    if not head:
        raise InputError(f"{name} has no head that could be made for other classes: use another model")
    if spec.description is None:
        network = _filled(name, full, _file(source, weights), weights, network.state_dict(), head, options)
    description = {"timm": {"name": full, "image_size": size}}
    model = Wrapped(network, head_layers(name, network, head, spec.dropout), description, spec.dropout)
    if spec.description is None:
        rehearsal.check(name, model, spec, remedy)
    return model


def _filled(
    name: str,
    full: str,
    path: Path,
    weights: str | None,
    own: dict[str, Tensor],
    head: list[str],
    options: dict[str, Any],
) -> nn.Module:
    """The network with the weights in the file at `path` and the head of `own`, a fresh one's state.

    timm loads them, which knows what is to be fitted to another size or number of channels; with a head for these
    classes among them, it lets nothing be missing.
    """
    what = f"the weights of {name}" if weights is None else f"the weights in {weights}"
    overlay = {
        "state_dict": packages.tensors(path, own, head),
        "num_classes": options["num_classes"],
        "label_offset": 0,
    }
    with packages.refusing(f"{what} do not fit", "give those of this very network"):
        network = packages.imported("timm").create_model(
            full, pretrained=True, pretrained_cfg_overlay=overlay, **options
        )
    network.pretrained_cfg.pop("state_dict", None)  # a copy of all weights
    return network


def _full(source: str, spec: Spec) -> tuple[str, list[int] | None]:
    """The name with its weights' tag, which another release may choose otherwise; and the size that is built in."""
    config = _config(source)
    tag = config.get("tag")
    full = f"{config['architecture']}.{tag}" if tag and config.get("architecture") else source
    return full, [spec.height, spec.width] if config.get("fixed_input_size") else None


def _described(description: dict[str, Any]) -> tuple[str, list[int] | None]:
    """What `_full` gave when the network was trained; it comes from outside."""
    timm = packages.imported("timm")
    try:
        name, size = description["timm"]["name"], description["timm"]["image_size"]
        if timm.is_model(name) and (size is None or [type(side) for side in size] == [int, int]):
            return name, size
    except Exception:  # whatever the wrong types lead to
        pass
    raise InputError(
        f"timm {timm.__version__} has no model like the one of the stored description: install the version that it was "
        "written with"
    )
