"""Grad-CAM's similarities for the heads that people use: the form that is found beside a backward pass per class.

python -m benchmarks.heads [--device cuda] [--seconds S] [--smoke]
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks import harness
from selftaught import similarity
from selftaught.saliency import Explainer

INTRO = """What a batch's forward pass and its similarities (Grad-CAM's maps of all classes, cosine to the true class's)
take, behind a trunk that costs next to nothing: 512 channels of 7×7 positions, random weights, float32. Both make the
same similarities, which are compared first, and take turns in one process.

- **form**: the one that is found (`plan.head`), with its check on the batch. **general**: a backward pass of the head
  for each class, what was done before for all heads but the linear one. **plain**: the forward pass alone.
- **ratio**: the general form's time over the found one's in the same round (median; **low**, **high**: quartiles)."""

COLUMNS = ["head", "form", "batch", "plain ms", "form ms", "general ms", "ratio", "low", "high", "difference"]


def heads(channels: int, classes: int) -> dict[str, list[nn.Module]]:
    """What follows pooling."""
    return {
        "Linear": [nn.Linear(channels, classes)],
        "LayerNorm, Linear": [nn.LayerNorm(channels), nn.Linear(channels, classes)],
        "Linear, GELU, Linear": [nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, classes)],
    }


def measure(
    name: str,
    layers: list[nn.Module],
    channels: int,
    size: int,
    batch: int,
    rounds: int,
    seconds: float,
    device: torch.device,
) -> list[object]:
    """A row."""
    torch.manual_seed(0)
    trunk = [nn.Conv2d(8, channels, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*trunk, *layers).to(device)
    classes = layers[-1].out_features
    x, y = torch.randn(batch, 8, size, size, device=device), torch.randint(classes, (batch,), device=device)
    found = Explainer()
    expected = found.compare(model, x, y, similarity.cosine)[1]
    assert found.plan is not None
    general = Explainer(plan=replace(found.plan, head="general"))
    difference = float((general.compare(model, x, y, similarity.cosine)[1] - expected).abs().max())
    assert difference < 1e-3, f"{name}: similarities differ by {difference:.1e}"

    def comparing(explainer: Explainer) -> Callable[[], float]:
        def call() -> Tensor:
            return explainer.compare(model, x, y, similarity.cosine)[1]

        return lambda: harness.timed(call)

    calls = {
        "form": comparing(found),
        "general": comparing(general),
        "plain": lambda: harness.timed(lambda: model(x)),
    }
    timings = harness.alternate(calls, "form", rounds, seconds)
    times = [1e3 * timings[contestant].seconds for contestant in ("plain", "form", "general")]
    slow = timings["general"]
    return [name, found.plan.head, batch, *times, slow.ratio, slow.low, slow.high, f"{difference:.0e}"]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all heads and write the page."""
    parser = harness.arguments(__doc__, seconds=40)
    harness.add_device(parser)
    args = parser.parse_args(argv)
    channels, size, batch, rounds = (16, 3, 4, 2) if args.smoke else (512, 7, 64, 9)
    page = harness.Page(
        harness.page_name("heads", args.device), "Grad-CAM behind the heads that people use", INTRO
    )
    for classes in (5, 20) if args.smoke else (10, 1000):
        rows = [
            measure(name, layers, channels, size, batch, rounds, args.seconds, args.device)
            for name, layers in heads(channels, classes).items()
        ]
        page.table(f"{classes} classes", COLUMNS, rows)
        page.write(args.out)


if __name__ == "__main__":
    main()
