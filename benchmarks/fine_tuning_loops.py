"""Training loops that fine-tune a network on a folder of photographs, each in a process of its own.

A loop trains an epoch whenever it is told to and says how many seconds that took: `Process` starts one, `main` is what
runs in it.
"""

import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Job:
    """What a loop trains.

    Attributes:
        loop: a name in `LOOPS`.
        folder: with `train` and `test`, a sub-folder per class in each.
        size: pixels of a side of the input.
        batch: images per step; the folder has a multiple of it to train with.
        threads: of the process.
        workers: processes that load pictures, for loops that have any.
        frozen: whether only the last layer is trained.
        model: a model file with its function, as `benchmarks.efficientnet_lite0` is one.
    """

    loop: str
    folder: str
    size: int
    batch: int
    threads: int
    workers: int = 0
    frozen: bool = False
    model: str = f"{Path(__file__).with_name('efficientnet_lite0.py')}:build"


MIN_SCALE = 0.25
"""The least share of a picture's area that all loops cut out, the library's default."""

LR = 1e-4


class Turns:
    """A loop's side of the conversation: wait for a turn, take it, say how long it took."""

    def __init__(self, asked: TextIO, said: TextIO) -> None:
        self._asked, self._said = asked, said
        self._begun = 0.0

    def begin(self) -> None:
        """Wait until there is something to do; SystemExit where there is nothing left."""
        if not self._asked.readline():
            raise SystemExit
        self._begun = time.perf_counter()

    def end(self, seconds: float | None = None) -> None:
        """Say how long it took: by the clock since it began, or by the loop's own."""
        taken = time.perf_counter() - self._begun if seconds is None else seconds
        self._said.write(json.dumps(taken) + "\n")
        self._said.flush()


class Process:
    """A loop in a process, to be told to train an epoch; a context manager that ends it.

    Args:
        job: what it trains.
        python: the interpreter.
    """

    def __init__(self, job: Job, python: str = sys.executable) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed at the end)
        paths = [str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {"OMP_NUM_THREADS": str(job.threads), "PYTHONPATH": os.pathsep.join(paths)}
        self._child = subprocess.Popen(
            [python, "-m", "benchmarks.fine_tuning_loops", json.dumps(asdict(job))],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def ask(self) -> None:
        """Let it begin an epoch; RuntimeError with its last words where it has ended."""
        assert self._child.stdin
        try:
            self._child.stdin.write("\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def answer(self) -> float:
        """The seconds of the epoch that was begun; RuntimeError likewise."""
        assert self._child.stdout
        line = self._child.stdout.readline()
        if not line:
            raise self._failed()
        return float(json.loads(line))

    def __call__(self) -> float:
        """An epoch's seconds."""
        self.ask()
        return self.answer()

    def _failed(self) -> RuntimeError:
        self._child.wait()
        self._errors.seek(0)
        return RuntimeError((self._errors.read().strip().splitlines() or ["a loop was killed"])[-1])

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child.stdin
        assert self._child.stdout
        with suppress(BrokenPipeError):
            self._child.stdin.close()
        try:
            self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()
        self._errors.close()


def side_by_side(processes: Sequence[Process]) -> float:
    """Seconds of an epoch of one of several loops that train at once: those of the slowest, divided among all."""
    for process in processes:
        process.ask()
    return max([process.answer() for process in processes]) / len(processes)


def library(job: Job, turns: Turns) -> None:
    """`selftaught train` with its defaults: the seconds of its epochs as it records them."""
    from selftaught.events import Progress
    from selftaught.training.run import train

    last = 0.0

    def next_turn(progress: Progress) -> None:
        nonlocal last
        if progress.metrics:
            turns.end(progress.metrics["seconds"] - last)
            last = progress.metrics["seconds"]
            turns.begin()

    with tempfile.TemporaryDirectory() as folder:
        config = _configured(job)
        turns.begin()
        train(config, Path(folder, "run"), next_turn)


def library_head(job: Job, turns: Turns) -> None:
    """The library's frozen phase, from the photographs to the head, with nothing kept from before."""
    _heads(job, turns, kept=False)


def library_head_again(job: Job, turns: Turns) -> None:
    """The same in a further trial on the same photographs."""
    _heads(job, turns, kept=True)


def _heads(job: Job, turns: Turns, kept: bool) -> None:
    from selftaught.training import head
    from selftaught.training.presets import data_of
    from selftaught.training.session import start

    config = _configured(job)
    session = start(config, data_of(config))
    with tempfile.TemporaryDirectory() as cache:
        if kept:
            os.environ["XDG_CACHE_HOME"] = cache
            head.fit(session)
        while True:
            if not kept:
                os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(dir=cache)
            turns.begin()
            head.fit(session)
            turns.end()


def _configured(job: Job) -> Any:
    from selftaught.training.presets import resolve

    # More epochs than are asked for.
    given = {"epochs": 10_000, "val_fraction": 0.0, "batch_size": job.batch, "min_scale": MIN_SCALE}
    return resolve(
        job.folder, "ce", model=job.model, image_size=job.size, threads=job.threads, device="cpu", **given
    )


def plain(job: Job, turns: Turns) -> None:
    """A PyTorch loop as people write it."""
    network, mean, std = _network(job)
    dataset = Photographs(job, mean, std)
    loader = DataLoader(
        dataset, job.batch, shuffle=True, num_workers=job.workers, persistent_workers=job.workers > 0
    )
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], LR)
    network.train()
    while True:
        turns.begin()
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            optimizer.step()
            loss.item()
        turns.end()


def trainer(job: Job, turns: Turns) -> None:
    """transformers' Trainer as `run_image_classification.py` sets it up, with PIL in torchvision's place."""
    from datasets import load_dataset
    from transformers import Trainer, TrainerCallback, TrainingArguments

    network, mean, std = _network(job)

    class WithLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.network(pixel_values)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    class Turn(TrainerCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            turns.begin()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            turns.end()

    def prepare(examples: dict[str, Any]) -> dict[str, Any]:
        images = [
            as_tensor(augmented(image.convert("RGB"), job.size), mean, std) for image in examples["image"]
        ]
        return {"pixel_values": images, "label": examples["label"]}

    def collate(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        labels = torch.tensor([example["label"] for example in examples])
        return {"pixel_values": torch.stack([e["pixel_values"] for e in examples]), "labels": labels}

    with tempfile.TemporaryDirectory() as folder:
        data = load_dataset(
            "imagefolder", data_files={"train": f"{job.folder}/train/**"}, cache_dir=folder, split="train"
        )
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=job.batch,
            learning_rate=LR,
            num_train_epochs=10_000,
            dataloader_num_workers=job.workers,
            dataloader_persistent_workers=job.workers > 0,
            remove_unused_columns=False,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        data.set_transform(prepare)
        Trainer(WithLoss(), arguments, collate, data, callbacks=[Turn()]).train()


def timm(job: Job, turns: Turns) -> None:
    """timm's loader and the step of its `train.py`, with --channels-last and without what the others do not do."""
    from timm.data import create_dataset, create_loader
    from timm.optim import create_optimizer_v2
    from timm.utils import AverageMeter

    network, mean, std = _network(job)
    network = network.to(memory_format=torch.channels_last)
    loader = create_loader(
        create_dataset("", root=f"{job.folder}/train"),
        (3, job.size, job.size),
        job.batch,
        is_training=True,
        scale=(MIN_SCALE, 1.0),
        color_jitter=0.0,
        mean=mean,
        std=std,
        num_workers=job.workers,
        device=torch.device("cpu"),
    )
    optimizer = create_optimizer_v2(network, opt="adamw", lr=LR, weight_decay=0.01)
    losses = AverageMeter()
    network.train()
    while True:
        turns.begin()
        for x, y in loader:
            x = x.contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.update(loss.item(), len(x))
        turns.end()


def _network(job: Job) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """The model file's network with its mean and standard deviation, as the loops of others use it."""
    path, _, function = job.model.rpartition(":")
    names: dict[str, Any] = {"__file__": path, "__name__": "model_file"}
    exec(compile(Path(path).read_bytes(), path, "exec"), names)
    classes = sum(folder.is_dir() for folder in Path(job.folder, "train").iterdir())
    torch.manual_seed(0)
    network = names[function](num_classes=classes)
    if job.frozen:
        network.requires_grad_(False)
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        last.requires_grad_(True)
    return network, names["PREPARATION"].mean, names["PREPARATION"].std


class Photographs(Dataset[tuple[Tensor, int]]):
    """The training pictures of a folder, decoded and augmented as torchvision does it whenever they are asked for."""

    def __init__(self, job: Job, mean: Sequence[float], std: Sequence[float]) -> None:
        folders = sorted(Path(job.folder, "train").iterdir())
        self.files = [
            (file, label) for label, folder in enumerate(folders) for file in sorted(folder.iterdir())
        ]
        self.size, self.mean, self.std = job.size, mean, std

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file, label = self.files[index]
        with Image.open(file) as picture:
            return as_tensor(augmented(picture.convert("RGB"), self.size), self.mean, self.std), label


def augmented(picture: Image.Image, size: int) -> Image.Image:
    """torchvision's RandomResizedCrop and RandomHorizontalFlip."""
    picture = picture.crop(_box(*picture.size)).resize((size, size), Image.Resampling.BILINEAR)
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else picture


def _box(width: int, height: int) -> tuple[int, int, int, int]:
    for _ in range(10):
        area = width * height * random.uniform(MIN_SCALE, 1.0)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def as_tensor(picture: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """torchvision's ToTensor and Normalize."""
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255)
    return x.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None])


LOOPS: dict[str, Callable[[Job, Turns], None]] = {
    "library": library,
    "library head": library_head,
    "library head again": library_head_again,
    "plain": plain,
    "trainer": trainer,
    "timm": timm,
}


def main(job: Job) -> None:
    """Take turns, over stdin and stdout, until stdin is closed."""
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what else is printed is not an answer
    torch.set_num_threads(job.threads)
    LOOPS[job.loop](job, Turns(sys.stdin, said))


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
