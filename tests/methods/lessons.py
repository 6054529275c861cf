"""A method ready to take a step, and what an onlooker sees of that step."""

import copy
from types import SimpleNamespace

import torch
from torch import nn

from selftaught import models
from selftaught.methods import registry

TAUGHT = {
    "kd": {},
    "cwtm": {},
    "cwtm-permut": {},
    "dkpp": {},
    "ban": {},
    "ban+l": {},
    "hint": {"warmup": 1},
    "at": {},
    "fsp": {"warmup": 1},
    "takd": {},
    "le-teacher": {},
}
"""The methods with a teacher, each with the setting that gives it all of its stages."""


class Table(nn.Module):
    """Logits that are the parameters themselves: their gradient is the one that the equations print."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, x):
        return self.logits[: len(x)]


def network(name, dtype=torch.float64, classes=5):
    return models.create(name, classes, 3, 16).to(dtype).train()


def ready(key, student="resnet8", teacher="resnet14", dtype=torch.float64, **options):
    """A method in its first epoch, its student in train mode, and a batch."""
    cls, model = registry.find(key), network(student, dtype)
    x, y = torch.randn(6, 3, 16, 16, dtype=dtype), torch.tensor([0, 4, 1, 1, 2, 3])
    master = network(teacher, dtype) if cls.learns_from else None
    if master is not None:
        trained_looking(master, x)
    peers = [network(student, dtype) for _ in range(cls.peers)]
    return registry.create(key, model, master, peers, x[:2], **options).to(dtype), x, y


def trained_looking(teacher, x):
    """BatchNorm statistics that are not those of any one batch: a teacher in train mode would show."""
    for _ in range(3):
        teacher(2 * x + 1)


def tables(key, batch=8, classes=5, scale=2.0, **options):
    """A method between two tables of logits, with x and y."""
    student, teacher = (scale * torch.randn(batch, classes, dtype=torch.float64) for _ in range(2))
    cls = registry.find(key)
    peers = [Table(teacher) for _ in range(cls.peers)]
    method = registry.create(
        key, Table(student), Table(teacher) if cls.learns_from else None, peers, **options
    )
    return method, torch.zeros(batch, 1), torch.randint(classes, (batch,))


def seen(method, x, y):
    """What a step is made of, by forward passes of copies written out stage by stage."""
    student = copy.deepcopy(method.model)
    given = SimpleNamespace(labels=y.tolist())
    given.own, given.stages = _stage_by_stage(student, x)
    if hasattr(method, "teacher"):
        given.teacher, given.teacher_stages = _stage_by_stage(copy.deepcopy(method.teacher.network), x)
    if hasattr(method, "peer"):
        given.peer, _ = _stage_by_stage(copy.deepcopy(method.peer), x)
    if hasattr(method, "regressor"):
        weight, bias = method.regressor.weight[:, :, 0, 0], method.regressor.bias
        stage = torch.from_numpy(given.stages[method.stage - 1]).to(weight.dtype)
        hinted = torch.einsum("ij,bjhw->bihw", weight, stage) + bias[:, None, None]
        given.hinted = hinted.detach().numpy()
    return given


@torch.no_grad()
def _stage_by_stage(network, x):
    """Logits, and each stage's features, as NumPy arrays."""
    if isinstance(network, Table):
        return network(x).numpy(), []
    kept = []
    for name, part in network.features.named_children():
        x = part(x)
        if name.startswith("stage"):
            kept.append(x.double().numpy())
    return network.head(x).numpy(), kept


def state(module):
    """Parameters, buffers and modes, to compare with later."""
    tensors = {name: value.clone() for name, value in module.state_dict().items()}
    return tensors, [part.training for part in module.modules()]
