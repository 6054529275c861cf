"""All-class saliency maps of a batch: `selftaught.explain` beside what one would use instead.

    python -m benchmarks.saliency_speed [--seconds S] [--smoke]

The maps of all contestants are compared before anything is timed, and a difference ends the benchmark.
"""

import copy
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from captum.attr import GuidedBackprop, InputXGradient, LayerGradCam, Saliency
from tests.oracles.captum_maps import relative_error
from torch import Tensor, nn

import selftaught
from benchmarks import harness
from selftaught import models
from selftaught.saliency.plan import Plan

INTRO = """How long it takes to explain every class of every image of a batch, and with how much memory. All contestants
have the same network (random weights, eval mode, float32), the same batch, channels_last and the same threads, and take
turns in one process. Their maps are compared with ours first.

- **selftaught**: `selftaught.explain(model, x, saliency)`; for Grad-CAM with the `plan=` of an explanation before, as
  the trainer does it. **selftaught, first call**: without, so that the layer and the form are found anew.
- **captum, loop**: a call for each class, as its users write it. Forward and backward anew each time.
- **captum, batched**: one call on the batch repeated once per class, with a target for each row.
- **torch-cam**: one forward pass and a call of its GradCAM for each class on it (`normalized=False`; it always applies
  ReLU, and is compared with our maps after ReLU). It has no gradients with respect to the input.
- **autograd loop**: one forward pass and `torch.autograd.grad` for each class on it, written by hand.

**ratio**: the contestant's time over selftaught's in the same round (median; **low** and **high** are the quartiles):
above 1 selftaught is faster. **MB**: the most that torch had allocated during the call above what was there before.
**difference**: the largest between the maps over the largest value. **measured on**: the classes of captum's loop
and the images of its batched form are independent of each other, so where it would take long a part is measured, and
time and memory are multiplied; everything else is measured as it is."""

COLUMNS = ["classes", "batch", "contestant", "ms", "ratio", "low", "high", "MB", "difference", "measured on"]
OURS = "selftaught"
TOLERANCE = 1e-3

Maps = Callable[[], Tensor]


@dataclass(frozen=True)
class Cell:
    """What is explained: maps of the first `explained` of a network's classes.

    `loop` and `images` are how many of the classes and of the images captum's two forms are measured on.
    """

    model: str
    saliency: str
    classes: int
    batch: int
    explained: int
    loop: int
    images: int
    shape: tuple[int, int] = (3, 32)

    def parts(self) -> str:
        """The classes, in words."""
        return str(self.classes) if self.explained == self.classes else f"{self.explained} of {self.classes}"


@dataclass(frozen=True)
class Contestant:
    """A way to the maps: `call` makes them for `images` and `classes`, at most those of the cell."""

    call: Maps
    images: int
    classes: int
    relu: bool = False

    def factor(self, cell: Cell) -> float:
        """What time is to be multiplied by."""
        return cell.batch / self.images * (cell.explained / self.classes)

    def seconds(self, cell: Cell) -> float:
        """Of all the maps of the cell."""
        return harness.timed(self.call) * self.factor(cell)

    def megabytes(self, cell: Cell) -> float:
        """At the peak: what a part of the images takes is taken by each, a class that is not made leaves its map."""
        maps: list[Tensor] = []
        peak = harness.peak_memory(lambda: maps.append(self.call()))
        missing = maps[0][:, 0].nbytes * (cell.explained - self.classes)
        return (peak * cell.batch / self.images + missing) / 2**20

    def measured_on(self, cell: Cell) -> str:
        """The part, in words."""
        if self.factor(cell) == 1:
            return "all"
        images = f"{self.images} of {cell.batch} images"
        return images if self.images < cell.batch else f"{self.classes} of {cell.explained} classes"


@dataclass(frozen=True)
class Case:
    """A cell with its network, its batch and, for Grad-CAM, how we read the network."""

    cell: Cell
    network: nn.Module
    x: Tensor
    plan: Plan | None = None

    def own(self) -> tuple[nn.Module, nn.Module | None]:
        """A copy of the network, for no one's hooks may slow the others, and the explained layer in it."""
        network = copy.deepcopy(self.network)
        return network, network.get_submodule(self.plan.layer) if self.plan else None


def case_of(cell: Cell) -> Case:
    """Random weights and images."""
    torch.manual_seed(0)
    channels, size = cell.shape
    network = models.create(cell.model, cell.classes, channels, size).eval()
    network = network.to(memory_format=torch.channels_last)
    x = torch.randn(cell.batch, channels, size, size).contiguous(memory_format=torch.channels_last)
    first = selftaught.explain(network, x[:2], cell.saliency, classes=[0])
    return Case(cell, network, x, first.plan)


def ours(case: Case) -> dict[str, Contestant]:
    """`selftaught.explain`."""
    cell = case.cell
    classes = None if cell.explained == cell.classes else range(cell.explained)

    def planned() -> Tensor:
        return selftaught.explain(case.network, case.x, cell.saliency, classes=classes, plan=case.plan).maps

    def first() -> Tensor:
        return selftaught.explain(case.network, case.x, cell.saliency, classes=classes).maps

    found = {OURS: Contestant(planned, cell.batch, cell.explained)}
    if case.plan:
        found[f"{OURS}, first call"] = Contestant(first, cell.batch, cell.explained)
    return found


Attribute = Callable[[Tensor, "int | Tensor"], Tensor]

CAPTUM: Mapping[str, Callable[[nn.Module, nn.Module | None], Attribute]] = {
    "grad-cam": lambda net, layer: lambda x, k: LayerGradCam(net, layer).attribute(x, target=k)[:, 0],
    "grad": lambda net, _: lambda x, k: Saliency(net).attribute(x, target=k, abs=False),
    "grad-input": lambda net, _: lambda x, k: InputXGradient(net).attribute(x, target=k),
    "guided-backprop": lambda net, _: lambda x, k: GuidedBackprop(net).attribute(x, target=k),
}


def captum(case: Case) -> dict[str, Contestant]:
    """A loop over classes, and the batch repeated for each class."""
    cell = case.cell
    attribute = CAPTUM[cell.saliency](*case.own())
    x = case.x.clone().requires_grad_()

    def loop() -> Tensor:
        return torch.stack([attribute(x, k).detach() for k in range(cell.loop)], dim=1)

    def batched() -> Tensor:
        repeated = case.x[: cell.images].repeat_interleave(cell.explained, dim=0)
        repeated = repeated.contiguous(memory_format=torch.channels_last).requires_grad_()
        targets = torch.arange(cell.explained).repeat(cell.images)
        return attribute(repeated, targets).detach().unflatten(0, (cell.images, cell.explained))

    return {
        "captum, loop": Contestant(loop, cell.batch, cell.loop),
        "captum, batched": Contestant(batched, cell.images, cell.explained),
    }


def torch_cam(case: Case) -> dict[str, Contestant]:
    """Nothing where it is not installed, and for other maps than Grad-CAM's."""
    if case.cell.saliency != "grad-cam" or torch_cam_is_missing():
        return {}
    from torchcam.methods import GradCAM

    network, layer = case.own()
    cam = GradCAM(network, layer)

    def maps() -> Tensor:
        scores = network(case.x)
        options = {"scores": scores, "normalized": False, "retain_graph": True}
        return torch.stack([cam(class_idx=k, **options)[0] for k in range(case.cell.explained)], dim=1)

    return {"torch-cam": Contestant(maps, case.cell.batch, case.cell.explained, relu=True)}


def autograd_loop(case: Case) -> dict[str, Contestant]:
    """One forward pass, and a gradient of each logit's sum."""
    cell, (network, layer) = case.cell, case.own()
    x = case.x.clone().requires_grad_()
    seen: list[Tensor] = []
    if layer is not None:
        layer.register_forward_hook(lambda module, args, output: seen.append(output))
    if cell.saliency == "guided-backprop":
        for module in network.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(guide)

    def maps() -> Tensor:
        seen.clear()
        totals = network(x).sum(0)
        source = seen.pop() if layer is not None else x
        made = []
        for k in range(cell.explained):
            [gradient] = torch.autograd.grad(totals[k], source, retain_graph=True)
            made.append(FROM_GRADIENT[cell.saliency](gradient, source.detach()))
        return torch.stack(made, dim=1)

    return {"autograd loop": Contestant(maps, cell.batch, cell.explained)}


def guide(module: nn.Module, args: object, output: Tensor) -> None:
    """Let only positive gradients pass."""
    output.register_hook(lambda gradient: gradient.clamp(min=0))


FROM_GRADIENT: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad-cam": lambda gradient, seen: (gradient.mean((2, 3), keepdim=True) * seen).sum(1),
    "grad": lambda gradient, x: gradient,
    "grad-input": lambda gradient, x: gradient * x,
    "guided-backprop": lambda gradient, x: gradient,
}


def differences(contestants: Mapping[str, Contestant]) -> dict[str, float]:
    """How far everyone's maps are from ours, relative to the largest.

    Raises:
        AssertionError: so far that they are not the same.
    """
    expected = contestants[OURS].call()
    found = {}
    for name, contestant in contestants.items():
        part = expected[: contestant.images, : contestant.classes]
        part = part.relu() if contestant.relu else part
        found[name] = 0.0 if name == OURS else relative_error(contestant.call(), part)
        assert found[name] < TOLERANCE, f"{name}: maps differ by {found[name]:.1e}"
    return found


def measure(cell: Cell, rounds: int, seconds: float) -> list[list[object]]:
    """The rows of a cell, ours first."""
    case = case_of(cell)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces its hooks in every call
        contestants = {**ours(case), **captum(case), **torch_cam(case), **autograd_loop(case)}
        errors = differences(contestants)  # and everyone is warm
        calls = {name: lambda c=c: c.seconds(cell) for name, c in contestants.items()}
        timings = harness.alternate(calls, OURS, rounds, seconds, warm_up=0)
        peaks = {name: contestant.megabytes(cell) for name, contestant in contestants.items()}
    rows: list[list[object]] = []
    for name, timing in timings.items():
        spread = [timing.ratio, timing.low, timing.high]
        what = [cell.parts(), cell.batch, name, 1e3 * timing.seconds]
        part = contestants[name].measured_on(cell)
        rows.append([*what, *spread, peaks[name], f"{errors[name]:.0e}", part])
    return rows


def groups(smoke: bool) -> Iterator[tuple[str, list[Cell]]]:
    """The tables: a network and a saliency each, for more and more classes."""
    if smoke:
        yield "resnet8, grad-cam", [Cell("resnet8", "grad-cam", 3, 4, 3, 2, 2, (3, 8))]
        for saliency in ("grad", "grad-input", "guided-backprop"):
            yield f"mlp, {saliency}", [Cell("mlp", saliency, 3, 4, 2, 1, 2, (1, 8))]
        return
    for model in ("resnet14", "resnet8"):
        sizes = ((10, 128, 3, 32), (100, 128, 3, 3), (1000, 32, 10, 1))
        yield f"{model}, grad-cam", [Cell(model, "grad-cam", c, b, c, k, n) for c, b, k, n in sizes]
        for saliency in ("grad", "grad-input", "guided-backprop"):
            every = Cell(model, saliency, 10, 128, 10, 3, 32)
            many = [Cell(model, saliency, c, 8, 100, 10, 2) for c in (100, 1000)]
            yield f"{model}, {saliency}", [every, *many]
    for saliency in ("grad", "grad-input", "guided-backprop"):
        sizes = ((10, 10, 10, 128), (100, 100, 20, 16), (1000, 100, 20, 16))
        cells = [Cell("mlp", saliency, c, 128, k, loop, n, (1, 28)) for c, k, loop, n in sizes]
        yield f"mlp, {saliency}", cells


def torch_cam_is_missing() -> bool:
    """Whether the page has to do without it."""
    return importlib.util.find_spec("torchcam") is None


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all tables and write the page."""
    args = harness.arguments(__doc__, seconds=8).parse_args(argv)
    rounds = 2 if args.smoke else 15
    without = "\n\ntorch-cam was not installed and is left out." if torch_cam_is_missing() else ""
    page = harness.Page("saliency_speed", "Saliency maps for all classes", INTRO + without)
    for heading, cells in groups(args.smoke):
        rows = [row for cell in cells for row in measure(cell, rounds, args.seconds)]
        page.table(heading, COLUMNS, rows)
        page.write(args.out)


if __name__ == "__main__":
    main()
