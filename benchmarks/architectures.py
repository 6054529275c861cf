"""Well-known architectures explained by the library and by a naive loop over classes.

    python -m benchmarks.architectures [--only NAME ...] [--libraries L ...] [--rounds N] [--smoke]

Those of transformers, timm and torchvision are tried as far as the libraries are installed.
"""

import copy
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from tests.oracles.naive_gradcam import Naive, difference, naive_grad_cam, seed_everything
from torch import Tensor, nn

from benchmarks import harness, zoo
from selftaught import IntrospectiveLoss
from selftaught.errors import DegenerateMapsError, SelftaughtError
from selftaught.saliency import Explainer, Explanation, explain
from selftaught.saliency.capture import as_logits
from selftaught.saliency.plan import Plan

INTRO = """Which layer Grad-CAM takes in classifiers that people use, and whether its maps are those of the definition:
one backward pass for each class of each sample, no shortcut (`tests/oracles/naive_gradcam.py`). All have random
weights, BatchNorm statistics that fit them, 5 classes, and a batch of 4 random pictures, most of 64 by 64.

- **layer**: the module whose output is explained, and which of its runs where it has several. **head**: the form of its
  weights. **maps**: their shape. **read**: the share of positions that the logits depend on.
- **eval**: the largest difference from the definition in eval mode, relative to sum |A| · mean |gradient| of each map;
  **train**: the same in train mode, after the weights were changed, by the same explainer.
- **× ce**: a training step of `IntrospectiveLoss` over one of plain cross-entropy, the median of few."""

COLUMNS = ["architecture", "parameters", "layer", "head", "maps", "read", "eval", "train", "× ce"]
TOLERANCE = 1e-5
BATCH = 4


@dataclass
class Row:
    """What was found of an architecture; None where there is nothing to say."""

    name: str
    parameters: int
    layer: str | None = None
    head: str | None = None
    maps: str | None = None
    read: float | None = None
    eval: str | None = None
    train: str | None = None
    ratio: float | None = None

    def cells(self) -> list[Any]:
        read = None if self.read is None else f"{self.read:.0%}"
        of = f"{self.parameters / 1e6:.2f} M"
        return [self.name, of, self.layer, self.head, self.maps, read, self.eval, self.train, self.ratio]

    @property
    def equal(self) -> bool:
        return all(cell is not None and cell.startswith("equal") for cell in (self.eval, self.train))


def examine(architecture: zoo.Architecture, rounds: int) -> Row:
    """Explain one architecture in eval and in train mode, each against the definition."""
    torch.manual_seed(0)
    model = architecture.build()
    _change(model, by=0.1)
    row = Row(architecture.name, sum(parameter.numel() for parameter in model.parameters()))
    x = architecture.batch(16)
    _fit_statistics(model, x)
    explainer = Explainer()
    x = architecture.batch(BATCH)
    row.eval = _compared(model.eval(), x, lambda: explain(model, x), row)
    _compared(model, x, lambda: explainer(model, x), Row("", 0))
    _change(model, by=0.3)
    x = architecture.batch(BATCH)
    row.train = _compared(model.train(), x, lambda: explainer(model, x), row)
    if row.equal and rounds:
        row.ratio = _cost(model, x, rounds)
    return row


def _change(model: nn.Module, by: float) -> None:
    """Other weights: those that begin as zero, which hide what follows them, among them."""
    with torch.no_grad():
        for parameter in model.parameters():
            size = parameter.std() if parameter.numel() > 1 else parameter.abs()
            parameter += by * (size.nan_to_num() + 0.01) * torch.randn_like(parameter)


def _fit_statistics(model: nn.Module, x: Tensor) -> None:
    """BatchNorm's running statistics as training leaves them: else an eval-mode network is one of vanishing signals."""
    norms = [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    usual = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        model(x.clone())
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


def _compared(model: nn.Module, x: Tensor, explained: Any, row: Row) -> str:
    """In words how the maps differ from the definition's; what was decided goes into the row."""
    before = copy.deepcopy(model)
    try:
        seed_everything(1)
        found = explained()
    except SelftaughtError as error:
        return f"refused: {error}"
    plan = found.plan
    naive = definition(before, x, found)
    run = f" [{plan.run}]" if plan.run else ""
    row.layer, row.head = plan.layer + run, plan.head
    row.maps = "×".join(map(str, found.maps.shape[2:]))
    row.read = float(naive.reached.float().mean())
    gap = difference(found.maps, naive)
    return f"equal, {gap:.0e}" if gap <= TOLERANCE else f"DIFFERENT, {gap:.0e}"


def definition(model: nn.Module, x: Tensor, found: Explanation) -> Naive:
    """Its maps of the layer that was found; the random states are those of the explanation."""
    plan = found.plan
    assert isinstance(plan, Plan)
    cells = (plan.before, plan.grid) if plan.grid else (0, None)
    return naive_grad_cam(model, x, plan.layer, plan.run, plan.channel_dim, 1, *cells)


def _cost(model: nn.Module, x: Tensor, rounds: int) -> float | None:
    """A step with explanations over a plain one, the optimiser's own part left out of both."""
    y = torch.arange(len(x)) % zoo.CLASSES
    criterion = IntrospectiveLoss(model)

    def plain() -> None:
        F.cross_entropy(as_logits(model(x)), y).backward()

    def explained() -> None:
        criterion(x, y).backward()

    both = {"ce": plain, "le": explained}
    try:
        return harness.alternate(both, "ce", rounds, seconds=60, warm_up=1)["le"].ratio
    except DegenerateMapsError:  # a dropout that lets nothing through
        return None


def examined(architectures: Iterable[zoo.Architecture], rounds: int) -> list[Row]:
    """All of them, each with a line as soon as it is known; one that cannot be built or run is named as that."""
    rows = []
    for architecture in architectures:
        begun = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                row = examine(architecture, rounds)
        except Exception as error:
            row = Row(architecture.name, 0, eval=f"FAILED: {type(error).__name__}: {_line(error)}")
        print(*row.cells(), f"{time.perf_counter() - begun:.1f} s", sep=" | ", flush=True)
        rows.append(row)
    return rows


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:150]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page."""
    parser = harness.arguments(__doc__, seconds=60)
    parser.add_argument("--libraries", nargs="+", default=zoo.libraries(), choices=zoo.libraries())
    parser.add_argument("--rounds", type=int, default=3, help="of the measurement of cost (3); 0: none")
    parser.add_argument("--only", nargs="+", help="names of architectures")
    options = parser.parse_args(arguments)
    page = harness.Page("architectures", "Architectures", INTRO)
    for library in options.libraries:
        chosen = [a for a in zoo.architectures(library) if not options.only or a.name in options.only]
        rows = examined(
            chosen[:2] if options.smoke else chosen, rounds=1 if options.smoke else options.rounds
        )
        equal = sum(row.equal for row in rows)
        note = f"{equal} of {len(rows)} equal to the definition in both modes."
        page.table(library, COLUMNS, [row.cells() for row in rows], note)
    page.write(options.out)


if __name__ == "__main__":
    main()
