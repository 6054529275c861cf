"""Cells of recipes made of run directories written by hand: the accuracies are asked for, the rest looks real."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from selftaught.files import record
from selftaught.files.config import parse
from selftaught.recipes import Recipe
from selftaught.report.table import CellRuns
from tests.report.factory import scores

CLASSES = ("a", "b", "c")


def write_run(
    parent: Path,
    method: str = "ce",
    seed: int = 0,
    accuracy: float = 90.0,
    images: int = 400,
    held_out: float | None = None,
    settings: Mapping[str, object] | None = None,
    plain: bool = False,
    **changes,
) -> record.Record:
    """A finished run that gets `accuracy` % of its test images right, mostly those that are easy for every method.

    With `plain` its NLL and ECE are numbers that are easily recognised, and do not follow from its predictions.
    """
    values = {"data": "shapes", "data_fingerprint": "f", "model": "resnet8", "method": method, "seed": seed}
    values |= {"settings": dict(settings or {}), "epochs": 4, "batch_size": 8, "lr": 0.1, "momentum": 0.9}
    config = parse(values | {"weight_decay": 0.0} | changes)
    directory = parent / config.trial_id
    directory.mkdir(parents=True, exist_ok=True)
    own = np.random.default_rng([seed, *config.trial_id.encode()]).normal(0, 0.4, images)
    tensors = _predictions(own, accuracy)
    lines = [{"epoch": epoch + 1, "loss": 1.0, "val_accuracy": 0.1, "val_nll": 2.0} for epoch in range(4)]
    if held_out is not None:
        unseen = _predictions(own[::-1], held_out)
        told = {"accuracy": held_out / 100, "nll": 0.3, "ece": 0.07} if plain else scores(**unseen)
        lines[-1] |= {f"val_{name}": value for name, value in told.items()}
        record.write_metrics(directory, lines)
        tensors |= {f"val_{name}": tensor for name, tensor in unseen.items()}
    save_file(tensors, directory / record.PREDICTIONS)
    (directory / record.CONFIG).write_text(config.model_dump_json())
    val = 0 if held_out is None else images
    told = scores(tensors["logits"], tensors["labels"])
    if plain:
        told |= {"nll": 1.5 - told["accuracy"], "ece": 0.05}
    (directory / record.RESULT).write_text(json.dumps(_result(config, told, images, val)))
    return record.Record(directory, config, record.read_result(directory))


def _predictions(own: np.ndarray, accuracy: float) -> dict[str, np.ndarray]:
    """Logits and labels with `accuracy` % right: those that are easy for all, shifted by what is this run's `own`."""
    images = len(own)
    easy = np.random.default_rng(0).normal(0, 1.0, images)
    right = np.zeros(images, bool)
    right[np.argsort(-easy - own)[: round(images * accuracy / 100)]] = True
    labels = np.arange(images) % len(CLASSES)
    logits = np.zeros((images, len(CLASSES)), np.float32)
    logits[np.arange(images), np.where(right, labels, (labels + 1) % len(CLASSES))] = 3.0
    return {"logits": logits, "labels": labels}


def cells(
    recipe: Recipe,
    parent: Path,
    accuracy: Callable[[str, str, int], float],
    trials: int = 3,
    images: int = 400,
    missing: Mapping[tuple[str, str], tuple[str, ...]] = {},
    **changes,
) -> list[CellRuns]:
    """Every cell of a recipe; `accuracy`, on the images that count, is asked for group, variant and seed."""
    made = []
    for group in recipe.groups:
        for variant in recipe.variants:
            if not variant.runs_in(group.label):
                continue
            settings = {
                name: value if isinstance(value, bool | int | float | str) else 0.5
                for name, value in variant.settings_in(group.label).items()
            }
            told = missing.get((group.label, variant.label), ())
            runs = []
            for seed in range(trials - len(told)):
                wanted = accuracy(group.label, variant.label, seed)
                unseen = recipe.judged_on == "held-out"
                judged = {"accuracy": 12.34, "held_out": wanted} if unseen else {"accuracy": wanted}
                own = {"data": group.data, "data_fingerprint": group.data, "model": group.model}
                protocol = variant.protocol.model_dump(exclude_none=True)
                if "warmup" in protocol:
                    settings["warmup"] = round(4 * protocol.pop("warmup"))
                options = own | judged | protocol | changes
                runs.append(
                    write_run(
                        parent, variant.method, seed, images=images, settings=settings, plain=True, **options
                    )
                )
            extra = 1 if variant.method in ("kd", "ban", "dml") else 0
            made.append(CellRuns(group.label, variant.label, tuple(runs), 1.0 + 0.07 * extra, extra, told))
    return made


def _result(config, told, images, val) -> dict:
    data = {"classes": CLASSES, "channels": 1, "image_size": [8, 8], "mean": [0.5], "std": [0.5]}
    return {
        "trial_id": config.trial_id,
        **told,
        "epochs": config.epochs,
        "seconds": 61.5,
        "images_per_second": 800.0,
        "data": data | {"train": 1000, "val": val, "test": images},
        "environment": {"selftaught": "0.1.0", "torch": "2.13.0", "threads": 1},
    }
