"""A method ready to take a step, and what an onlooker sees of that step."""

import copy
from types import SimpleNamespace

import torch
from torch import nn

from selftaught import models
from selftaught.methods import registry
from selftaught.methods.base import Casting

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
    """A bound objective in its first epoch, its student in train mode, and a batch."""
    objective = registry.create(key, **options)
    model = network(student, dtype)
    x, y = torch.randn(6, 3, 16, 16, dtype=dtype), torch.tensor([0, 4, 1, 1, 2, 3])
    master = network(teacher, dtype) if objective.learns_from else None
    if master is not None:
        trained_looking(master, x)
    casting = Casting(lambda: network(student, dtype), x[:2])
    companions = {name: part.to(dtype) for name, part in objective.companions(model, master, casting).items()}
    objective.bind(model, master, companions)
    objective.start_epoch(0)
    return objective, x, y


def trained_looking(teacher, x):
    """BatchNorm statistics that are not those of any one batch: a teacher in train mode would show."""
    for _ in range(3):
        teacher(2 * x + 1)


def tables(key, batch=8, classes=5, scale=2.0, **options):
    """A method between two tables of logits, with x and y."""
    student, teacher = (scale * torch.randn(batch, classes, dtype=torch.float64) for _ in range(2))
    objective = registry.create(key, **options)
    peer = {"peer": Table(teacher)} if objective.peers else {}
    objective.bind(Table(student), Table(teacher) if objective.learns_from else None, peer)
    objective.start_epoch(0)
    x, y = torch.zeros(batch, 1), torch.randint(classes, (batch,))
    return objective, x, y


def seen(objective, x, y):
    """What a step is made of, by forward passes of copies written out stage by stage."""
    student = copy.deepcopy(objective.model)
    given = SimpleNamespace(labels=y.tolist())
    given.own, given.stages = _stage_by_stage(student, x)
    if hasattr(objective, "teacher"):
        given.teacher, given.teacher_stages = _stage_by_stage(copy.deepcopy(objective.teacher).eval(), x)
    if hasattr(objective, "peer"):
        given.peer, _ = _stage_by_stage(copy.deepcopy(objective.peer), x)
    if hasattr(objective, "regressor"):
        weight, bias = objective.regressor.weight[:, :, 0, 0], objective.regressor.bias
        stage = torch.from_numpy(given.stages[objective.stage - 1]).to(weight.dtype)
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
