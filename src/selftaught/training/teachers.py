"""The network that a run learns from, ready to be asked."""

from pathlib import Path

from torch import nn

from selftaught import models
from selftaught.data import ImageData
from selftaught.errors import InputError
from selftaught.files import record
from selftaught.files.config import RunConfig
from selftaught.methods import registry
from selftaught.training import seeds
from selftaught.training.trained import load


def untrained(config: RunConfig, images: ImageData) -> nn.Module | None:
    """A stand-in with random weights, which costs as much as the teacher: for first steps and measurements."""
    teacher = config.teacher
    if teacher is None:
        return None
    options = registry.model_options(teacher.method, teacher.settings)
    seeds.seed_all(seeds.derive(teacher.seed, "init"))  # as its own run does: it is not built twice
    return models.create(
        teacher.model,
        images.num_classes,
        images.channels,
        images.image_size,
        weights=teacher.weights,
        **options,
    )


def trained(config: RunConfig, directory: Path) -> nn.Module | None:
    """The teacher of a run from its own finished run, which takes images normalised as the student's are.

    Raises:
        InputError: the run in `directory` is not finished, is damaged, or is not the one that is to be learnt from.
    """
    teacher = config.teacher
    if teacher is None:
        return None
    if not record.is_finished(directory):
        raise InputError(
            f"{config.method} learns from {named(teacher)}, which is not trained: there is no finished run in "
            f"{directory}"
        )
    found = record.read(directory).config
    if found.trial_id != teacher.trial_id:
        raise InputError(
            f"{directory} is not the teacher that this run was configured with: it holds {named(found)}, trial "
            f"{found.trial_id}, instead of {named(teacher)}, trial {teacher.trial_id}"
        )
    code = teacher.model if models.runs_code(teacher.model) else None
    return load(directory, code).model


def named(config: RunConfig) -> str:
    """A teacher in a few words."""
    return f"{config.model} ({config.method}, seed {config.seed})"
