"""Image classifiers of timm, pretrained and with a new head: ``timm:NAME``."""

import difflib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from selftaught.data.preparation import Preparation
from selftaught.errors import InputError, shown
from selftaught.models import packages
from selftaught.models.architecture import Architecture, Spec, register_pattern
from selftaught.models.model_folder import quiet_hub
from selftaught.models.wrapped import reason


@register_pattern(r"timm:([\w.-]+)", takes_weights=True)
class Timm(packages.Packaged):
    """The classifier that timm calls `source`, with the Hub's weights or those of a file of the user's."""

    package = "timm"

    def preparation(self) -> Preparation:
        """See `Architecture`."""
        config = _config(self.source_name)
        with packages.quiet():
            asked = packages.imported("timm").data.resolve_data_config({}, pretrained_cfg=config)
        resample = asked["interpolation"] if asked["interpolation"] != "random" else "bilinear"
        channels, height, width = asked["input_size"]
        mean, std = (tuple(map(float, asked[name])) for name in ("mean", "std"))
        crop, stretch = min(1.0, asked["crop_pct"]), asked["crop_mode"] == "squash"
        return Preparation((height, width), channels, crop, resample, mean, std, stretch)

    def notes(self) -> tuple[str, ...]:
        """See `Packaged`; and what is done otherwise than timm does it."""
        if _config(self.source_name).get("crop_mode") != "border":
            return super().notes()
        border = (
            f"{self.name} was trained on whole pictures with a border: here their middle is cut out instead"
        )
        return border, *super().notes()

    def own_file(self) -> Path:
        """See `Packaged`."""
        return _from_hub(self.source_name)

    def head(self) -> Iterable[str]:
        """See `Packaged`."""
        layers = _config(self.source_name).get("classifier") or ()
        layers = (layers,) if isinstance(layers, str) else layers
        return [f"{layer}.{parameter}" for layer in layers for parameter in ("weight", "bias")]

    def fresh(self, spec: Spec) -> tuple[nn.Module, dict[str, Any]]:
        """See `Packaged`."""
        timm = packages.imported("timm")
        recipe = _described(spec.description) if spec.description is not None else self._recipe(spec)
        refusal = f"{self.name} cannot take images of {spec.height}x{spec.width}"
        with packages.refusing(refusal, self.remedy()):
            return timm.create_model(recipe["name"], pretrained=False, **_options(recipe, spec)), recipe

    def filled(self, network: Any, recipe: dict[str, Any], spec: Spec, head: list[str]) -> nn.Module:
        """See `Packaged`.

        timm loads the weights, which knows what is to be fitted to another size or number of channels; with a head
        for these classes among them, it lets nothing be missing.
        """
        what = f"the weights in {self.weights}" if self.weights else f"the weights of {self.name}"
        path = packages.given(self.weights) if self.weights else self.own_file()
        state = packages.tensors(path, network.state_dict(), head)
        overlay = {"state_dict": state, "num_classes": spec.num_classes, "label_offset": 0}
        with packages.refusing(f"{what} do not fit", "give those of this very network"):
            network = packages.imported("timm").create_model(
                recipe["name"], pretrained=True, pretrained_cfg_overlay=overlay, **_options(recipe, spec)
            )
        network.pretrained_cfg.pop("state_dict", None)  # a copy of all weights
        return network

    def _recipe(self, spec: Spec) -> dict[str, Any]:
        """The name with its weights' tag, which another release may choose otherwise; the size if it is built in."""
        config = _config(self.source_name)
        tag, architecture = config.get("tag"), config.get("architecture")
        name = f"{architecture}.{tag}" if tag and architecture else self.source_name
        size = [spec.height, spec.width] if config.get("fixed_input_size") else None
        return {"name": name, "image_size": size}


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
            name = Path(config.get("hf_hub_filename") or "model").with_suffix(".safetensors")
            return Path(hf_hub_download(repository, str(name), revision=revision or None))
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


def _options(recipe: dict[str, Any], spec: Spec) -> dict[str, Any]:
    size = {"img_size": tuple(recipe["image_size"])} if recipe["image_size"] else {}
    return {"num_classes": spec.num_classes, "in_chans": spec.in_channels, **size}


def _described(description: dict[str, Any]) -> dict[str, Any]:
    """What `Timm._recipe` gave when the network was trained; it comes from outside."""
    timm = packages.imported("timm")
    try:
        name, size = description["timm"]["name"], description["timm"]["image_size"]
        if timm.is_model(name) and (size is None or [type(side) for side in size] == [int, int]):
            return {"name": name, "image_size": size}
    except Exception:  # whatever the wrong types lead to
        pass
    raise InputError(
        f"timm {timm.__version__} has no model like the one of the stored description: install the version that it was "
        "written with"
    )
