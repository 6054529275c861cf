"""How far the maps are from captum's, and how much sooner they are there.

    python -m benchmarks.against_captum [--no-times]

A line per model, saliency, mode and precision: the largest difference over the largest reference value, and the time
of a captum call per class over that of one `explain`. Train mode is compared with captum on a copy in which every
BatchNorm is the affine map that the batch saw.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from tests.oracles.captum_maps import captum_maps, relative_error, with_frozen_statistics
from tests.saliency import architectures
from torch import Tensor, nn

import selftaught
from selftaught import models

SALIENCIES = ["grad-cam", "grad", "grad-input", "guided-backprop"]
PAPER_MODELS = {"mlp": (1, 28), "cnn6": (3, 32), "resnet8": (3, 32)}


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """The median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def compare(model: nn.Module, x: Tensor, saliency: str, mode: str, timed: bool) -> str:
    """One cell: the relative difference and, if timed, how many times faster."""
    model.train(mode == "train")
    found = selftaught.explain(model, x, saliency)
    reference = with_frozen_statistics(model, x) if mode == "train" else model
    layer, tokens = (found.plan.layer, found.plan.channel_dim == -1) if found.plan else (None, False)
    difference = relative_error(found.maps, captum_maps(reference, x, saliency, layer, tokens))
    if not timed:
        return f"{difference:.1e}"
    ours = seconds(lambda: selftaught.explain(model, x, saliency, plan=found.plan))
    theirs = seconds(lambda: captum_maps(reference, x, saliency, layer, tokens))
    return f"{difference:.1e} ({theirs / ours:.1f}×)"


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--no-times", action="store_true")
    timed = not parser.parse_args().no_times
    columns = list(itertools.product(("eval", "train"), (torch.float32, torch.float64)))
    print("| model | saliency | " + " | ".join(f"{mode}, {str(dtype)[6:]}" for mode, dtype in columns) + " |")
    print("| --- | --- | " + "---: | " * len(columns))
    for name in [*PAPER_MODELS, *architectures.NAMES]:
        foreign = name not in PAPER_MODELS
        channels, size = PAPER_MODELS.get(name, (3, 64))
        for saliency in SALIENCIES:
            guided_without_relu = (
                saliency == "guided-backprop" and foreign and name not in architectures.WITH_RELU
            )
            if (name, saliency) == ("mlp", "grad-cam") or guided_without_relu:
                continue
            cells = []
            for mode, dtype in columns:
                if mode == "train" and foreign:
                    cells.append("–")  # dropout and drop-path draw other masks in the copy
                    continue
                torch.manual_seed(0)
                model = architectures.create(name) if foreign else models.create(name, 10, channels, size)
                x = torch.randn(16 if foreign else 64, channels, size, size, dtype=dtype)
                cells.append(compare(model.to(dtype), x, saliency, mode, timed and dtype == torch.float32))
            print(f"| {name} | {saliency} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
