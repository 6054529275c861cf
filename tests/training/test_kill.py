"""Runs killed with SIGKILL, the whole process group, at any moment: they go on and end with the same bytes."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from selftaught.files import record
from selftaught.files.config import RunConfig
from selftaught.training.run import train
from tests.training import quick

VARIANTS = {
    "amortised": ("le", {"refresh": 0.3, "flip": True, "warmup": 1}),
    "streamed": ("le-uniform", {"augment": "photo", "val_fraction": 0.2}),
    "drawing": ("le-permut", {"augment": "photo"}),
    "half precision": ("ce", {"model": "mlp", "precision": "bf16-mixed"}),
    "explained": ("le", {"flip": True, "val_fraction": 0.2, "warmup": 2}),
    "fine-tuned": ("dropout", {"optimizer": "adamw", "schedule": "cosine", "padding": 2}),
    "pretrained": ("le", {"model": "hf", "lr": 1e-3, "ema": 0.9, "class_weights": "balanced"}),
    "gradients": ("le", {"saliency": "grad", "model": "mlp"}),
}
"""Those first that have most to remember: the first few are killed in every test run."""
PATIENCE = 60.0


ENVIRONMENT = {"streamed": {"SELFTAUGHT_MEMORY": "0", "SELFTAUGHT_WORKERS": "2"}}


def configured(variant: str, folder: Path) -> RunConfig:
    """Sixty steps in six epochs."""
    method, options = VARIANTS[variant]
    if options.get("model") == "hf":
        options = {**options, "model": f"hf:{pretrained(folder)}", "image_size": 16}
    return quick.config(method, **{"epochs": 6, "train_size": 80, **options})


def pretrained(folder: Path) -> Path:
    """A small transformer, as if somebody had trained it."""
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViTConfig(**sizes, image_size=16, patch_size=8, num_channels=1, hidden_dropout_prob=0.1)
    if not folder.exists():
        ViTForImageClassification(config).save_pretrained(folder)
    return folder


def work(config: RunConfig, directory: Path, environment: dict[str, str]) -> None:
    """A process that trains, as the leader of its own group; one step takes at least a hundredth of a second."""
    os.setsid()
    os.environ.update(environment, SELFTAUGHT_SAVE_SECONDS="0")

    def dawdle() -> bool:
        time.sleep(0.01)
        return False

    train(config, directory, should_stop=dawdle)


def run_and_kill(
    config: RunConfig, directory: Path, moment: random.Random, environment: dict[str, str]
) -> bool:
    """Train until a random moment after the first checkpoint; whether it was killed while it wrote a file."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_kill", "lightning_fabric"])
    process = context.Process(target=work, args=(config, directory, environment))
    process.start()
    deadline = time.monotonic() + PATIENCE
    while not (directory / record.CHECKPOINT).exists():
        assert process.is_alive(), "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    while_writing = moment.random() < 0.5
    # A step takes a hundredth of a second and there are sixty.
    end = time.monotonic() + moment.uniform(0.0, 0.5)
    while time.monotonic() < end:
        time.sleep(0.0005)
    half_written = False
    while while_writing and process.is_alive() and not half_written:
        half_written = any(directory.glob(".*.tmp"))
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not record.is_finished(directory)
    return any(directory.glob(".*.tmp"))


def check_kills(tmp_path: Path, kills: int) -> int:
    """Kill and resume; returns how many of the kills fell into a write."""
    moment = random.Random(0)
    whole = {}
    during_writes = 0
    for number in range(kills):
        variant = list(VARIANTS)[number % len(VARIANTS)]
        config = configured(variant, tmp_path / "network")
        if variant not in whole:
            train(config, tmp_path / variant)
            whole[variant] = quick.fingerprint(tmp_path / variant)
        directory = tmp_path / f"killed-{number}"
        during_writes += run_and_kill(config, directory, moment, ENVIRONMENT.get(variant, {}))
        events = []
        train(config, directory, on_progress=events.append)
        assert events[0].resumed_at > 0
        assert quick.fingerprint(directory) == whole[variant], (number, variant)
        assert not list(directory.glob(".*.tmp"))
    return during_writes


def test_killed_runs_end_with_the_same_bytes(tmp_path):
    check_kills(tmp_path, kills=3)


@pytest.mark.slow
def test_fifty_killed_runs_end_with_the_same_bytes(tmp_path):
    during_writes = check_kills(tmp_path, kills=50)
    print(f"{during_writes} of 50 kills fell into a write")
    assert during_writes >= 5
