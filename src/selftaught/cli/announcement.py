"""What a command says before it begins."""

from collections.abc import Sequence
from typing import Any

import torch

from selftaught import models
from selftaught.data import ImageData
from selftaught.errors import shown
from selftaught.files import record
from selftaught.files.config import RunConfig
from selftaught.files.names import called
from selftaught.files.protocols import FINE_TUNE
from selftaught.methods import registry
from selftaught.report import sentences
from selftaught.study.naming import names
from selftaught.study.outlook import Outlook
from selftaught.study.studies import Study
from selftaught.study.trials import Trial
from selftaught.training.presets import data_of


def announcement(study: Study, pending: Sequence[Trial], jobs: int) -> list[str]:
    """What a command is about to do: train a run, compare methods, or reproduce recipes."""
    if study.place is not None:
        return [line for trial in pending for line in _about_run(trial)] or [
            f"{study.directory} is finished already: nothing to train"
        ]
    return _about_recipes(study, pending, jobs) if study.budget else _about_comparison(study, pending, jobs)


def _about_run(trial: Trial) -> list[str]:
    config = trial.config
    return [
        f"training {config.model} with {config.method} on {_data(config)}",
        classes(config),
        f"{_length(config)} on {config.device}, seed {config.seed}, in {trial.directory}",
        *notes(config, [config.method]),
    ]


def _about_comparison(study: Study, pending: Sequence[Trial], jobs: int) -> list[str]:
    [recipe], configs = study.recipes, study.configs()
    config, methods = configs[0], [variant.method for variant in recipe.variants]
    teachers = len(study.trials()) - len(configs)
    lines = [
        f"comparing {', '.join(methods)} on {_data(config)}",
        classes(config),
        f"{_count(len(configs), 'trial')} of {_count(config.epochs, 'epoch')} ({config.model}, "
        f"{recipe.trials} per method), "
        + (f"after {_count(teachers, 'teacher')}, " if teachers else "")
        + _how(study, pending, jobs),
    ]
    if len({one.data_fingerprint for one in configs}) > 1 and config.subset_seed is not None:
        lines.append(
            f"each seed has {config.train_size:,} training images of its own, the test images are the same: "
            "--one-subset trains all seeds on the same ones"
        )
    return lines + notes(config, methods)


def _about_recipes(study: Study, pending: Sequence[Trial], jobs: int) -> list[str]:
    cells, trials = study.cells(), study.trials()
    later = [recipe.name for recipe in study.recipes if recipe.name not in cells]
    sizes = sorted(
        {
            f"{called(c.data)}: {f'{c.train_size:,}' if c.train_size else 'all'} training images"
            f"{f' ({c.val_fraction:.0%} of them held out)' if c.val_fraction else ''}, {c.epochs} epochs"
            for c in (trial.config for trial in trials)
        }
    )
    lines = [
        f"reproducing {', '.join(recipe.name for recipe in study.recipes)} at budget {study.budget} "
        f"({'; '.join(sizes)})",
        f"{_count(len(trials), 'trial')}, {_how(study, pending, jobs)}",
    ]
    if later:
        lines.append(f"{', '.join(later)} follow{'s' * (len(later) == 1)} when the searches are done")
    part = "; all of it " if study.whole else ", "
    return lines + [f"{r.name}: {r.title}{part}{getattr(r.expected, study.budget)}" for r in study.recipes]


def _how(study: Study, pending: Sequence[Trial], jobs: int) -> str:
    """How many trials are there already, how many run at once, and where."""
    kept = sum(record.is_finished(trial.directory) for trial in study.trials())
    finished = f"{kept} of them finished already and kept, " if kept else ""
    at_once = f"{jobs} at a time on {pending[0].config.device}, " if pending else ""
    return f"{finished}{at_once}in {study.directory}"


def _data(config: RunConfig) -> str:
    images = data_of(config)
    held_out = f", {len(images.val_labels)} held out" if len(images.val_labels) else ""
    return (
        f"{config.data} ({len(images.train_labels)} training{held_out} and {len(images.test_labels)} test images, "
        f"{images.num_classes} classes)"
    )


# More names than these are shortened to so many.
_NAMED, _NAMED_OF_MANY = 100, 30


def classes(config: RunConfig) -> str:
    """The names of the classes, with the number of images of each in all parts together."""
    images = data_of(config)
    counts = count_images(images)
    named = [f"{shown(name)} {count:,}" for name, count in zip(images.classes, counts, strict=True)]
    if len(named) > _NAMED:
        rest = sorted({min(counts[_NAMED_OF_MANY:]), max(counts[_NAMED_OF_MANY:])})
        each = " to ".join(f"{count:,}" for count in rest)
        named[_NAMED_OF_MANY:] = [f"and {len(named) - _NAMED_OF_MANY:,} more classes with {each} images each"]
    return f"classes, with how many images each has: {', '.join(named)}"


def count_images(images: ImageData) -> list[int]:
    """The number of images of each class, in the training, held-out and test parts together."""
    return _sizes(torch.cat([images.train_labels, images.val_labels, images.test_labels]), images)


def _sizes(labels: torch.Tensor, images: ImageData) -> list[int]:
    return torch.bincount(labels, minlength=images.num_classes).tolist()


def planned(study: Study, jobs: int, outlook: Outlook | None) -> dict[str, Any]:
    """What a command would do, as plain values; `seconds` and `memory` (bytes) are what remains would take."""
    trials = study.trials()
    return {
        "directory": str(study.directory),
        **(_recipes_planned(study) if study.budget else _comparison_planned(study)),
        "trials": [
            {"trial_id": trial.config.trial_id, "name": name, "open": study.is_open(trial.config)}
            for trial, name in zip(trials, names(trials), strict=True)
        ],
        "jobs": jobs,
        "seconds": outlook.seconds if outlook else 0.0,
        "memory": outlook.memory if outlook else 0,
    }


def _recipes_planned(study: Study) -> dict[str, Any]:
    expected = {recipe.name: getattr(recipe.expected, study.budget) for recipe in study.recipes}
    return {"budget": study.budget, "recipes": expected}


def _comparison_planned(study: Study) -> dict[str, Any]:
    methods = [variant.method for variant in study.recipes[0].variants]
    config = study.configs()[0]
    images = data_of(config)
    return {
        "methods": methods,
        "classes": list(images.classes),
        "train": len(images.train_labels),
        "held_out": len(images.val_labels),
        "test": len(images.test_labels),
        "notes": notes(config, methods),
    }


def expectation(estimate: Outlook, jobs: int) -> list[str]:
    """What it will take, from a few measured steps."""
    failures = [
        f"the steps of {method} could not be measured: {error}" for method, error in estimate.failures.items()
    ]
    if not estimate.measured:
        return failures
    at_once = f", {_size(jobs * estimate.memory)} for {jobs} at a time" if jobs > 1 else ""
    some = estimate.measured < estimate.kinds
    of = f" of {estimate.measured} of {estimate.kinds} kinds of trials" if some else ""
    lines = [
        f"expected, from a few measured steps{of}: {_duration(estimate.seconds)} of training; memory: "
        f"{_size(estimate.memory)} per trial{at_once}"
    ]
    layers = ", ".join(f"{method}: {layer}" for method, layer in estimate.explained.items())
    return [*lines, *([f"Grad-CAM explains {layers}"] if layers else []), *failures]


def notes(config: RunConfig, methods: list[str]) -> list[str]:
    """What a user should know about this data, and about these methods on it."""
    images = data_of(config)
    explained = [method for method in methods if "saliency" in registry.settings(method)]
    lines = [*images.notes, *models.notes(config.model, config.weights)]
    if config.model not in models.names() and not config.model_fingerprint:
        lines.append(
            f"{config.model} is a {models.summary(config.model)}, trained from scratch; pretrained networks are "
            "--model timm:NAME, torchvision:NAME and hf:FOLDER_OR_ID"
        )
    if config.head == "probe":
        lines.append(_fine_tuning(config))
    elif models.is_pretrained(config.model):
        lines.append(
            "--head new begins with a random head: there is no row of the linear probe to compare with"
        )
    uneven = sentences.sizes(_sizes(images.train_labels, images), images.classes, "training")
    counted_alike = config.sampling == "balanced" or config.class_weights == "balanced"
    if uneven and not counted_alike:
        lines.append(
            f"{uneven}: --class-weights balanced or --sampling balanced let each class count alike, which helps the "
            "rare ones and may cost accuracy"
        )
    if images.num_classes == 2:
        lines += [
            f"with two classes {method} equals label smoothing: a single wrong class leaves nothing to share out"
            for method in explained
        ]
    return lines


def _length(config: RunConfig) -> str:
    """How long a trial trains."""
    if registry.find(config.method).head_only:
        return "the head alone, on features that stay as they are,"
    return _count(config.epochs, "epoch")


def _fine_tuning(config: RunConfig) -> str:
    """How a pretrained network is trained."""
    parts = [
        f"with {config.optimizer} at a rate of {config.lr:g}",
        f", below the classifier {config.lr * config.backbone_factor:g}" * (config.backbone_factor < 1),
        ", with the statistics of batch normalisation as they are" * (config.batch_norm == "frozen"),
        f"; the result lies {100 * config.blend:g} % of the way from there to the end" * (config.blend < 1),
        "; few images are trained with longer (--least-steps, --epochs)"
        * (config.epochs > FINE_TUNE["epochs"]),
    ]
    return (
        "the network is pretrained: its new head begins with the linear probe's solution; then all layers are trained "
        + "".join(parts)
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _duration(seconds: float) -> str:
    """For people.

    >>> _duration(7), _duration(42), _duration(600), _duration(20_000)
    ('about 10 seconds', 'about 40 seconds', 'about 10 minutes', 'about 5.6 hours')
    """
    if seconds < 90:
        return f"about {max(10, round(seconds, -1)):.0f} seconds"
    if seconds < 5400:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours" if seconds < 2 * 86400 else f"about {seconds / 86400:.1f} days"


def _size(size: int) -> str:
    return f"about {size / 2**30:.1f} GiB"
