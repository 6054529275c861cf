"""Runs that take a fraction of a second, and how to compare what they leave."""

import json
from collections.abc import Callable
from pathlib import Path

from selftaught.files.config import RunConfig
from selftaught.training.presets import resolve

STEPS_PER_EPOCH = 5
OPTIONS = {"image_size": 8, "train_size": 40, "batch_size": 8, "epochs": 3, "lr": 0.05}


def config(method: str = "ce", **options) -> RunConfig:
    """Forty 8x8 digits, five steps per epoch, three epochs."""
    return resolve("digits", method, **{**OPTIONS, **options})


def stop_after(steps: int) -> Callable[[], bool]:
    """Says stop when asked for the `steps`-th time, once per optimiser step."""
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked >= steps

    return should_stop


def fingerprint(run: Path) -> dict:
    """Everything of a finished run that must not depend on how often it was interrupted."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((run / "result.json").read_text())
    for timed in (*lines, result):
        del timed["seconds"], timed["images_per_second"]
    del result["digest"], result["sha256"]["metrics.jsonl"]  # of times as well
    files = {name: (run / name).read_bytes() for name in ("model.safetensors", "predictions.safetensors")}
    return {"metrics": lines, "result": result, **files}
