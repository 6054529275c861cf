"""What every training method is to the trainer, and the register of methods."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn

from selftaught import errors
from selftaught.errors import InputError


@dataclass(frozen=True)
class Step:
    """What one training step computed.

    Attributes:
        loss: scalar, with its graph.
        logits: (B, C), detached.
        terms: the parts of the loss by name, detached scalars.
        similarities: (B, C), how alike each class's explanation is to the true class's, detached; None where the soft
            labels are not made of explanations.
    """

    loss: Tensor
    logits: Tensor
    terms: dict[str, Tensor]
    similarities: Tensor | None = None


@dataclass(frozen=True)
class Casting:
    """What a method may make its companions of.

    Attributes:
        twin: builds another network of the student's architecture, with initial weights of its own.
        example: two training images as the networks take them, float (2, K, H, W), on the CPU.
    """

    twin: Callable[[], nn.Module]
    example: Tensor


@dataclass
class Objective(ABC):
    """A training method; its dataclass fields are its settings, checked when it is made.

    Class attributes:
        key: the method's name on the command line.
        summary: one line for people.
        learns_from: which network, trained before, it learns from: "" none, or a key of
            `selftaught.training.teaching.SOURCES`: "teacher", "twin" (its own architecture) or "assistant".
        peers: how many further whole networks it trains at the same time.
        head_only: whether it ends where others begin, with the head that the linear probe gives a pretrained network.
        warms_up_plainly: whether its warm-up is plain training, which a head that was fitted before can stand for.
        recordable: whether its steps may be recorded on a GPU and replayed: they depend on nothing in Python but what
            `phase` tells, and do not look at a tensor's values.
    """

    key: ClassVar[str]
    summary: ClassVar[str]
    learns_from: ClassVar[str] = ""
    peers: ClassVar[int] = 0
    head_only: ClassVar[bool] = False
    warms_up_plainly: ClassVar[bool] = False
    recordable: ClassVar[bool] = False
    model: nn.Module = dataclasses.field(init=False, repr=False, compare=False)

    @classmethod
    def settings(cls) -> dict[str, Any]:
        """The method's own settings and their defaults."""
        return {field.name: field.default for field in dataclasses.fields(cls) if field.init}

    @classmethod
    def create(cls, **options: Any) -> "Objective":
        """The method with these settings.

        Raises:
            InputError: a setting it does not have, or a value out of range.
        """
        defaults = cls.settings()
        for name, value in options.items():
            if name not in defaults:
                raise errors.unknown(f"setting of {cls.key}", name, defaults)
            _check_type(name, value, defaults[name])
        return cls(**options)

    def model_options(self) -> dict[str, Any]:
        """What the method needs of the model: keyword arguments of `models.create`."""
        return {}

    def companions(
        self, student: nn.Module, teacher: nn.Module | None, cast: Casting
    ) -> dict[str, nn.Module]:
        """Modules that are trained together with the student by the same optimiser: a regressor, a peer."""
        return {}

    def bind(
        self,
        model: nn.Module,
        teacher: nn.Module | None = None,
        companions: Mapping[str, nn.Module] = MappingProxyType({}),
    ) -> None:
        """Take the model to be trained, and whom it learns from and with, once, before the first step."""
        self.model = model

    def start_epoch(self, epoch: int) -> None:  # noqa: B027  (most methods have no stages)
        """Hear which epoch begins, counted from 0."""

    def start_step(self, samples: Tensor) -> None:  # noqa: B027  (most methods treat all images alike)
        """Hear which training images the next batch holds: their numbers, int64 (B,), on the CPU."""

    def phase(self) -> Hashable | None:
        """Which computation the next step of a `recordable` method is.

        Equal for steps that do the same with their batches, so that one can be replayed for the others; None for a step
        that must run by itself.
        """
        return ()

    def settle(self) -> None:  # noqa: B027  (most methods explain nothing)
        """Raise what is wrong with the steps so far and could not be said at once without making a GPU wait.

        Raises:
            ExplanationError: the maps were all zero or not finite.
            ShortcutError: the steps since the last call have to be taken again, after `restore` and `learn`.
        """

    def state(self) -> dict[str, Any]:
        """What the method found out on its way and must not find out anew after an interruption.

        Plain values and tensors.
        """
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Go back to a `state`."""

    def learn(self, found: dict[str, Any]) -> None:  # noqa: B027
        """After going back to an earlier state, keep what a later one, `found`, knows better."""

    def explained(self) -> str | None:
        """The layer that the last step explained, in a few words; None where it explained none."""
        return None

    @abstractmethod
    def step(self, x: Tensor, y: Tensor) -> Step:
        """The loss of a batch x (B, ...) with labels y (B,), model in train mode."""


KNOWN: dict[str, type[Objective]] = {}
"""The registered methods; `selftaught.methods.registry` looks them up."""


def register(cls: type[Objective]) -> type[Objective]:
    """Class decorator: make a method known by its key."""
    KNOWN[cls.key] = cls
    return cls


def _check_type(name: str, value: Any, default: Any) -> None:
    """Refuse what is of another type than the default; where that is None the setting is a text."""
    expected = {float: (float, int), type(None): (str, type(None))}.get(type(default), type(default))
    if not isinstance(value, expected) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise InputError(f"{name} must be like {default!r}, not {value!r}: correct it")


def companion(method: Objective, companions: Mapping[str, nn.Module], name: str) -> nn.Module:
    """One of the companions that a method was bound with.

    Raises:
        InputError: it is not there.
    """
    if name not in companions:
        raise InputError(f"{method.key} trains a {name} along: bind it with what its companions() made")
    return companions[name]
