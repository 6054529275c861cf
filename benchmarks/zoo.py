"""Architectures of transformers, timm and torchvision with random weights: nothing is downloaded."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 5

# What makes each of transformers' image classifiers small, by the name of its class without "ForImageClassification".
_VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_PATCHES = {**_VIT, "image_size": 64, "patch_size": 16}
_TRANSFORMERS: dict[str, dict[str, Any]] = {
    "Beit": _PATCHES,
    "Bit": {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_groups": 2},
    "CLIP": {"vision_config": {**_PATCHES, "projection_dim": 24}, "projection_dim": 24},
    "ConvNext": {"num_stages": 3, "hidden_sizes": [8, 12, 24], "depths": [1, 1, 2]},
    "ConvNextV2": {"num_stages": 3, "hidden_sizes": [8, 12, 24], "depths": [1, 1, 2]},
    "Cvt": {"embed_dim": [8, 16, 24], "num_heads": [1, 2, 3]},
    "Data2VecVision": _PATCHES,
    "DeiT": _PATCHES,
    "Dinov2": {**_PATCHES, "mlp_ratio": 2},
    "Dinov2WithRegisters": {**_PATCHES, "mlp_ratio": 2, "num_register_tokens": 3},
    "DonutSwin": {"image_size": 64, "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "EfficientNet": {"width_coefficient": 0.2, "depth_coefficient": 0.3, "image_size": 64, "hidden_dim": 256},
    "FocalNet": {"image_size": 64, "embed_dim": 12, "depths": [1, 1], "focal_levels": [2, 2]},
    "HGNetV2": {},
    "Hiera": {
        "image_size": [64, 64],
        "embed_dim": 12,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 4, 8],
    },
    "IJepa": _PATCHES,
    "ImageGPT": {"n_positions": 64, "n_embd": 24, "n_layer": 2, "n_head": 2, "vocab_size": 17},
    "Levit": {"image_size": 64},
    "MetaClip2": {"vision_config": {**_PATCHES, "projection_dim": 24}, "projection_dim": 24},
    "MobileNetV1": {"depth_multiplier": 0.25, "image_size": 64},
    "MobileNetV2": {"depth_multiplier": 0.25, "image_size": 64},
    "MobileViT": {"image_size": 64, "hidden_sizes": [24, 32, 40], "neck_hidden_sizes": [8, 8, 12, 16, 20, 24, 48]},
    "MobileViTV2": {"image_size": 64, "width_multiplier": 0.25},
    "PoolFormer": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    "PPLCNet": {"scale": 0.25},
    "Pvt": {"image_size": 64, "hidden_sizes": [8, 16, 40, 64], "depths": [1, 1, 1, 1]},
    "PvtV2": {"image_size": 64, "hidden_sizes": [8, 16, 40, 64], "depths": [1, 1, 1, 1]},
    "RegNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 4},
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 2], "layer_type": "basic"},
    "Segformer": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 24},
    "Siglip": {"vision_config": _PATCHES},
    "SwiftFormer": {"image_size": 64, "embed_dims": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    "Swin": {"image_size": 64, "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "Swinv2": {"image_size": 64, "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "TextNet": {},
    "ViT": _PATCHES,
    "ViTMSN": _PATCHES,
}  # fmt: skip
#: Classes whose names do not end in the usual way, and the configuration that makes each.
_ODD = {
    "DeiTForImageClassificationWithTeacher": ("DeiT", _PATCHES),
    "LevitForImageClassificationWithTeacher": ("Levit", {"image_size": 64}),
    "PerceiverForImageClassificationLearned": (
        "Perceiver",
        {"num_latents": 8, "d_latents": 24, "num_self_attends_per_block": 1, "num_blocks": 1, "image_size": 16,
         "num_self_attention_heads": 2, "num_cross_attention_heads": 1},
    ),
}  # fmt: skip
_INPUTS = {"ImageGPT": "tokens", "PerceiverForImageClassificationLearned": 16}

_TIMM = [
    "botnet26t_256", "eca_botnext26ts_256", "mobileone_s1", "repvgg_a0",
    "cait_xxs24_224", "coat_tiny", "convit_tiny", "convnext_atto", "convnextv2_atto",
    "crossvit_tiny_240", "cs3darknet_focus_s", "davit_tiny", "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224", "densenet121", "dla46_c",
    "edgenext_xx_small", "efficientformer_l1", "efficientformerv2_s0", "efficientnet_b0", "tf_efficientnetv2_b0",
    "mnasnet_050", "mobilenetv2_050", "efficientvit_b0", "efficientvit_m0", "eva02_tiny_patch14_224",
    "vit_small_patch16_dinov3", "fasternet_t0", "fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny", "ghostnet_050",
    "hgnetv2_b0", "hiera_tiny_224", "hrnet_w18_small", "inception_next_atto",
    "inception_v3", "lcnet_050", "levit_128s", "levit_conv_128s", "mambaout_femto",
    "maxvit_rmlp_pico_rw_256", "coatnet_nano_rw_224", "poolformer_s12", "convformer_s18",
    "mixer_s32_224", "resmlp_12_224", "gmlp_ti16_224", "mobilenetv3_small_050", "mobilenetv4_conv_small_035",
    "mobilevit_xxs", "mobilevitv2_050", "mvitv2_tiny", "nest_tiny",
    "pit_ti_224", "pit_ti_distilled_224", "pvt_v2_b0", "rdnet_tiny",
    "regnetx_002", "regnety_002", "repghostnet_050", "repvit_m0_9", "res2net50_14w_8s", "resnest14d", "resnet10t",
    "resnet18", "seresnet18", "ecaresnet26t", "resnetv2_18", "rexnet_100", "selecsls42",
    "sequencer2d_s", "shvit_s1", "skresnet18", "starnet_s050", "swiftformer_xs", "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256", "swinv2_cr_tiny_224", "tiny_vit_5m_224", "tnt_s_legacy_patch16_224",
    "twins_svt_small", "visformer_tiny", "vit_tiny_patch16_224",
    "vit_tiny_r_s16_p8_224", "vit_relpos_small_patch16_224",
    "vit_wee_patch16_reg1_gap_256", "vit_medium_patch16_gap_240",
    "volo_d1_224", "ese_vovnet19b_dw",
    "legacy_xception", "xcit_nano_12_p16_224",
]  # fmt: skip

#: Those that take no pictures of 64 by 64.
_SIZES = {"inception_v3": 96, "crossvit_tiny_240": 240, "efficientformer_l1": 224}

_TORCHVISION = [
    "vgg11_bn", "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf",
    "regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0",
    "squeezenet1_1", "swin_t", "swin_v2_t", "vit_b_16",
]  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """A classifier of a library.

    Attributes:
        library: which one.
        name: what the library calls it.
        build: makes it with random weights.
        size: the side of the pictures it is tried with; None where it takes the tokens of one.
    """

    library: str
    name: str
    build: Callable[[], nn.Module]
    size: int | None

    def batch(self, count: int) -> Tensor:
        """Random pictures, or the numbers of random colours."""
        if self.size is None:
            return torch.randint(16, (count, 64))
        return torch.randn(count, 3, self.size, self.size)


def libraries() -> list[str]:
    """Those of the three that are installed."""
    return [name for name in ("transformers", "timm", "torchvision") if importlib.util.find_spec(name)]


def architectures(library: str) -> Iterator[Architecture]:
    """All that are tried of a library."""
    yield from {"transformers": _of_transformers, "timm": _of_timm, "torchvision": _of_torchvision}[library]()


def _of_transformers() -> Iterator[Architecture]:
    named = {f"{name}ForImageClassification": (name, options) for name, options in _TRANSFORMERS.items()}
    for name, (family, options) in {**named, **_ODD}.items():
        size = _INPUTS.get(name, _INPUTS.get(family, 64))

        def build(name: str = name, family: str = family, options: dict[str, Any] = options) -> nn.Module:
            import transformers

            config = getattr(transformers, f"{family}Config")
            return getattr(transformers, name)(config(num_labels=CLASSES, **options))

        yield Architecture("transformers", name, build, size if isinstance(size, int) else None)


def _of_timm() -> Iterator[Architecture]:
    for name in _TIMM:
        size = _SIZES.get(name, 64)

        def build(name: str = name, size: int = size) -> nn.Module:
            import timm

            try:
                return timm.create_model(name, num_classes=CLASSES, img_size=size)
            except TypeError:  # of any size
                return timm.create_model(name, num_classes=CLASSES)

        yield Architecture("timm", name, build, size)


def _of_torchvision() -> Iterator[Architecture]:
    for name in _TORCHVISION:

        def build(name: str = name) -> nn.Module:
            import torchvision

            options: dict[str, Any] = {"num_classes": CLASSES, "weights": None}
            if name.startswith("vit"):
                options["image_size"] = 64
            if name == "inception_v3":
                options["aux_logits"] = False  # its auxiliary classifier takes no pictures below 299 by 299
            if name == "maxvit_t":
                options = {"num_classes": CLASSES, "input_size": (224, 224)}
            return getattr(torchvision.models, name)(**options)

        yield Architecture("torchvision", name, build, {"inception_v3": 96, "maxvit_t": 224}.get(name, 64))
