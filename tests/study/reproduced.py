"""A small recipe, and copies of the study that it makes."""

import shutil
from pathlib import Path

from selftaught.files import record

RECIPE = """
name: mine
title: A study of <digits>
kind: table
source: a test
command: selftaught reproduce mine.yaml
expected: {smoke: seconds, quick: seconds, paper: a minute}
trials: 2
protocol:
  digits: {epochs: 2, batch_size: 32, lr: 0.05, momentum: 0.9, weight_decay: 0.0001,
           milestones: [0.5], warmup: 0.5, augment: none}
groups:
  - {label: ResNet8, data: digits, model: resnet8, teacher: resnet14}
variants:
  - {label: CE, method: ce}
  - {label: KD, method: kd, settings: {temperature: 4, weight: 0.1}}
  - {label: LE-Uniform, method: le-uniform, settings: {alpha: 0.9, weight: 0.1}}
  - {label: LE, method: le, settings: {saliency: grad-cam, alpha: 0.9, weight: 0.1}}
paper:
  ResNet8: {CE: 90.26 ± 0.33, LE: 91.21 ± 0.07}
"""


def lend(study: Path, out: Path, without: tuple[str, ...] = ()) -> None:
    """Copy a study, but not its networks of some models and methods, named ``resnet8 ce``: they have to be trained."""
    shutil.copytree(study, out, dirs_exist_ok=True)
    for trial in (out / "trials").iterdir():
        config = record.read_config(trial)
        assert config is not None
        if f"{config.model} {config.method}" in without:
            shutil.rmtree(trial)
