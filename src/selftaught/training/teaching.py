"""Teacher selection: which network is trained before the student of a method, and how."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from selftaught.errors import InputError
from selftaught.files.config import RunConfig
from selftaught.methods import registry

TEACHER_SEED = 10_000
"""Seed of the one teacher of all trials, which is no student's where seeds are small."""

TEACHERS = {r"resnet(8|14|20)": "resnet26", r"cnn(6|8)": "cnn10"}
"""Teachers by a pattern of the student's name (Tables 1 and 5)."""

ASSISTANTS = {"resnet14": "resnet20", "resnet8": "resnet14"}
"""TAKD's assistants by student (Section 5.3)."""

OPTIONS = {
    "teacher": ("teacher", "assistant"),
    "assistant": ("assistant",),
    "teacher_per_trial": ("teacher", "assistant", "twin"),
}
"""What a user may say about it, see `selftaught.training.presets.resolve`, and which `SOURCES` take it."""


@dataclass(frozen=True)
class Lesson:
    """What is trained before the student: a method on a model."""

    method: str
    model: str


def _from_teacher(method: str, student: str, teacher: str | None, assistant: str | None) -> Lesson:
    return Lesson("ce", teacher or _known(TEACHERS, method, student, "teacher"))


def _from_twin(method: str, student: str, teacher: str | None, assistant: str | None) -> Lesson:
    return Lesson("ce", student)


def _from_assistant(method: str, student: str, teacher: str | None, assistant: str | None) -> Lesson:
    return Lesson("kd", assistant or _known(ASSISTANTS, method, student, "assistant"))


SOURCES: dict[str, Callable[[str, str, str | None, str | None], Lesson]] = {
    "teacher": _from_teacher,
    "twin": _from_twin,
    "assistant": _from_assistant,
}
"""By `Method.learns_from`."""


def lesson(method: str, student: str, teacher: str | None, assistant: str | None) -> Lesson | None:
    """What `method` on the model `student` has trained before it; None where it learns from nobody.

    Raises:
        InputError: no teacher or assistant is known for this student.

    >>> lesson("kd", "resnet8", None, None)
    Lesson(method='ce', model='resnet26')
    >>> lesson("takd", "resnet14", None, None)
    Lesson(method='kd', model='resnet20')
    """
    source = registry.find(method).learns_from
    return SOURCES[source](method, student, teacher, assistant) if source else None


def teacher_seed(seed: int, per_trial: bool) -> int:
    """The seed of the teacher of the trial with this seed; the teacher of a teacher has its seed.

    >>> teacher_seed(3, per_trial=False), teacher_seed(3, per_trial=True), teacher_seed(10_003, per_trial=True)
    (10000, 10003, 10003)
    """
    return TEACHER_SEED + (seed % TEACHER_SEED if per_trial else 0)


def lineage(config: RunConfig) -> list[RunConfig]:
    """A run and all that it learns from, the first teacher first."""
    return [*(lineage(config.teacher) if config.teacher else []), config]


def extra_networks(config: RunConfig) -> int:
    """How many networks are trained beside the one that counts: its teachers and peers, and theirs."""
    return registry.find(config.method).peers + (1 + extra_networks(config.teacher) if config.teacher else 0)


def _known(table: dict[str, str], method: str, student: str, role: str) -> str:
    for pattern, name in table.items():
        if re.fullmatch(pattern, student):
            return name
    raise InputError(f"{method} needs to know which {role} {student} has: name a model with --{role}")
