"""Run directories written by hand, with numbers that look like those of real runs."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from safetensors.numpy import save_file
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from selftaught.files import record
from selftaught.files.config import RunConfig, parse
from selftaught.report import columns, page
from selftaught.report.page import About
from selftaught.report.table import Cell, Table, comparison
from selftaught.report.terminal import Terminal
from selftaught.statistics.verdicts import Difference

SETTINGS = {
    "ce": {},
    "ls": {"alpha": 0.9},
    "le": {"alpha": 0.9, "weight": 0.1, "warmup": 2, "saliency": "grad-cam", "similarity": "cosine"},
}
SKILL = {"ce": 1.0, "ls": 1.05, "le": 1.2, "probe": 1.1}
"""How far the true class's logit stands out."""


def names(classes: int) -> tuple[str, ...]:
    """`classes` names."""
    animals = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    return animals if classes == 10 else tuple(f"class {k}" for k in range(classes))


def config(method: str, seed: int, epochs: int = 12, **changes) -> RunConfig:
    """The configuration of a run."""
    values = {
        "data": "shapes",
        "data_fingerprint": "f" * 64,
        "model": "resnet14",
        "method": method,
        "settings": SETTINGS.get(method, {}),
        "seed": seed,
        "epochs": epochs,
        "batch_size": 128,
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
    }
    return parse(values | changes)


def write_run(
    parent: Path,
    method: str = "ce",
    seed: int = 0,
    classes: tuple[str, ...] = names(10),
    images: int = 500,
    val: int = 100,
    size: int = 32,
    channels: int = 3,
    soft_labels: dict[str, float] | None = None,
    sizes: Sequence[int] | None = None,
    told: Mapping[str, object] | None = None,
    **changes,
) -> record.Record:
    """A finished run in `parent`/trial id: all files but the weights; `val=0` holds nothing out.

    `soft_labels` is as in its result; by default it is a record from before that was measured. `sizes` are the test
    images of each class, by default as many of each, and `told` is what else its result says.
    """
    of = config(method, seed, **changes)
    directory = parent / of.trial_id
    directory.mkdir(parents=True)
    rng = np.random.default_rng([seed, *method.encode()])
    images = images if sizes is None else sum(sizes)
    skill = SKILL.get(method, 1.0)
    labels, logits = _predictions(rng, len(classes), images, skill, val=False, sizes=sizes)
    val_labels, val_logits = _predictions(rng, len(classes), max(val, 2), skill, val=True)
    kept = {"logits": logits, "labels": labels}
    kept |= {"val_logits": val_logits, "val_labels": val_labels} if val else {}
    save_file(kept, directory / record.PREDICTIONS)
    save_file(_examples(rng, logits, labels, size, channels), directory / record.EXAMPLES)
    epochs = _epochs(rng, of.epochs, bool(val), nll(logits, labels))
    if val:
        epochs[-1] |= {f"val_{name}": value for name, value in scores(val_logits, val_labels).items()}
    record.write_metrics(directory, epochs)
    temperature = _temperature(val_logits, val_labels) if val else None
    (directory / record.CONFIG).write_text(of.model_dump_json())
    result = _result(of, classes, logits, labels, temperature, val, (size, size), channels)
    result |= ({"soft_labels": soft_labels} if soft_labels else {}) | dict(told or {})
    (directory / record.RESULT).write_text(json.dumps(result))
    return record.read(directory)


def scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What a run would say of these predictions."""
    accuracy = float((logits.argmax(axis=1) == labels).mean())
    return {"accuracy": accuracy, "nll": nll(logits, labels), "ece": ece(logits, labels)}


def by_class(logits: np.ndarray, labels: np.ndarray) -> dict:
    """What it would say of the classes, one after another."""
    predicted, classes = logits.argmax(axis=1), range(logits.shape[1])
    images = [int((labels == k).sum()) for k in classes]
    right = [int(((labels == k) & (predicted == k)).sum()) for k in classes]
    either = [images[k] + int((predicted == k).sum()) for k in classes]
    accuracies = [right[k] / images[k] if images[k] else None for k in classes]
    fifth = np.sort(logits, axis=1)[:, -min(5, len(classes))]
    return {
        "balanced_accuracy": float(np.mean([value for value in accuracies if value is not None])),
        "macro_f1": float(np.mean([2 * right[k] / either[k] for k in classes if either[k]])),
        "top5_accuracy": float((logits[np.arange(len(labels)), labels] >= fifth).mean())
        if len(classes) >= 20
        else None,
        "per_class_accuracy": accuracies,
        "per_class_images": images,
    }


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Nats per image."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def ece(logits: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error, a bin after the other."""
    confidence = np.exp(log_softmax(logits, axis=1)).max(axis=1)
    right = logits.argmax(axis=1) == labels
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(right[bins == b].sum() - confidence[bins == b].sum()) for b in range(15)]
    return float(sum(gaps) / len(labels))


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(minimize_scalar(lambda t: nll(logits / t, labels), bounds=(0.05, 20), method="bounded").x)


def _predictions(
    rng: np.random.Generator,
    classes: int,
    images: int,
    skill: float,
    val: bool,
    sizes: Sequence[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    # The images are the same for every method and seed: their difficulty comes from a generator of its own.
    hard = np.random.default_rng(1 + val)
    labels = np.arange(images) % classes if sizes is None else np.repeat(np.arange(classes), sizes)
    logits = hard.normal(0, 0.9, (images, classes)) + rng.normal(0, 0.7, (images, classes))
    logits[np.arange(images), labels] += skill * (1.5 + np.log(classes) / 2 + 0.5 * np.sin(labels))
    return labels.astype(np.int64), (2.2 * logits).astype(np.float32)


def _epochs(rng: np.random.Generator, epochs: int, val: bool, last: float) -> list[dict]:
    lines = []
    for epoch in range(epochs):
        done = 1 - 0.75 ** (epoch + 1)
        line = {
            "epoch": epoch + 1,
            "lr": 0.1,
            "loss": 2.3 - 1.9 * done,
            "seconds": 1.0,
            "images_per_second": 900.0,
        }
        for part in ("train", "val") if val else ("train",):
            noise = rng.normal(0, 0.02 if part == "val" else 0.006)
            line |= {
                f"{part}_accuracy": 0.1 + 0.75 * done + noise,
                f"{part}_nll": last + 1.5 * (1 - done) - noise,
                f"{part}_ece": 0.03 + 0.05 * done + abs(noise),
            }
        lines.append(line)
    return lines


def _examples(
    rng: np.random.Generator, logits: np.ndarray, labels: np.ndarray, size: int, channels: int
) -> dict[str, np.ndarray]:
    probabilities = np.exp(log_softmax(logits, axis=1))
    order = np.argsort(-probabilities.max(axis=1))
    right = logits.argmax(axis=1) == labels
    index = np.concatenate([order[right[order]][:4], order[~right[order]][:4]])
    kept = np.argsort(-probabilities[index], axis=1)[:, :10]
    y, x = np.mgrid[0:size, 0:size] / size
    phases = rng.uniform(0, 6, (len(index), channels, 1, 1))
    pictures = np.sin(9 * x + phases) * np.cos(7 * y + phases) * 0.5 + 0.5
    my, mx = np.mgrid[0:8, 0:8] / 8
    centre = rng.uniform(0.2, 0.8, (2, *kept.shape, 1, 1))
    maps = np.exp(-8 * ((mx - centre[0]) ** 2 + (my - centre[1]) ** 2)) - 0.3
    maps *= np.take_along_axis(probabilities[index], kept, 1)[..., None, None] - 0.2
    return {
        "images": (255 * pictures).astype(np.uint8),
        "index": index.astype(np.int64),
        "labels": labels[index],
        "probabilities": probabilities[index].astype(np.float32),
        "classes": kept.astype(np.int64),
        "maps": maps.astype(np.float32),
        "similarity": rng.uniform(-1, 1, kept.shape).astype(np.float32),
    }


def _result(
    of: RunConfig,
    classes: tuple[str, ...],
    logits: np.ndarray,
    labels: np.ndarray,
    temperature: float | None,
    val: int,
    size: tuple[int, int],
    channels: int,
) -> dict:
    scaled = None if temperature is None else logits / temperature
    return {
        "trial_id": of.trial_id,
        **scores(logits, labels),
        **by_class(logits, labels),
        "temperature": temperature,
        "nll_scaled": None if scaled is None else nll(scaled, labels),
        "ece_scaled": None if scaled is None else ece(scaled, labels),
        "epochs": of.epochs,
        "seconds": 123.4,
        "images_per_second": 876.5,
        "data": {
            "classes": classes,
            "channels": channels,
            "image_size": size,
            "mean": [0.5] * channels,
            "std": [0.25] * channels,
            "train": 2000,
            "val": val,
            "test": len(labels),
        },
        "environment": {"selftaught": "0.1.0", "torch": "2.13.0", "threads": 1},
    }


def against(row: Cell, base: str = "ce") -> Difference | None:
    """The row's difference to another."""
    return row.compared.get(base)


def headers(table: Table, page: bool = False) -> list[str]:
    """The titles of its columns."""
    return [column.title for column in columns.shown(table, page)]


def texts(row: Cell, table: Table, page: bool = False) -> list[str]:
    """What stands in the columns of a row."""
    return [column.texts[row.group, row.variant][0] for column in columns.shown(table, page)]


def printed(table: Table, width: int = 80) -> str:
    """What a terminal shows."""
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(Terminal(table))
    return console.file.getvalue()


def html(records, methods=None, costs=None, commands=(), notes=()) -> str:
    """The page of a comparison of these records."""
    methods = list(dict.fromkeys(methods or (run.config.method for run in records)))
    about = About(commands=tuple(map(tuple, commands)))
    return page.html([comparison(records, methods, costs or {}, notes)], (), about)
