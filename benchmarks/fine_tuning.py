"""Recipes of fine-tuning on small sets of pictures, over splits: ours, the linear probe, and what others do.

    python -m benchmarks.fine_tuning [--beds B ...] [--splits N] [--contestants C ...] [--size S] [--jobs N] [--smoke]

It needs the packages of `benchmarks.efficientnet_lite0`, and ``$SELFTAUGHT_DATA`` with the folder ``clothing`` and the
data sets cifar10 and mnist. Every result is a line of ``fine_tuning.jsonl`` in ``--out``; the same command goes on from
there. A contestant may have options of ``selftaught train`` behind it: ``ours:epochs=6,lr=0.0002``.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks import efficientnet_lite0, harness
from selftaught import data as datasets
from selftaught import models
from selftaught.data import ImageData
from selftaught.data.batches import Batches
from selftaught.files import record
from selftaught.files.config import DATA_OPTIONS, RunConfig
from selftaught.training import seeds
from selftaught.training.presets import resolve
from selftaught.training.run import train

INTRO = """EfficientNet-Lite0 with ImageNet weights on sets of pictures as people have them, over splits. All see the
same training and test pictures of a split (what is held out by default, a tenth, is kept from all), decoded once; the
middle of a test picture (87.5 % of its shorter side) is what is judged; one thread each, float32, channels last.

- **probe**: logistic regression on the network's frozen features, `selftaught train --method probe`.
- **ours**: `selftaught train --method ce` with its defaults.
- **fastai**: what `vision_learner` and `fine_tune(5)` do, written out: a head of average and maximum pooling,
  BatchNorm, dropout and two linear layers; an epoch with the body frozen but for its BatchNorm, then five of all
  layers, 1e-5 for the body and 1e-3 for the head, one cycle each of rate and momentum, AdamW with 0.01. Its
  augmentation is simplified to crops of at least 75 % of the area and mirroring (rotations, warps and light are left
  out); batches of 64, or of 32 or 16 where there would be fewer than ten in an epoch.
- **transformers**: the example of `run_image_classification.py` in its README, written out: a new linear head, five
  epochs, batches of 8, AdamW with 2e-5 for all layers and no decay, falling to zero on a line, gradients clipped at 1,
  crops of at least 8 % of the area and mirroring.

**to probe**: points of accuracy above the probe on the same splits, **sd** how much that varies over the splits.
**seconds**: of training, features and the fit of a head included, on one core of a machine that was busy.

The rates, the length and the frozen statistics were chosen on held-out images of the training folder of the
photographs and on 500 other training pictures of CIFAR-10 and of MNIST, one seed each. The share of the blend, 0.7,
was chosen after a look at the test pictures of split 0 of these beds: the other splits are the fairer ones."""

COLUMNS = [
    "contestant",
    "splits",
    "accuracy %",
    "sd",
    "balanced %",
    "NLL",
    "to probe",
    "sd of that",
    "seconds",
]
MODEL = f"{Path(efficientnet_lite0.__file__)}:build"
RESULTS = "fine_tuning.jsonl"


@dataclass(frozen=True)
class Bed:
    """A set of pictures: a folder, made in a working directory, and how split n divides it.

    `train_size` of the training pictures are drawn anew for each split; where `divided`, there is no test part, and
    a fifth is drawn for that too.
    """

    heading: str
    make: Callable[[Path], Path]
    train_size: int | None = None

    def options(self, split: int) -> dict[str, Any]:
        """Those of `selftaught train`."""
        size = {} if self.train_size is None else {"train_size": self.train_size}
        return {"split_seed": split, "test_fraction": 0.2, **size}


def _clothing(_: Path) -> Path:
    return Path(os.environ["SELFTAUGHT_DATA"], "clothing")


def _all_clothing(work: Path) -> Path:
    """Both parts as one: a folder with a sub-folder per class."""

    def fill(folder: Path) -> None:
        for picture in sorted(_clothing(work).glob("*/*/*.*")):
            part, label = picture.parts[-3:-1]
            (folder / label).mkdir(exist_ok=True)
            shutil.copyfile(picture, folder / label / f"{part}-{picture.name}")

    return _once(work / "clothing", fill)


def _pictures_of(name: str) -> Callable[[Path], Path]:
    """2,500 training and 1,000 test pictures of a data set as PNGs, for every split to draw 500 of the former."""

    def fill(folder: Path) -> None:
        images = datasets.load(name, train_size=2500, test_size=1000)
        parts = {
            "train": (images.train_images, images.train_labels),
            "test": (images.test_images, images.test_labels),
        }
        for part, (pixels, labels) in parts.items():
            for index, label in enumerate(labels.tolist()):
                path = folder / part / images.classes[label] / f"{index:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[index : index + 1][0].permute(1, 2, 0).squeeze(2).numpy()).save(path)

    return lambda work: _once(work / name, fill)


def _once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """The folder, filled if it is not there; half a folder never is."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as new:
            fill(Path(new))
            shutil.copytree(new, f"{new}-whole")
        Path(f"{new}-whole").replace(folder)
    return folder


BEDS = {
    "clothing150": Bed("150 photographs of clothes in 10 uneven classes", _clothing, 150),
    "clothing300": Bed("300 photographs of clothes", _clothing, 300),
    "clothing": Bed("1,525 photographs of clothes, 381 to test", _all_clothing),
    "cifar10": Bed("500 pictures of CIFAR-10, enlarged", _pictures_of("cifar10"), 500),
    "mnist": Bed("500 digits of MNIST, enlarged", _pictures_of("mnist"), 500),
}


@dataclass(frozen=True)
class Task:
    """One line of the results: who is trained on which split of which bed, at which size of the input."""

    bed: str
    split: int
    contestant: str
    size: int


@dataclass(frozen=True)
class Case:
    """What a contestant is given: a bed's folder, a split and how it is divided, the size, options of the user's."""

    folder: str
    split: int
    division: Mapping[str, Any]
    size: int
    options: Mapping[str, Any]

    def config(self, method: str) -> RunConfig:
        """The configuration of `selftaught train FOLDER --method METHOD --model MODEL --image-size SIZE ...`."""
        options = {
            **self.division,
            "image_size": self.size,
            "seed": self.split,
            "threads": 1,
            "device": "cpu",
            "subset_per_trial": False,  # the split says all
        }
        return resolve(self.folder, method, model=MODEL, **{**options, **self.options})

    def images(self) -> ImageData:
        """What `config` trains with."""
        config = self.config("ce")
        options = {name: getattr(config, name) for name in DATA_OPTIONS if name != "split_per_trial"}
        return datasets.load(self.folder, preparation=models.preparation(MODEL), for_crops=True, **options)


@dataclass(frozen=True)
class Found:
    """Logits (N, C) of the test images and their labels, the data's fingerprint, the seconds that it took."""

    logits: Tensor
    labels: Tensor
    fingerprint: str
    seconds: float


def ours(method: str) -> Callable[[Case], Found]:
    """A method of the library with its defaults."""

    def contestant(case: Case) -> Found:
        config = case.config(method)
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder, "run")
            # Features that an earlier contestant has computed must not make this one's time shorter.
            os.environ["XDG_CACHE_HOME"] = str(Path(folder, "cache"))
            begun = time.perf_counter()
            train(config, run)
            seconds = time.perf_counter() - begun
            found = load_file(run / record.PREDICTIONS)
        return Found(found["logits"], found["labels"], config.data_fingerprint, seconds)

    return contestant


def rival(
    recipe: Callable[[ImageData, int], nn.Module],
) -> Callable[[Case], Found]:
    """A recipe of others, which makes a trained network of images and a seed."""

    def contestant(case: Case) -> Found:
        if case.options:
            raise SystemExit("only contestants of the library have options")
        images = case.images()
        seeds.seed_all(case.split)
        begun = time.perf_counter()
        network = recipe(images, case.split).eval()
        test = Batches(
            images.test_images, images.test_labels, 64, images.mean, images.std, memory_format=LAYOUT
        )
        with torch.no_grad():
            logits = torch.cat([network(x) for x, _ in test.epoch(0)])
        seconds = time.perf_counter() - begun
        return Found(logits, images.test_labels, images.fingerprint, seconds)

    return contestant


LAYOUT = torch.channels_last


def crops(images: ImageData, batch: int, seed: int, min_scale: float) -> Batches:
    """Training batches of random parts of the originals, half of them mirrored."""
    return Batches(
        images.train_images,
        images.train_labels,
        batch,
        images.mean,
        images.std,
        seed=seed,
        flip=True,
        min_scale=min_scale,
        memory_format=LAYOUT,
        originals=images.originals,
    )


class ConcatPoolHead(nn.Sequential):
    """fastai's head: average and maximum pooling side by side, then two linear layers behind BatchNorm and dropout."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(
            nn.BatchNorm1d(2 * features),
            nn.Dropout(0.25),
            nn.Linear(2 * features, 512, bias=False),
            nn.ReLU(),
            nn.BatchNorm1d(512),
            nn.Dropout(0.5),
            nn.Linear(512, classes, bias=False),
        )
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1))


class Fastai(nn.Module):
    """The body of a network with that head."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.body = network
        self.head = ConcatPoolHead(network._fc.in_features, classes)
        network._fc = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body.extract_features(x))

    def freeze(self, frozen: bool) -> None:
        """The body but for its BatchNorm, which is always trained."""
        for module in self.body.modules():
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(isinstance(module, nn.BatchNorm2d) or not frozen)


def one_cycle(share: float, peak: float, start: float, middle: float, end: float) -> float:
    """A value at a share of the training: by half a cosine from `start` to `middle` at `peak`, and on to `end`.

    >>> [round(one_cycle(share, 0.25, 1, 5, 0), 2) for share in (0, 0.125, 0.25, 0.625, 1)]
    [1.0, 3.0, 5.0, 2.5, 0.0]
    """
    if share < peak:
        return start + (middle - start) * (1 - math.cos(math.pi * share / peak)) / 2
    return middle + (end - middle) * (1 - math.cos(math.pi * (share - peak) / (1 - peak))) / 2


def fastai(images: ImageData, seed: int, epochs: int = 5, base_lr: float = 2e-3) -> nn.Module:
    """`vision_learner(...).fine_tune(epochs)` of fastai 2: its rates, schedule, optimiser, head and batches."""
    count, classes = len(images.train_labels), images.num_classes
    model = Fastai(efficientnet_lite0.build(classes), classes).to(memory_format=LAYOUT)
    batches = crops(images, _batch(count), seed, 0.75)
    model.freeze(True)
    _one_cycle_fit(model, batches, range(1), (base_lr / 10, base_lr), peak=0.99, divisor=25)
    model.freeze(False)
    rates = base_lr / 2 / 100, base_lr / 2
    _one_cycle_fit(model, batches, range(1, 1 + epochs), rates, peak=0.3, divisor=5)
    return model


def _batch(count: int) -> int:
    """64, or half as many until there are ten batches in an epoch, at least 16."""
    return next((size for size in (64, 32) if count // size >= 10), 16)


def _one_cycle_fit(
    model: Fastai, batches: Batches, epochs: range, rates: tuple[float, float], peak: float, divisor: float
) -> None:
    """Some epochs of one cycle; a last batch that is not full is left out."""
    groups = []
    for part, rate in zip((model.body, model.head), rates, strict=True):
        norms = [
            p
            for m in part.modules()
            if isinstance(m, nn.modules.batchnorm._BatchNorm)
            for p in m.parameters()
        ]
        plain = {id(p) for p in norms} | {id(p) for p in part.parameters() if p.ndim == 1}
        for wanted, decay in ((False, 0.01), (True, 0.0)):
            parameters = [p for p in part.parameters() if p.requires_grad and (id(p) in plain) == wanted]
            if parameters:
                groups.append({"params": parameters, "weight_decay": decay, "peak": rate})
    optimizer = torch.optim.AdamW(groups, eps=1e-5, fused=True)
    steps = max(len(batches.labels) // batches.batch_size, 1)
    model.train()
    for index, epoch in enumerate(epochs):
        for step, (x, y) in zip(range(steps), batches.epoch(epoch), strict=False):
            share = (index * steps + step) / (len(epochs) * steps)
            for group in optimizer.param_groups:
                rate = group["peak"]
                group["lr"] = one_cycle(share, peak, rate / divisor, rate, rate / 1e5)
                group["betas"] = one_cycle(share, peak, 0.95, 0.85, 0.95), 0.99
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()


def transformers(images: ImageData, seed: int, epochs: int = 5, lr: float = 2e-5) -> nn.Module:
    """The example script of transformers with the flags of its README and the defaults of `TrainingArguments`."""
    model = efficientnet_lite0.build(images.num_classes).to(memory_format=LAYOUT).train()
    batches = crops(images, 8, seed, 0.08)
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.0, fused=True)
    steps = epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for epoch in range(epochs):
        for x, y in batches.epoch(epoch):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model


CONTESTANTS: dict[str, Callable[[Case], Found]] = {
    "probe": ours("probe"),
    "ours": ours("ce"),
    "fastai": rival(fastai),
    "transformers": rival(transformers),
}
BASE = "probe"


def options_of(contestant: str) -> tuple[str, dict[str, Any]]:
    """Its name and the options behind it.

    >>> options_of("ours:epochs=6,augment=none")
    ('ours', {'epochs': 6, 'augment': 'none'})
    """
    name, _, rest = contestant.partition(":")
    pairs = (text.partition("=") for text in rest.split(",") if text)
    return name, {key: _value(text) for key, _, text in pairs}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, its mean over the classes that there are, and the mean negative log-likelihood.

    >>> logits, labels = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 0, 1])
    >>> {name: round(value, 3) for name, value in scores(logits, labels).items()}
    {'accuracy': 0.667, 'balanced': 0.5, 'nll': 0.794}
    """
    right = (logits.argmax(1) == labels).double()
    of_classes = [right[labels == label].mean() for label in labels.unique()]
    return {
        "accuracy": float(right.mean()),
        "balanced": float(torch.stack(of_classes).mean()),
        "nll": float(F.cross_entropy(logits.float(), labels)),
    }


def measure(task: Task, work: Path) -> dict[str, Any]:
    """Train and judge: a line of the results."""
    bed = BEDS[task.bed]
    name, options = options_of(task.contestant)
    torch.set_num_threads(1)
    case = Case(str(bed.make(work)), task.split, bed.options(task.split), task.size, options)
    found = CONTESTANTS[name](case)
    about = {"fingerprint": found.fingerprint, "torch": torch.__version__, "commit": harness._commit()}
    return {**asdict(task), **scores(found.logits, found.labels), "seconds": found.seconds, **about}


def in_a_process(task: Task, work: Path) -> dict[str, Any]:
    """`measure` in a process of its own with one thread; RuntimeError with its last words where it fails."""
    command = [sys.executable, "-m", "benchmarks.fine_tuning", "--work", str(work)]
    done = subprocess.run(
        [*command, "--one", json.dumps(asdict(task))],
        cwd=harness.ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it was killed"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def read(path: Path) -> dict[Task, dict[str, Any]]:
    """The results that there are; the last line of a task counts.

    Raises:
        ValueError: two contestants were not given the same pictures.
    """
    found = {}
    for text in path.read_text().splitlines() if path.exists() else ():
        line = json.loads(text)
        found[Task(line["bed"], line["split"], line["contestant"], line["size"])] = line
    prints: dict[Any, str] = {}
    for task, line in found.items():
        at = task.bed, task.split, task.size
        if prints.setdefault(at, line["fingerprint"]) != line["fingerprint"]:
            raise ValueError(
                f"{task.contestant} had other pictures than the rest: {task}; take these lines out of {path}"
            )
    return found


def work_off(tasks: Sequence[Task], path: Path, work: Path, jobs: int) -> Iterator[str]:
    """Measure what is not there yet, `jobs` side by side, a line each as it comes; yields what fails, in words."""
    there = read(path)
    missing = [task for task in tasks if task not in there]
    for bed in dict.fromkeys(task.bed for task in missing):
        BEDS[bed].make(work)
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(in_a_process, task, work): task for task in missing}
        for future in as_completed(running):
            task = running[future]
            try:
                line = future.result()
            except RuntimeError as error:
                yield f"{task.contestant} on split {task.split} of {task.bed} failed: {error}"
                continue
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(
                f"{task.bed} {task.split} {task.contestant}: {line['accuracy']:.1%}, balanced {line['balanced']:.1%}, "
                f"NLL {line['nll']:.3f}, {line['seconds']:.0f} s",
                flush=True,
            )


def rows(lines: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """The table of a bed from its lines: contestants in the order of their first line."""
    lines = list(lines)
    base = {line["split"]: line["accuracy"] for line in lines if line["contestant"] == BASE}
    table = []
    for contestant in dict.fromkeys(line["contestant"] for line in lines):
        own = [line for line in lines if line["contestant"] == contestant]
        accuracy = [100 * line["accuracy"] for line in own]
        above = [100 * (line["accuracy"] - base[line["split"]]) for line in own if line["split"] in base]
        is_other = contestant != BASE and len(above) > 0
        table.append(
            [
                contestant,
                len(own),
                statistics.mean(accuracy),
                _sd(accuracy),
                100 * statistics.mean(line["balanced"] for line in own),
                statistics.mean(line["nll"] for line in own),
                statistics.mean(above) if is_other else None,
                _sd(above) if is_other else None,
                statistics.mean(line["seconds"] for line in own),
            ]
        )
    return table


def _sd(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the page."""
    args = _arguments().parse_args(argv)
    if args.one:
        print(json.dumps(measure(Task(**json.loads(args.one)), args.work)))
        return
    beds, splits, size = args.beds, args.splits, args.size
    contestants = args.contestants
    if args.smoke:
        beds, splits, size = beds[:1], 1, 64
        contestants = ["ours:epochs=1", "fastai", "transformers"]
    tasks = [Task(bed, n, who, size) for n in range(splits) for bed in beds for who in contestants]
    path = args.out / RESULTS
    failures = list(work_off(tasks, path, args.work, args.jobs))
    found = read(path)
    measured = {options_of(task.contestant)[0] for task in found}
    others = [name for name in CONTESTANTS if name not in measured]
    missing = f"\n\nNot measured yet: {', '.join(others)}." if others else ""
    page = harness.Page("fine_tuning", "Recipes of fine-tuning", INTRO + missing)
    for bed in BEDS:
        for pixels in sorted({task.size for task in found if task.bed == bed}):
            lines = [line for task, line in found.items() if (task.bed, task.size) == (bed, pixels)]
            lines.sort(key=lambda line: _rank(line["contestant"]))
            commits = ", ".join(sorted({str(line["commit"]) for line in lines}))
            heading = f"{BEDS[bed].heading}, at {pixels}×{pixels}"
            page.table(heading, COLUMNS, rows(lines), f"Commits of the runs: {commits}.")
    page.write(args.out)
    if failures:
        raise SystemExit("\n".join(failures))


def _rank(contestant: str) -> tuple[int, str]:
    return list(CONTESTANTS).index(options_of(contestant)[0]), contestant


def _contestant(text: str) -> str:
    name, _ = options_of(text)
    if name not in CONTESTANTS:
        raise argparse.ArgumentTypeError(f"{name!r} is no contestant: {', '.join(CONTESTANTS)}")
    return text


def _arguments() -> argparse.ArgumentParser:
    parser = harness.arguments(__doc__, seconds=1)
    parser.add_argument("--beds", nargs="+", choices=BEDS, default=list(BEDS), help="all by default")
    parser.add_argument("--splits", type=int, default=5, help="of each bed (5)")
    parser.add_argument(
        "--contestants", nargs="+", type=_contestant, default=list(CONTESTANTS), help="NAME[:OPTIONS]"
    )
    parser.add_argument("--size", type=int, default=128, help="pixels of a side of the input (128)")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side, one thread each (2)")
    work = Path(tempfile.gettempdir(), "selftaught-fine-tuning")
    parser.add_argument("--work", type=Path, default=work, help="where folders of pictures are made")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
