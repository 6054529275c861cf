"""What every training method is to the trainer: a module from a batch to its loss, with its settings."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, get_origin

from torch import Tensor, nn

from selftaught import errors
from selftaught.data.augment import View
from selftaught.errors import InputError
from selftaught.files.catalogue import METHODS
from selftaught.files.settings import METHOD, METHOD_SETTINGS, Declared
from selftaught.saliency.plan import Plan


@dataclass(frozen=True)
class Step:
    """What a method computed of one batch.

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


def own(help: str, default: Any, **bounds: Any) -> Any:
    """Declare a setting that no other method has, as the right side of its annotation in the body of a `Method`.

    Args:
        help: what it is, in one line.
        default: its default, whose type its values have.
        **bounds: its range: gt, ge, lt, le.
    """
    return Declared("", type(default), type(default), default, bounds, help, METHOD)


class Method(nn.Module, ABC):
    """A training method; networks that it trains beside the student are its sub-modules as the student is.

    Its settings are what the bodies of its classes annotate, ClassVar apart, as in a dataclass: ``alpha: float`` has
    the range and the default that `selftaught.files.settings.MethodSettings` declares for the name,
    ``alpha: float = 0.5`` another default, and a name of its own is declared by `own`. They are plain attributes of an
    instance.

    Class attributes:
        key: the method's name on the command line.
        summary: one line for people; for the built-in methods from `selftaught.files.catalogue`, as `head_only` is.
        learns_from: which network, trained before, is its teacher: "" none, or a key of
            `selftaught.training.teaching.SOURCES`: "teacher", "twin" (its own architecture) or "assistant".
        peers: how many further whole networks it trains at the same time.
        head_only: whether it ends where others begin, with the head that the linear probe gives a pretrained network.
        warms_up_plainly: whether its warm-up is plain training, which a head that was fitted before can stand for.
        recordable: whether its steps may be recorded on a GPU and replayed: they depend on x and y, and on nothing in
            Python but `warming_up`, and do not look at a tensor's values.
        needs_view: whether `forward` is to be told which parts of the pictures the images show.

    Args:
        model: the network to be trained, from images (B, ...) to logits (B, C).
        teacher: the trained network that it learns from, where it learns from one.
        peers: the networks that it trains beside the model, as many as `peers` says, with initial weights of their own.
        example: two training images as the networks take them, float (2, K, H, W), for methods that must know the
            shapes of the networks' features.
        **settings: by name; those left out have their defaults.

    Raises:
        InputError: an unknown setting or one out of range, or a network that is missing.
    """

    key: ClassVar[str]
    summary: ClassVar[str]
    learns_from: ClassVar[str] = ""
    peers: ClassVar[int] = 0
    head_only: ClassVar[bool] = False
    warms_up_plainly: ClassVar[bool] = False
    recordable = False
    needs_view: ClassVar[bool] = False
    warmup = 0

    def __init__(
        self,
        model: nn.Module,
        *,
        teacher: nn.Module | None = None,
        peers: Sequence[nn.Module] = (),
        example: Tensor | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.check(settings)
        for name, setting in self.settings().items():
            setattr(self, name, settings.get(name, setting.default))
        if len(peers) != type(self).peers:
            raise InputError(
                f"{self.key} trains {type(self).peers} further networks, not {len(peers)}: give as many peers"
            )
        self.model = model
        self.start_epoch(0)

    @classmethod
    def settings(cls) -> dict[str, Declared]:
        """The method's settings by name, those of its base classes first."""
        parents = [
            parent for parent in reversed(cls.__mro__) if parent is not Method and issubclass(parent, Method)
        ]
        return {
            name: _declared(name, vars(parent).get(name, ...))
            for parent in parents
            for name, kind in inspect.get_annotations(parent).items()
            if get_origin(kind) is not ClassVar and not str(kind).startswith(("ClassVar", "typing.ClassVar"))
        }

    @classmethod
    def check(cls, settings: Mapping[str, Any]) -> None:
        """Refuse settings that the method does not have, or that are out of range.

        Raises:
            InputError: there is one.
        """
        known = cls.settings()
        for name, value in settings.items():
            if name not in known:
                raise errors.unknown(f"setting of {cls.key}", name, known)
            known[name].check(value)

    @classmethod
    def model_options(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What the method needs of the model with these settings: keyword arguments of `models.create`."""
        return {}

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None) -> Step:
        """The loss of a batch.

        Args:
            x: (B, ...), the images as the network takes them.
            y: int64 (B,), their labels.
            index: int64 (B,), the numbers of the images in the training data, best on the CPU; None where unknown.
            view: which parts of the pictures they show; None where unknown.
        """

    def start_epoch(self, epoch: int) -> None:
        """Hear which epoch begins, counted from 0: the first `warmup` ones are the warm-up."""
        self.warming_up = epoch < self.warmup

    def settle(self) -> None:
        """Raise what is wrong with the steps so far and could not be said at once without making a GPU wait.

        Raises:
            ExplanationError: the maps were all zero or not finite.
            ShortcutError: the steps since the last call have to be taken again.
        """

    @property
    def plan(self) -> Plan | None:
        """How Grad-CAM reads the model; None where it has not read it, or where nothing is explained."""
        return None

    def get_extra_state(self) -> dict[str, Any]:
        """What the method found out on its way that is no tensor: plain values."""
        return {}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over such a state."""


def _declared(name: str, value: Any) -> Declared:
    """The setting of this name whose annotation in a class body has this right side, or ``...`` for none."""
    if isinstance(value, Declared):
        return replace(value, name=name)
    if name not in METHOD_SETTINGS:
        return replace(own("", value), name=name)
    return METHOD_SETTINGS[name] if value is ... else replace(METHOD_SETTINGS[name], default=value)


KNOWN: dict[str, type[Method]] = {}
"""The registered methods; `selftaught.methods.registry` looks them up."""


def register(cls: type[Method]) -> type[Method]:
    """Class decorator: make a method known by its key, with what the catalogue says of it."""
    if known := METHODS.get(cls.key):
        cls.summary, cls.head_only = known.summary, known.head_only
    KNOWN[cls.key] = cls
    return cls
