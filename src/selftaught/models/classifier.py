"""The shape all models share: features, then a head."""

from collections import OrderedDict

from torch import Tensor, nn


class Classifier(nn.Module):
    """An image classifier in two parts, ``forward(x) == head(features(x))``.

    `features` maps images (B, K, H, W) to what an explanation looks at: in convolutional models the output of
    the last block, (B, K', H', W'), in the MLP the last hidden layer, (B, 1024). `head` maps that to logits
    (B, C). Both are modules: a hook on `features`, or on its last child, sees the explained tensor.
    """

    def __init__(self, features: nn.Sequential, head: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, K, H, W)."""
        return self.head(self.features(x))


def stack(layers: dict[str, nn.Module], dropout: float = 0.0) -> nn.Sequential:
    """A sequence of named layers, ended by dropout where its rate is not zero.

    Layers have names, not numbers, so that the keys of the state dict do not depend on the dropout.
    """
    ordered = OrderedDict(layers)
    if dropout:
        ordered["dropout"] = nn.Dropout(dropout)
    return nn.Sequential(ordered)


def he_init(model: nn.Module) -> None:
    """He initialisation of all convolutions (normal, fan-out, ReLU gain), in place.

    Batch normalisation keeps PyTorch's weight 1 and bias 0, linear layers PyTorch's default.
    He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
