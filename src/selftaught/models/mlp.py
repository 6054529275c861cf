"""The multilayer perceptron of Table 3: 784-1024-1024-10 on MNIST."""

from torch import nn

from selftaught.models.architecture import Spec, register
from selftaught.models.classifier import Classifier, stack

_WIDTH = 1024


@register("mlp", "multilayer perceptron, two hidden layers of 1024 with ReLU (no Grad-CAM)", spatial=False)
def build(spec: Spec) -> Classifier:
    """inputs-1024-1024-classes; dropout, where asked for, follows each hidden layer."""
    inputs = spec.in_channels * spec.height * spec.width
    features = {
        "flatten": nn.Flatten(),
        "hidden1": _hidden(inputs, spec.dropout),
        "hidden2": _hidden(_WIDTH, spec.dropout),
    }
    return Classifier(stack(features), stack({"classifier": nn.Linear(_WIDTH, spec.num_classes)}))


def _hidden(inputs: int, dropout: float) -> nn.Sequential:
    return stack({"linear": nn.Linear(inputs, _WIDTH), "relu": nn.ReLU(inplace=True)}, dropout)
