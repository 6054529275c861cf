"""Training images per second, epoch to epoch: the trainer beside a plain PyTorch loop and the floor below both.

python -m benchmarks.throughput [--device cuda] [--seconds S] [--smoke]
"""

import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks import harness
from selftaught import models
from selftaught.data.batches import Batches
from selftaught.files.config import RunConfig
from selftaught.training import seeds
from selftaught.training.loop import Autosave, Position, train_epoch
from selftaught.training.presets import data_of, resolve
from selftaught.training.session import Session, start

INTRO = """Whole epochs on the same random images, in turn in one process: same network, batch size, augmentation,
float32, SGD with momentum, and threads.

- **trainer**: `selftaught.training` as `selftaught train` and `selftaught compare` run it: session, loop, recorded
  metrics. ce is plain cross-entropy, le learns from explanations (second stage, every step explained).
- **plain loop**: a PyTorch loop as people write it: a Dataset that turns arrays in memory into PIL images, crops
  them at random after padding by 4, flips them, and makes normalised tensors of them; a DataLoader with that many
  workers, which live on between epochs; `loss.item()` in each step; contiguous layout. Grey images are not augmented.
- **floor**: forward, backward and (fused) update on batches that are made before, augmentation included; no metrics, no
  `item()`. On a CPU nobody who trains this network with these layers can be faster.

On a GPU the trainer records its steps as CUDA graphs and replays them, and is measured in bfloat16 (autocast) as well;
the plain loop and the floor launch every operation from Python.

**ratio**: the contestant's time for an epoch over that of the trainer with ce in the same round (median; **low** and
**high** are the quartiles): above 1 the trainer is faster. Not counted: starting the process, decoding the images once,
and what a run writes at the end of an epoch, which an epoch of tens of thousands of images does not notice."""

COLUMNS = ["contestant", "images/s", "ratio", "low", "high"]
BASE = "trainer, ce"


@dataclass(frozen=True)
class Setting:
    """What is trained on `count` images of a shape."""

    model: str
    saliency: str
    batch: int
    count: int
    channels: int
    size: int
    augmented: bool

    @property
    def heading(self) -> str:
        shape = f"{self.channels}×{self.size}×{self.size}"
        return f"{self.model}, {self.count} images of {shape}, batch {self.batch}"


def settings(smoke: bool, on_gpu: bool = False) -> list[Setting]:
    """What is measured, in the order of the page; a GPU is done with few images before it can be timed."""
    if smoke:
        return [
            Setting("resnet8", "grad-cam", 8, 24, 3, 8, True),
            Setting("mlp", "grad", 8, 24, 1, 8, False),
        ]
    if on_gpu:
        return [
            Setting("resnet14", "grad-cam", 128, 16384, 3, 32, True),
            Setting("resnet8", "grad-cam", 128, 16384, 3, 32, True),
            Setting("mlp", "grad", 16, 9600, 1, 28, False),
        ]
    return [
        Setting("resnet14", "grad-cam", 128, 1024, 3, 32, True),
        Setting("resnet8", "grad-cam", 128, 2048, 3, 32, True),
        Setting("mlp", "grad", 16, 2400, 1, 28, False),
    ]


@contextmanager
def pictures(setting: Setting) -> Iterator[tuple[str, np.ndarray]]:
    """A folder of PNGs in ten classes, and their pixels (N, H, W, 3) or (N, H, W) in the order of the labels.

    Decoded images are kept in it as well, and go with it.
    """
    shape = (setting.count, setting.size, setting.size, 3)[: 3 + (setting.channels == 3)]
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with tempfile.TemporaryDirectory() as directory, _cached_in(Path(directory, "cache")):
        folder = Path(directory, "pictures")
        for part in ("train", "test"):
            for index, picture in enumerate(pixels if part == "train" else pixels[:20]):
                name = folder / part / f"class{index % 10}" / f"{index:05}.png"
                name.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(name)
        yield str(folder), pixels


@contextmanager
def _cached_in(folder: Path) -> Iterator[None]:
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before


def config_of(
    setting: Setting, data: str, method: str, device: str = "cpu", precision: str = "32-true"
) -> RunConfig:
    """The configuration of `selftaught train DATA --method METHOD ...`."""
    special = {"saliency": setting.saliency, "warmup": 0} if method == "le" else {}
    return resolve(
        data,
        method,
        model=setting.model,
        image_size=setting.size,
        batch_size=setting.batch,
        padding=4 if setting.augmented else 0,
        flip=setting.augmented,
        val_fraction=0.0,
        lr=0.01,
        momentum=0.9,
        weight_decay=1e-4,
        threads=torch.get_num_threads(),
        device=device,
        precision=precision,
        **special,
    )


def trainer(session: Session) -> Callable[[], None]:
    """Epochs of the library's own loop."""
    position = Position()

    def epoch() -> None:
        train_epoch(session, position, lambda: None, lambda: False, Autosave(lambda: None, seconds=30))
        position.next_epoch()

    return epoch


class Pictures(Dataset[tuple[Tensor, int]]):
    """Transforms on the CPU, one image at a time, as torchvision does them."""

    def __init__(
        self, pixels: np.ndarray, config: RunConfig, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.pixels, self.padding, self.flip = pixels, config.padding, config.flip
        self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (mean, std))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.pixels[index])
        if self.padding:
            width, height = image.size
            image = ImageOps.expand(image, self.padding)
            left, top = random.randint(0, 2 * self.padding), random.randint(0, 2 * self.padding)
            image = image.crop((left, top, left + width, top + height))
        if self.flip and random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        array = np.array(image)
        array = array[..., None] if array.ndim == 2 else array
        x = torch.from_numpy(array).permute(2, 0, 1).contiguous().float().div(255)
        return x.sub_(self.mean).div_(self.std), index % 10


def network_of(setting: Setting, layout: torch.memory_format, device: str) -> nn.Module:
    """Another network of the same architecture, ready to learn."""
    network = models.create(setting.model, 10, setting.channels, setting.size)
    return network.to(device, memory_format=layout).train()


def optimizer_of(network: nn.Module, config: RunConfig, fused: bool = False) -> torch.optim.Optimizer:
    """The trainer's SGD; as people write it without `fused`."""
    return torch.optim.SGD(
        network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay, fused=fused
    )


def plain_loop(
    setting: Setting, config: RunConfig, dataset: Dataset[tuple[Tensor, int]], workers: int
) -> Callable[[], None]:
    """Epochs as people write them."""
    network = network_of(setting, torch.contiguous_format, config.device)
    optimizer = optimizer_of(network, config)
    loader = DataLoader(
        dataset,
        setting.batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=config.device == "cuda",
    )

    def epoch() -> None:
        total = 0.0
        for x, y in loader:
            x, y = (tensor.to(config.device, non_blocking=True) for tensor in (x, y))
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()

    return epoch


def floor(
    setting: Setting, config: RunConfig, batches: Batches, layout: torch.memory_format
) -> Callable[[], None]:
    """An epoch of batches that are there."""
    network = network_of(setting, layout, config.device)
    optimizer = optimizer_of(network, config, fused=True)
    made = [(x.contiguous(memory_format=layout), y) for x, y in batches.epoch(0)]

    def epoch() -> None:
        for x, y in made:
            optimizer.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimizer.step()

    return epoch


def contestants(
    setting: Setting, data: str, pixels: np.ndarray, device: torch.device
) -> Mapping[str, Callable[[], object]]:
    """Everyone, by name."""
    on_gpu = device.type == "cuda"
    plain = session(config_of(setting, data, "ce", device.type))
    le = config_of(setting, data, "le", device.type)
    found = {BASE: trainer(plain), f"trainer, le ({setting.saliency})": trainer(session(le))}
    if on_gpu:
        for method in ("ce", "le"):
            half = config_of(setting, data, method, device.type, "bf16-mixed")
            found[f"trainer, {method}, bf16-mixed"] = trainer(session(half))
    dataset = Pictures(pixels, plain.config, plain.images.mean, plain.images.std)
    floors = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    return (
        found
        | {
            f"plain loop, {n} workers": plain_loop(setting, plain.config, dataset, n)
            for n in ((2, 8) if on_gpu else (0, 2))
        }
        | {
            f"floor, {name}": floor(setting, plain.config, plain.batches, layout)
            for name, layout in floors.items()
        }
    )


def session(config: RunConfig) -> Session:
    """What the trainer trains."""
    return start(config, data_of(config))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all settings and write the page."""
    parser = harness.arguments(__doc__, seconds=45)
    harness.add_device(parser)
    args = parser.parse_args(argv)
    page = harness.Page(harness.page_name("throughput", args.device), "Training throughput", INTRO)
    for setting in settings(args.smoke, args.device.type == "cuda"):
        with pictures(setting) as (data, pixels), seeds.contained(torch.get_num_threads()):
            found = harness.alternate(
                contestants(setting, data, pixels, args.device),
                BASE,
                rounds=2 if args.smoke else 12,
                seconds=args.seconds,
                warm_up=1,
            )
        rows = [
            [name, setting.count / timing.seconds, timing.ratio, timing.low, timing.high]
            for name, timing in found.items()
        ]
        page.table(setting.heading, COLUMNS, rows, f"Medians of {found[BASE].rounds} epochs of each.")
        page.write(args.out)


if __name__ == "__main__":
    main()
