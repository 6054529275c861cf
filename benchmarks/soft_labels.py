"""What LE's soft labels say: how far they are from even ones, and whom they agree with.

    python -m benchmarks.soft_labels STUDY... -o results/soft-labels

Networks of the studies that were trained with CE, LE-Uniform or LE, with the library's settings, are asked in eval mode
on images held out of their training, or on test images where none were. Their explanations make soft labels (Eq. 6), of
which OUT.md and OUT.json tell

moved: how much of the probability lies elsewhere than in even soft labels, half the sum of the absolute differences (of
ten classes and α 0.9 at most 8.9 %, all on one other class);
agreement: Spearman's rank correlation over the classes that are not the true one, of the soft labels with the network's
own logits, of the soft labels with a teacher's logits, and of the network's own logits with the teacher's;
confidence: the mean of the largest probability minus the accuracy, in points; below zero: under-confident.

The teacher is the ResNet26 of the same training images; where there is none, its columns stay empty.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import selftaught
from selftaught import models, similarity, targets
from selftaught.files import record
from selftaught.files.config import NEUTRAL
from selftaught.report.numbers import mean_std as mean_and_std
from selftaught.statistics.paired import mean_std
from selftaught.training import metrics
from selftaught.training.explanations import default_saliency
from selftaught.training.presets import data_of, preset_for

ALPHA = 0.9
METHODS = {"ce": {}, "le-uniform": {"alpha": ALPHA, "weight": 0.1}, "le": {"alpha": ALPHA, "weight": 0.1}}
"""Who is asked, and the settings that they have; others, but the warm-up, are the method's defaults."""

TEACHER = "resnet26"

COLUMNS = {
    "moved": "moved, % of the probability",
    "own": "soft labels with own logits",
    "taught": "soft labels with the teacher's",
    "logits": "own logits with the teacher's",
    "confidence": "confidence − accuracy",
}


@dataclass(frozen=True)
class Asked:
    """What the soft labels of one network say; `taught` and `logits` are None where there is no teacher."""

    networks: str
    trial_id: str
    images: int
    moved: float
    own: float
    taught: float | None
    logits: float | None
    confidence: float


def others(values: Tensor, labels: Tensor) -> np.ndarray:
    """The entries (B, C - 1) of (B, C) that do not belong to the true class."""
    mask = torch.ones_like(values, dtype=torch.bool).scatter(1, labels[:, None], False)
    return values[mask].view(len(values), -1).double().numpy()


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over the rows of (B, K) of Spearman's rank correlation; a constant row counts as 0."""
    pairs = torch.from_numpy(np.stack([a, b], axis=1))
    first = torch.zeros(len(pairs), dtype=torch.int64)
    return float(similarity.rank_correlation(pairs, first)[:, 1].mean())


def confidence(logits: Tensor, labels: Tensor) -> float:
    """Mean of the largest probability of (B, C) minus the accuracy, in points."""
    largest, predicted = logits.double().softmax(1).max(1)
    return 100 * float((largest - (predicted == labels).double()).mean())


def alike(run: record.Record) -> str:
    """What networks that were trained alike are called."""
    config, images = run.config, run.result.data.train
    return f"{config.model} on {config.data}, {images:,} images, {config.epochs} epochs: {config.method}"


def ask(run: record.Record, teacher: record.Record | None, images: int) -> Asked:
    """One network about the first of its held-out images, or of the test images."""
    config, data = run.config, data_of(run.config)
    held_out, labels = data.val_images, data.val_labels
    if not len(labels):
        held_out, labels = data.test_images, data.test_labels
    x, y = held_out[:images].float() / 255, labels[:images]
    model = selftaught.load(run.directory)
    explanation = selftaught.explain(model, x, default_saliency(model))
    soft_labels = targets.introspective(similarity.cosine(explanation.maps, y), y, ALPHA)
    soft = others(soft_labels, y)
    own, theirs = others(explanation.logits, y), None
    if teacher is not None:
        with torch.no_grad():
            theirs = others(selftaught.load(teacher.directory)(x), y)
    return Asked(
        alike(run),
        config.trial_id,
        len(y),
        100 * float(metrics.moved(soft_labels, y).mean()),
        agreement(soft, own),
        None if theirs is None else agreement(soft, theirs),
        None if theirs is None else agreement(own, theirs),
        confidence(explanation.logits, y),
    )


def finished(study: Path) -> Iterator[record.Record]:
    """The networks of a study that are there."""
    for directory in sorted((study / "trials").iterdir()):
        if record.is_finished(directory) and (directory / record.WEIGHTS).is_file():
            yield record.read(directory)


def each_once(studies: Sequence[Path]) -> list[record.Record]:
    """The networks of all studies; several may have the same trial."""
    return list({run.config.trial_id: run for study in studies for run in finished(study)}.values())


def usual(run: record.Record) -> bool:
    """Whether a network was trained with the library's settings."""
    config = run.config
    if config.method not in METHODS or config.model == TEACHER:
        return False
    saliency = models.default_saliency(config.model)
    defaults = {"saliency": saliency, "relu": False, "similarity": "cosine", "layer": None, **NEUTRAL}
    wanted = defaults | {"warmup": round(0.2 * config.epochs)} | METHODS[config.method]
    protocol = preset_for(config.data, config.model)[1]
    same = all(getattr(config, name) == protocol[name] for name in ("weight_decay", "lr", "momentum"))
    return same and all(config.settings.get(name, value) == value for name, value in wanted.items())


def of_studies(studies: Sequence[Path], images: int) -> Iterator[Asked]:
    """All usual networks of studies, each once."""
    runs = each_once(studies)
    teachers = {_data(run): run for run in runs if (run.config.model, run.config.method) == (TEACHER, "ce")}
    for run in filter(usual, runs):
        yield ask(run, teachers.get(_data(run)), images)


def _data(run: record.Record) -> tuple[str, int | None, float]:
    """What a network and its teacher must have in common: neither has seen the images that it is asked about."""
    return run.config.data_fingerprint, run.config.train_size, run.config.val_fraction


def page(found: Sequence[Asked]) -> str:
    """The table in Markdown, a line for all networks that were trained alike."""
    groups: dict[str, list[Asked]] = defaultdict(list)
    for one in sorted(found, key=lambda one: one.networks):
        groups[one.networks].append(one)
    lines = [
        f"| networks | trials | {' | '.join(COLUMNS.values())} |",
        f"|---|{'---:|' * (1 + len(COLUMNS))}",
    ]
    for name, those in groups.items():
        cells = [_told([getattr(one, column) for one in those]) for column in COLUMNS]
        lines.append(f"| {name} | {len(those)} | {' | '.join(cells)} |")
    told = (__doc__ or "").split("\n\n", 2)[2].replace("OUT.md and OUT.json tell", "this page tells")
    return f"# What LE's soft labels say\n\n{told.strip()}\n\n" + "\n".join(lines) + "\n"


def _told(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean, std = mean_std(known)
    return mean_and_std(mean, std if len(known) > 1 else None)


def asked(told: str | None, images: int) -> argparse.Namespace:
    """The command line of a benchmark that asks networks of studies: `studies`, `out` and `images`."""
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=images)
    return parser.parse_args()


def main() -> None:
    """Ask the networks, write what they say."""
    arguments = asked(__doc__, images=1000)
    torch.set_num_threads(1)
    found = list(of_studies(arguments.studies, arguments.images))
    arguments.out.with_suffix(".md").write_text(page(found), encoding="utf-8")
    values = [asdict(one) for one in found]
    arguments.out.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
