from torch import nn

from selftaught import models


def test_layers_are_784_1024_1024_10():
    model = models.create("mlp", 10, in_channels=1, image_size=28)
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [(784, 1024), (1024, 1024), (1024, 10)]
    assert sum(p.numel() for p in model.parameters()) == 785 * 1024 + 1025 * 1024 + 1025 * 10


def test_dropout_follows_the_relu_of_each_hidden_layer():
    model = models.create("mlp", 10, 1, 28, dropout=0.5)
    kinds = [type(m) for m in model.modules() if not list(m.children())]
    assert kinds == [
        nn.Flatten,
        *(nn.Linear, nn.ReLU, nn.Dropout),
        *(nn.Linear, nn.ReLU, nn.Dropout),
        nn.Linear,
    ]
