"""Small networks of well-known architectures, from configurations alone: nothing is downloaded."""

import transformers as hf
from torch import nn

_ARCHITECTURES = {
    "resnet": lambda: hf.ResNetForImageClassification(
        hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 2], layer_type="basic",
                        num_labels=5)
    ),
    "convnext": lambda: hf.ConvNextForImageClassification(
        hf.ConvNextConfig(num_stages=3, hidden_sizes=[8, 12, 24], depths=[1, 1, 2], num_labels=5)
    ),
    "mobilenet_v2": lambda: hf.MobileNetV2ForImageClassification(
        hf.MobileNetV2Config(depth_multiplier=0.1, min_depth=4, num_labels=5, classifier_dropout_prob=0.2)
    ),
    "vit": lambda: hf.ViTForImageClassification(
        hf.ViTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=64,
                    patch_size=16, num_labels=5)
    ),
    "deit": lambda: hf.DeiTForImageClassification(
        hf.DeiTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=64,
                    patch_size=16, num_labels=5)
    ),
    "swin": lambda: hf.SwinForImageClassification(
        hf.SwinConfig(image_size=64, patch_size=4, embed_dim=12, depths=[1, 1], num_heads=[2, 2],
                      window_size=4, num_labels=5)
    ),
    "regnet": lambda: hf.RegNetForImageClassification(
        hf.RegNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=4, num_labels=5)
    ),
}  # fmt: skip

NAMES = list(_ARCHITECTURES)
#: Where Grad-CAM should look (the name's end: its start moves between transformers versions), where the
#: channels are there, and what is found behind it in eval mode.
EXPECTED = {
    "resnet": ("encoder.stages.3", 1, "linear"),
    "convnext": ("encoder.stages.2", 1, "mlp"),
    "mobilenet_v2": ("conv_1x1", 1, "linear"),
    "vit": ("1.layernorm_before", -1, "general"),
    "deit": ("1.layernorm_before", -1, "general"),
    "swin": ("layernorm", -1, "linear"),
    "regnet": ("encoder.stages.1", 1, "linear"),
}
#: How many tokens there are along the sides of the picture.
GRIDS = {"vit": (4, 4), "deit": (4, 4), "swin": (8, 8)}
#: These have ReLUs and nothing that captum's GuidedBackprop refuses.
WITH_RELU = ["resnet", "regnet"]


def create(name: str) -> nn.Module:
    """A randomly initialised classifier of 64x64 RGB images into 5 classes."""
    return _ARCHITECTURES[name]()
