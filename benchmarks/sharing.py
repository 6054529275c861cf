"""How many trials should share a device: steps per second of several processes together.

python -m benchmarks.sharing [--device cuda] [--precision bf16-mixed] [--seconds S] [--smoke]
"""

import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

import torch

from benchmarks import harness
from benchmarks.throughput import Setting, config_of, pictures, session
from selftaught.files.config import RunConfig
from selftaught.training import seeds
from selftaught.training.environment import usable_cores
from selftaught.training.recording import UNRECORDED

INTRO = """Each process trains a network of its own with plain cross-entropy, one thread each, as the workers of
`selftaught compare --jobs N` do; all of them begin together. Steps are the trainer's, on batches that are there; what
else a trial does (making batches, saving) is not measured. On a GPU processes take turns unless NVIDIA's MPS runs
(`nvidia-cuda-mps-control -d`), which lets their kernels run at the same time.

**gain**: steps per second of all processes over those of one alone."""

COLUMNS = ["processes", "steps/s together", "gain"]
SETTING = Setting("resnet8", "grad-cam", 128, 256, 3, 32, True)
SMOKE = Setting("resnet8", "grad-cam", 8, 16, 3, 8, True)
AT_ONCE = 10
"""Steps between two looks at the clock, which wait for a GPU."""


def counts(cores: int, smoke: bool) -> list[int]:
    """How many processes are tried: doubled up to the number of cores.

    >>> counts(6, smoke=False), counts(6, smoke=True)
    ([1, 2, 4, 6], [1, 2])
    """
    if smoke:
        return [1, 2]
    doubled = [2**power for power in range(cores.bit_length())]
    return sorted({*doubled, cores})


def rate(config: RunConfig, processes: int, seconds: float) -> float:
    """Steps per second of so many processes together."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(processes)]
    workers = [context.Process(target=_work, args=(theirs, config, seconds)) for _, theirs in pipes]
    for worker in workers:
        worker.start()
    for _, theirs in pipes:
        theirs.close()  # so that the end of a worker ends the wait for it
    try:
        for ours, _ in pipes:
            ours.recv()
        for ours, _ in pipes:
            ours.send("go")
        return sum(ours.recv() for ours, _ in pipes)
    finally:
        for worker in workers:
            worker.join()


def _work(connection: Connection, config: RunConfig, seconds: float) -> None:
    with seeds.contained(1):
        trained = session(config)
        x, y = next(trained.batches.epoch(0))
        samples = torch.arange(len(y))

        def steps(count: int) -> None:
            with trained.stepping():
                for _ in range(count):
                    trained.step(x, y, samples)

        steps(UNRECORDED + 2)
        connection.send("ready")
        connection.recv()
        begun, done = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            steps(AT_ONCE)
            done += AT_ONCE
        connection.send(done / (time.perf_counter() - begun))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write the page."""
    parser = harness.arguments(__doc__, seconds=5)
    harness.add_device(parser)
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    args = parser.parse_args(argv)
    wanted, seconds = (SMOKE, 0.2) if args.smoke else (SETTING, args.seconds)
    page = harness.Page(harness.page_name("sharing", args.device), "Trials that share a device", INTRO)
    torch.set_num_threads(1)
    with pictures(wanted) as (data, _):
        config = config_of(wanted, data, "ce", args.device.type, args.precision)
        found = {count: rate(config, count, seconds) for count in counts(usable_cores(), args.smoke)}
    rows = [[count, together, together / found[1]] for count, together in found.items()]
    shared = "MPS" if os.environ.get("CUDA_MPS_PIPE_DIRECTORY") else "no MPS that is known of"
    note = f", {shared}" if args.device.type == "cuda" else ""
    page.table(f"{wanted.heading}, {args.precision}", COLUMNS, rows, f"{seconds:g} seconds each{note}.")
    page.write(args.out)


if __name__ == "__main__":
    main()
