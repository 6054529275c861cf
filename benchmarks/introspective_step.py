"""What a step of IntrospectiveLoss costs beside a step of plain cross-entropy.

    python benchmarks/introspective_step.py [--model resnet14] [--saliency grad-cam] [--batch-size 128] [--pairs 60]

Plain and introspective steps alternate on fresh batches, each on a model of its own with equal weights, in the
same memory format, so that a slow moment of the machine meets both. Printed: the median step of each and the
median of the ratios of neighbours, with the range that holds the middle half of the ratios.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

from selftaught import IntrospectiveLoss, models


def measure(name: str, saliency: str, batch_size: int, pairs: int, memory_format: torch.memory_format) -> str:
    """One line: memory format, milliseconds of both steps, ratio."""
    size, channels = (28, 1) if name == "mlp" else (32, 3)
    shape = (batch_size, channels, size, size)

    def trainer(introspective: bool):
        torch.manual_seed(0)
        model = models.create(name, 10, channels, size).to(memory_format=memory_format)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        criterion = IntrospectiveLoss(model, saliency=saliency) if introspective else plain(model)

        def step() -> float:
            x = torch.randn(shape).contiguous(memory_format=memory_format)
            y = torch.randint(10, (batch_size,))
            start = time.perf_counter()
            optimizer.zero_grad()
            criterion(x, y).backward()
            optimizer.step()
            return time.perf_counter() - start

        return step

    plain_step, introspective_step = trainer(False), trainer(True)
    for _ in range(3):
        plain_step(), introspective_step()
    times = []
    for pair in range(pairs):
        # Which goes first alternates too: the second finds the caches warm.
        if pair % 2:
            times.append((plain_step(), introspective_step()))
        else:
            times.append((introspective_step(), plain_step())[::-1])
    ratios = [ours / base for base, ours in times]
    low, middle, high = statistics.quantiles(ratios, n=4)
    base, ours = (1e3 * statistics.median(side) for side in zip(*times, strict=True))
    layout = str(memory_format).removeprefix("torch.")
    steps = f"plain {base:7.2f} ms   introspective {ours:7.2f} ms"
    return f"{layout:18} {steps}   ratio {middle:.3f} ({low:.3f} to {high:.3f})"


def plain(model: nn.Module):
    """The criterion that a user would replace."""
    return lambda x, y: F.cross_entropy(model(x), y)


def main() -> None:
    """Measure both memory formats and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet14")
    parser.add_argument("--saliency", default="grad-cam")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=60)
    args = parser.parse_args()
    setting = f"{args.model}, {args.saliency}, batch {args.batch_size}, {torch.get_num_threads()} threads"
    print(f"{setting}, {args.pairs} alternating pairs of steps on fresh batches")
    for memory_format in (torch.contiguous_format, torch.channels_last):
        print(measure(args.model, args.saliency, args.batch_size, args.pairs, memory_format), flush=True)


if __name__ == "__main__":
    main()
