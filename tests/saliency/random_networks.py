"""Random small classifiers with what is known of them by construction; a seed names one for ever."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.saliency.odd_heads import HEADS, Room
from tests.saliency.odd_trunks import (
    Block,
    Convolutional,
    LastAxis,
    Sometimes,
    Tokens,
    batch_norm,
    good,
    never,
)

TRUNKS = ["2-D", "2-D", "1-D", "3-D", "transformer", "class token", "last axis", "mixer", "recurrent"]
OUTPUTS = [
    *["plain"] * 6,
    *["tempered", "float", "dict", "tuple", "object", "log-softmax", "capped", "centred", "scaled", "cut"],
]


@dataclass
class Case:
    """A network and two batches, with a change of it between them.

    Attributes:
        seed: names the network.
        design: what it is made of, for people.
        model: the classifier.
        batches: two pairs of inputs and labels.
        changes: what `change` does.
        classes: how many there are.
        leave_out: how many tokens stand before the picture's.
        grid: of the picture that tokens are of; None where there are no tokens.
    """

    seed: int
    design: str
    model: nn.Module
    batches: list[tuple[Tensor, Tensor]]
    changes: list[str]
    classes: int = 0
    leave_out: int = 0
    grid: tuple[int, ...] | None = None

    def change(self, step: Callable[[], Any]) -> None:
        """What happens to the model between the two batches; `step` makes gradients for an optimiser."""
        for name in self.changes:
            _CHANGES[name](self.model, step)


class Network(nn.Module):
    """A trunk, perhaps a norm over all tokens, a head, and what is made of its logits."""

    def __init__(
        self, trunk: nn.Module, read: str, norm: nn.Module | None, head: nn.Module, output: str
    ) -> None:
        super().__init__()
        self.trunk, self.read, self.norm, self.head, self.output = trunk, read, norm, head, output
        self.centred = False
        self.rectified = False
        self.scale = nn.Parameter(torch.tensor(0.5)) if output == "scaled" else None

    def forward(self, x: Tensor) -> Any:
        if self.centred:
            x.sub_(0.1)
        made = self.trunk(x)
        made = made if isinstance(made, list) else [made]
        last = made[-1] if self.norm is None else self.norm(made[-1])
        if self.rectified:
            last = F.relu(last, inplace=True)
        if self.read in ("tokens", "last axis"):
            last = last.movedim(-1, 1)
            made = [last]
        if self.read == "picture":
            last = last[:, self.trunk.extra :].mT
            made = [last]
        if self.read == "class":
            last = last[:, : self.trunk.class_tokens].mT
        out = self.head(last, made)
        logits = out[0] if isinstance(out, tuple) else out
        logits = self._finish(logits)
        return (logits, *out[1:]) if isinstance(out, tuple) else self._wrap(logits)

    def _finish(self, logits: Tensor) -> Tensor:
        match self.output:
            case "tempered":
                return logits / 2.5
            case "float":
                return logits.to(logits.dtype, copy=True)
            case "log-softmax":
                return logits.log_softmax(1)
            case "capped":
                return 3 * torch.tanh(logits / 3)
            case "centred":
                return logits - logits.mean(1, keepdim=True)
            case "scaled":
                return logits * self.scale.exp()
            case "cut":
                return logits[:, 1:]
        return logits

    def _wrap(self, logits: Tensor) -> Any:
        match self.output:
            case "dict":
                return {"loss": None, "logits": logits}
            case "tuple":
                return logits, logits.detach() * 0
            case "object":
                return SimpleNamespace(loss=None, logits=logits)
        return logits


class ClassReader(nn.Module):
    """One class token is classified, or the logits of two of them are averaged (Touvron et al., 2021)."""

    def __init__(self, width: int, count: int, classes: int, deep: bool) -> None:
        super().__init__()

        def classifier() -> nn.Module:
            if deep:
                return nn.Sequential(nn.Linear(width, 6), nn.Tanh(), nn.Linear(6, classes))
            return nn.Linear(width, classes)

        self.classifiers = nn.ModuleList(classifier() for _ in range(count))

    def forward(self, tokens: Tensor, made: list[Tensor]) -> Tensor:
        logits = [classifier(tokens[:, :, i]) for i, classifier in enumerate(self.classifiers)]
        return torch.stack(logits).mean(0) if logits[1:] else logits[0]


class ClassAndMean(nn.Module):
    """The class token and the mean of all others side by side."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, tokens: Tensor, made: list[Tensor]) -> Tensor:
        return self.classifier(torch.cat([tokens[:, :, 0], tokens[:, :, 1:].mean(2)], 1))


class OneReLU(nn.Module):
    """The textbook's network: one activation for all, after the convolutions and between the linear layers."""

    def __init__(self, classes: int, draw: random.Random) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
        self.relu = nn.ReLU(inplace=draw.random() < 0.5)
        self.pool = nn.MaxPool2d(2)
        self.flat = draw.random() < 0.5
        self.fc1, self.fc2 = nn.Linear(8 * (9 if self.flat else 1), 10), nn.Linear(10, classes)
        self.dropout = nn.Dropout(0.3)
        for part in (self.relu, self.conv2):
            good(part)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv2(self.pool(self.relu(self.conv1(x)))))
        x = x.flatten(1) if self.flat else x.mean((2, 3))
        return self.fc2(self.dropout(self.relu(self.fc1(x))))


def create(seed: int) -> Case:
    """The network of a seed. Heads and trunks take turns."""
    draw = random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _create(seed, draw)


def _create(seed: int, draw: random.Random) -> Case:
    classes = draw.choice([2, 3, 4, 5, 12])
    trunk_name, head_name = TRUNKS[seed % len(TRUNKS)], list(HEADS)[seed % len(HEADS)]
    output = draw.choice(OUTPUTS)
    logits = classes + 1 if output == "cut" else classes
    inside = draw.choice([1, 2, 3])
    dim = {"2-D": 2, "1-D": 1, "3-D": 3}.get(trunk_name, draw.choice([1, 2, 2, 2, 3]))
    size = {1: 12, 2: 8, 3: 4}[dim]
    case = Case(seed, "", nn.Identity(), [], [], classes)
    norm, shrink = None, "none"
    if trunk_name in ("2-D", "1-D", "3-D"):
        shrink = draw.choice(["none"] * 8 + ["one position", "one channel"])
        trunk: nn.Module = Convolutional(draw, dim, inside, size, shrink)
        read, positions, width = "maps", trunk.sizes[-1] ** dim, trunk.widths[-1]
        before = trunk.widths
        kinds = "+".join(trunk.kinds)
        if shrink == "none" and seed % 11 == 3:
            norm, kinds = good(batch_norm(dim, width)), f"{kinds}, then a norm and F.relu"
    elif trunk_name == "last axis":
        trunk, read, before, kinds = LastAxis(draw, dim, inside, size), "last axis", [], ""
        positions, width = size**dim, trunk.width
        norm = good(nn.LayerNorm(width), -1) if draw.random() < 0.5 else None
    else:
        trunk, read, norm, kinds = _tokens(draw, trunk_name, dim, inside, size)
        before, width = [], trunk.width
        positions = math.prod(trunk.grid) + (trunk.extra if read == "tokens" else 0)
        case.leave_out, case.grid = trunk.extra, trunk.grid
    if shrink == "one position" and head_name in ("coarse", "saturated", "deviation"):
        head_name = "mean"
    if read == "class":
        head_name = "class"
        head: nn.Module = ClassReader(width, trunk.class_tokens, logits, draw.random() < 0.3)
    elif read == "tokens" and case.leave_out == 1 and draw.random() < 0.4:
        head_name, head = "class and mean", ClassAndMean(width, logits)
    else:
        head = HEADS[head_name](Room(draw, width, positions, logits, before))
        for part in head.modules():
            if isinstance(part, nn.AdaptiveAvgPool1d | nn.AdaptiveMaxPool1d) and part.output_size == 1:
                never(part, "one position")
    model: nn.Module = Network(trunk, read, norm, head, output)
    model.rectified = kinds.endswith("F.relu")
    if seed % 23 == 5:
        model, dim, size, inside = OneReLU(classes, draw), 2, 12, 3
        trunk_name, kinds, head_name, output, case.grid, case.leave_out = "one ReLU", "", "", "", None, 0
    elif draw.random() < 0.12:
        model.centred = True
    training = draw.random() < 0.6
    frozen = "" if draw.random() < 0.8 else draw.choice(["trunk", "all"])
    dtype = draw.choice([torch.float32, torch.float64])
    for name, parameter in model.named_parameters():
        if frozen and (frozen == "all" or not name.startswith("head")):
            parameter.requires_grad_(False)
    model.to(dtype).train(training)
    case.batches = [_batch(draw, inside, dim, size, classes, dtype) for _ in range(2)]
    case.model = model
    case.changes = _draw_changes(draw, model)
    facts = [f"{trunk_name}({dim}-D: {kinds})", head_name, output, "train" if training else "eval"]
    facts += [str(dtype).removeprefix("torch."), f"{classes} classes", f"frozen {frozen or 'nothing'}"]
    facts += [f"batches of {[len(x) for x, _ in case.batches]}", f"then {'+'.join(case.changes)}"]
    if getattr(model, "centred", False):
        facts.append("changes x")
    case.design = ", ".join(facts)
    return case


def _tokens(
    draw: random.Random, name: str, dim: int, inside: int, size: int
) -> tuple[Tokens, str, nn.Module | None, str]:
    kind = "transformer" if name == "class token" else name
    alone = name == "class token"
    count = draw.choice([1, 1, 2]) if alone else draw.choice([0, 0, 1]) if kind == "transformer" else 0
    trunk = Tokens(draw, dim, inside, size, count, kind, alone)
    read = "class" if alone else draw.choice(["tokens", "picture"])
    norm = nn.LayerNorm(trunk.width) if draw.random() < 0.6 else None
    if norm is not None:
        norm.channel_dim = -1
        never(norm, "class tokens alone are read") if alone else good(norm, -1)
    blocks = "+".join(
        "before" if block.before else "after" for block in trunk.blocks if isinstance(block, Block)
    )
    return trunk, read, norm, f"{kind} {trunk.extra} extra {read} {blocks}"


def _batch(
    draw: random.Random, inside: int, dim: int, size: int, classes: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Samples may differ in size, those past the eighth the most: what is right for the first may not be for them."""
    count = draw.choice([2, 3, 5, 12])
    x = torch.randn(count, inside, *[size] * dim, dtype=dtype)
    if draw.random() < 0.5:
        sizes = torch.tensor([draw.choice([0.3, 1.0, 1.0, 3.0]) * (3 if n >= 8 else 1) for n in range(count)])
        x = x * sizes.to(dtype).view(-1, *[1] * (dim + 1))
    return x, torch.randint(classes, (count,))


def _draw_changes(draw: random.Random, model: nn.Module) -> list[str]:
    changes = ["step"] if draw.random() < 0.5 else ["re-drawn"]
    if any(hasattr(part, "gate") and isinstance(part.gate, Tensor) for part in model.modules()):
        changes.append("gates")
    if any(isinstance(part, nn.Dropout | Sometimes) for part in model.modules()) and draw.random() < 0.7:
        changes.append("rates")
    if draw.random() < 0.25:
        changes.append("mode")
    if draw.random() < 0.1:
        changes.append("norms")
    return changes


def _step(model: nn.Module, step: Callable[[], Any]) -> None:
    """One step of gradient descent so large that each tensor moves by a third of its length."""
    step()
    with torch.no_grad():
        for parameter in model.parameters():
            grad = parameter.grad
            if grad is not None and grad.isfinite().all() and grad.norm() > 0:
                parameter -= grad * (0.3 * (parameter.norm() + 0.1) / grad.norm())
            parameter.grad = None


def redraw(model: nn.Module) -> None:
    """Other weights of about the same size."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * parameter.abs().mean() * torch.randn_like(parameter)


def _gates(model: nn.Module, step: Callable[[], Any]) -> None:
    for part in model.modules():
        if isinstance(getattr(part, "gate", None), Tensor):
            part.gate.fill_(1.0)


def _rates(model: nn.Module, step: Callable[[], Any]) -> None:
    for part in model.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0 if part.p > 0 else 0.5
        if isinstance(part, Sometimes):
            part.rate = 0.8 - part.rate


def _mode(model: nn.Module, step: Callable[[], Any]) -> None:
    model.train(not model.training)


def _norms(model: nn.Module, step: Callable[[], Any]) -> None:
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


_CHANGES = {
    "step": _step,
    "re-drawn": lambda model, _: redraw(model),
    "gates": _gates,
    "rates": _rates,
    "mode": _mode,
    "norms": _norms,
}
