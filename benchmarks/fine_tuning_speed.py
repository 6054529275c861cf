"""Photographs per second of fine-tuning a pretrained network: ours beside the loops that people would pick.

    python -m benchmarks.fine_tuning_speed [--timm PYTHON] [--rounds N] [--photographs DIR] [--side S] [--quick]

It needs the packages of `benchmarks.efficientnet_lite0` and a folder of photographs in classes, by default the training
part of ``clothing`` in ``$SELFTAUGHT_DATA``. timm is measured where it can be imported, here or by the interpreter that
--timm names. Eight minutes on two cores, and 18 GiB of memory.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from benchmarks import efficientnet_lite0, harness
from benchmarks.fine_tuning_loops import Job, Process, side_by_side
from selftaught.training.environment import usable_cores

INTRO = """EfficientNet-Lite0 with ImageNet weights, batches of 32, AdamW, float32, the same augmentation (a random part
of at least a quarter of the picture's area, brought to the input's size and mirrored at random), whole epochs, in
turn. Each loop lives in a process of its own, which trains one epoch when it is told to; the first is not counted.

- **ours**: `selftaught train --method ce` with its defaults: batch normalisation's statistics frozen, photographs
  decoded once. **two trials, one thread each**: what `selftaught compare --jobs 2` does; per trial and epoch.
- **Trainer**: transformers' `Trainer` as `run_image_classification.py` sets it up, with PIL in the place of
  torchvision's transforms. **plain loop**: a Dataset with PIL transforms, a DataLoader, `loss.item()` in each step.
  **timm**: its dataset and loader, the step of its `train.py`, with `--channels-last`. Their workers live on between
  epochs. All three train batch normalisation in train mode, as they do by default.

**ratio**: the contestant's time over ours in the same round (median; **low** and **high** are the quartiles): above 1
ours is faster. Not counted: starting the process, and what a run writes at the end of an epoch."""

COLUMNS = ["contestant", "images/s", "ratio", "low", "high"]
PHASE_COLUMNS = ["contestant", "seconds", "ratio", "low", "high"]
STEP_COLUMNS = ["step", "images/s", "ratio", "low", "high"]
BASE = "ours"
TRIALS = "ours, two trials, one thread each"
CLASSES = 10
PROCESS_BYTES = 2 * 2**30
"""What a loop takes at 160 and at 224 pixels between its epochs, rounded up."""


@dataclass(frozen=True)
class Setting:
    """How large the input is, how many photographs make an epoch, with how many threads, in batches of how many."""

    size: int
    count: int
    threads: int
    batch: int = 32

    @property
    def heading(self) -> str:
        return f"{self.size}×{self.size} pixels, {self.threads} threads"


def settings(quick: bool, cores: int) -> list[Setting]:
    """What is measured, the most important first; with all cores and with one."""
    if quick:
        return [Setting(64, 16, cores, 16)]
    both = [Setting(160, 96, cores), Setting(224, 64, cores)]
    return both + ([Setting(160, 64, 1)] if cores > 1 else [])


@dataclass(frozen=True)
class Source:
    """Where photographs come from: a folder with a sub-folder per class, made to have shorter sides of `side`."""

    folder: Path
    side: int | None

    @contextmanager
    def taken(self, count: int) -> Iterator[str]:
        """A folder with `count` of them to train with, of all classes in turn, and as many classes to test with."""
        classes = sorted(folder for folder in self.folder.iterdir() if folder.is_dir())[:CLASSES]
        by_class = [sorted(folder.iterdir()) for folder in classes]
        columns = itertools.zip_longest(*by_class)
        in_turn = [file for column in columns for file in column if file]
        if len(in_turn) < count:
            raise SystemExit(f"{self.folder} has {len(in_turn)} photographs, of which {count} are needed")
        with tempfile.TemporaryDirectory() as folder:
            for part, files in (("train", in_turn[:count]), ("test", in_turn[: len(classes)])):
                for file in files:
                    self._copy(file, Path(folder, part, file.parent.name, f"{file.stem}.jpg"))
            yield folder

    def _copy(self, file: Path, to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        if self.side is None:
            to.write_bytes(file.read_bytes())
            return
        with Image.open(file) as picture:
            factor = self.side / min(picture.size)
            size = [round(factor * length) for length in picture.size]
            picture.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(to, quality=90)


@contextmanager
def started(jobs: Mapping[str, Job], python: Mapping[str, str]) -> Iterator[dict[str, Process]]:
    """Processes for all jobs by name, started at once; `python` has the interpreters of loops that need another."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Process(job, python.get(job.loop, sys.executable)))
            for name, job in jobs.items()
        }


def loops(setting: Setting, folder: str, with_timm: bool) -> dict[str, Job]:
    """Everyone who trains all layers; with one thread, without processes that load pictures."""
    job = partial(Job, folder=folder, size=setting.size, batch=setting.batch, threads=setting.threads)
    jobs = {BASE: job("library")}
    for workers in (0, 2) if setting.threads > 1 else (0,):
        jobs[f"Trainer, {workers} workers"] = job("trainer", workers=workers)
        jobs[f"plain loop, {workers} workers"] = job("plain", workers=workers)
    if with_timm:
        workers = 2 if setting.threads > 1 else 0
        jobs[f"timm, {workers} workers"] = job("timm", workers=workers)
    return jobs


def frozen_loops(setting: Setting, folder: str) -> dict[str, Job]:
    """Everyone who trains the last layer alone."""
    job = partial(Job, folder=folder, size=setting.size, batch=setting.batch, threads=setting.threads)
    return {
        BASE: job("library head"),
        "ours, a further trial": job("library head again"),
        "Trainer, an epoch, 0 workers": job("trainer", frozen=True),
        "plain loop, an epoch, 0 workers": job("plain", frozen=True),
        "plain loop, an epoch, 2 workers": job("plain", frozen=True, workers=2),
    }


def compare(
    setting: Setting, source: Source, python: Mapping[str, str], rounds: int, seconds: float
) -> list[list[Any]]:
    """Everyone's epochs: the rows of a table."""
    with source.taken(setting.count) as folder:
        jobs = loops(setting, folder, "timm" in python)
        cores = usable_cores()
        two = setting.threads == cores == 2
        if two:
            single = Job("library", folder, setting.size, setting.batch, threads=1)
            jobs |= {f"{TRIALS} ({n})": single for n in (1, 2)}
        _check_memory(len(jobs))
        with started(jobs, python) as processes:
            pair = [processes.pop(f"{TRIALS} ({n})") for n in (1, 2)] if two else []
            calls: dict[str, Callable[[], float]] = dict(processes)
            if pair:
                calls[TRIALS] = lambda: side_by_side(pair)
            found = harness.alternate(calls, BASE, rounds, seconds, warm_up=1)
    return [[name, setting.count / of.seconds, of.ratio, of.low, of.high] for name, of in found.items()]


def _check_memory(processes: int) -> None:
    """All of them keep what they have used: SystemExit where that is not there."""
    there, needed = psutil.virtual_memory().available, processes * PROCESS_BYTES
    if there < needed:
        raise SystemExit(
            f"{processes} loops need {needed / 2**30:.0f} GiB of memory, of which {there / 2**30:.1f} are free: "
            "wait until other programs have ended"
        )


def compare_frozen(setting: Setting, source: Source, rounds: int, seconds: float) -> list[list[Any]]:
    """Everyone's frozen phase: the rows of a table."""
    with source.taken(setting.count) as folder, started(frozen_loops(setting, folder), {}) as processes:
        found = harness.alternate(processes, BASE, rounds, seconds, warm_up=1)
    return [[name, of.seconds, of.ratio, of.low, of.high] for name, of in found.items()]


@dataclass(frozen=True)
class Choice:
    """How a step is taken: the layout of the memory, the precision, batch normalisation's statistics."""

    channels_last: bool = True
    bfloat16: bool = False
    frozen: bool = True

    @property
    def name(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        precision = "bfloat16 (autocast)" if self.bfloat16 else "float32"
        return f"{layout}, {precision}, statistics {'frozen' if self.frozen else 'of the batch'}"


CHOICES = [
    Choice(),
    Choice(channels_last=False),
    Choice(bfloat16=True),
    Choice(frozen=False),
    Choice(channels_last=False, frozen=False),
]


def stepping(choice: Choice, setting: Setting) -> Callable[[], None]:
    """A forward pass, a backward pass and an update on a batch that is there."""
    layout = torch.channels_last if choice.channels_last else torch.contiguous_format
    torch.manual_seed(0)
    network = efficientnet_lite0.build(CLASSES).to(memory_format=layout).train()
    if choice.frozen:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
    x = torch.randn(setting.batch, 3, setting.size, setting.size).to(memory_format=layout)
    y = torch.randint(CLASSES, (setting.batch,))

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if choice.bfloat16 else nullcontext():
            loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()

    return step


def compare_choices(setting: Setting, rounds: int, seconds: float) -> list[list[Any]]:
    """A step in each way: the rows of a table."""
    calls = {choice.name: stepping(choice, setting) for choice in CHOICES}
    found = harness.alternate(calls, CHOICES[0].name, rounds, seconds, warm_up=1)
    return [[name, setting.batch / of.seconds, of.ratio, of.low, of.high] for name, of in found.items()]


def interpreters(asked: str | None) -> dict[str, str]:
    """That of timm's loop, where there is one; SystemExit where the one that was asked for cannot import it."""
    python = asked or sys.executable
    done = subprocess.run([python, "-c", "import timm"], capture_output=True, text=True)
    if done.returncode and asked:
        raise SystemExit(f"{asked} cannot import timm: {done.stderr.strip().splitlines()[-1]}")
    return {} if done.returncode else {"timm": python}


def versions(python: str) -> str:
    """Of torch and timm as an interpreter has them."""
    code = "import torch, timm; print(f'timm {timm.__version__} with torch {torch.__version__}')"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure everything and write the page."""
    args = _arguments().parse_args(argv)
    python, cores = interpreters(args.timm), usable_cores()
    source = Source(args.photographs, args.side)
    page = harness.Page("fine_tuning_speed", "Speed of fine-tuning", INTRO)
    rounds = 1 if args.smoke else args.rounds
    kept = "as they lie there" if args.side is None else f"of {args.side} pixels at the shorter side"
    for setting in settings(args.smoke, cores):
        note = f"{setting.count} photographs an epoch, {kept}; {rounds} rounds."
        if "timm" in python:
            note += f" {versions(python['timm'])}; all others with torch {torch.__version__}."
        rows = compare(setting, source, python, rounds, args.seconds)
        page.table(setting.heading, COLUMNS, rows, note)
        page.write(args.out)
    torch.set_num_threads(cores)
    phase = Setting(64, 16, cores, 16) if args.smoke else Setting(160, 192, cores)
    page.table(
        f"The frozen phase: {phase.heading}, {phase.count} photographs",
        PHASE_COLUMNS,
        compare_frozen(phase, source, rounds, args.seconds),
        "ours is all of it: features, computed once, and the logistic regression on them with its strength chosen by "
        "cross-validation. A further trial on the same photographs takes it from the cache. Others pass through the "
        "body in every epoch.",
    )
    page.write(args.out)
    step = Setting(64, 16, cores, 16) if args.smoke else Setting(160, 32, cores)
    page.table(
        f"Ways to take a step: {step.heading}, batch {step.batch}",
        STEP_COLUMNS,
        compare_choices(step, rounds, args.seconds),
        "On a batch that is there. Here the ratio is to the first row, which is the default.",
    )
    page.write(args.out)


def _arguments() -> argparse.ArgumentParser:
    parser = harness.arguments(__doc__, seconds=150)
    parser.add_argument("--quick", dest="smoke", action="store_true", help="the same as --smoke")
    parser.add_argument("--timm", metavar="PYTHON", help="an interpreter that can import timm")
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison (3)")
    usual = Path(os.environ.get("SELFTAUGHT_DATA", ""), "clothing", "train")
    parser.add_argument(
        "--photographs", type=Path, default=usual, help="a folder with a sub-folder per class"
    )
    parser.add_argument(
        "--side", type=int, help="make them larger or smaller first: pixels of the shorter side"
    )
    return parser


if __name__ == "__main__":
    main()
