"""What every training method is to the trainer: a module from a batch to its loss, with its settings."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from selftaught import errors
from selftaught.errors import InputError
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


class View(NamedTuple):
    """Which part of its original picture each image of a batch shows.

    Attributes:
        boxes: float32 (B, 4), top, left, height and width as shares of the picture; they reach beyond [0, 1] where the
            picture was padded.
        flips: bool (B,), whether the part was mirrored.
    """

    boxes: Tensor
    flips: Tensor


@dataclass(frozen=True)
class Setting:
    """A setting of a method: its default, and which values are in range.

    The type of a value is that of the default; of a default of None it is a text.
    """

    default: Any
    range: str = ""
    fits: Callable[[Any], bool] = lambda _: True

    def check(self, name: str, value: Any) -> None:
        """Refuse a value of another type than the default's, or out of range.

        Raises:
            InputError: it is one.
        """
        kind = type(self.default)
        expected: Any = {float: (float, int), type(None): (str, type(None))}.get(kind, kind)
        if not isinstance(value, expected) or (isinstance(value, bool) and kind is not bool):
            raise InputError(f"{name} must be like {self.default!r}, not {value!r}: correct it")
        if self.range and not self.fits(value):
            raise InputError(f"{name} must be {self.range}, not {value!r}")


def setting(default: Any, in_words: str = "", fits: Callable[[Any], bool] = lambda _: True) -> Any:
    """Declare a setting in the body of a `Method`: its default, its range in words and what says that a value fits."""
    return Setting(default, in_words, fits)


def not_negative(default: float, unit: str = "") -> Any:
    """Declare a setting that is at least 0 and finite."""
    return setting(default, f"at least 0{unit}", lambda value: 0 <= value < float("inf"))


def positive(default: float) -> Any:
    """Declare a setting that is greater than 0 and finite."""
    return setting(default, "greater than 0", lambda value: 0 < value < float("inf"))


class Method(nn.Module, ABC):
    """A training method; networks that it trains beside the student are its sub-modules as the student is.

    Its settings are declared in the class body (``alpha: float = setting(0.9, ...)``) and are plain attributes of an
    instance.

    Class attributes:
        key: the method's name on the command line.
        summary: one line for people.
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
    recordable: bool = False
    needs_view: ClassVar[bool] = False
    warmup: int = 0

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
        for name, declared in self.settings().items():
            setattr(self, name, settings.get(name, declared.default))
        if len(peers) != type(self).peers:
            raise InputError(
                f"{self.key} trains {type(self).peers} further networks, not {len(peers)}: give as many peers"
            )
        self.model = model
        self.start_epoch(0)

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """The method's settings by name, those of its base classes first."""
        bodies = [vars(parent) for parent in reversed(cls.__mro__)]
        return {name: value for body in bodies for name, value in body.items() if isinstance(value, Setting)}

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
            known[name].check(name, value)

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


KNOWN: dict[str, type[Method]] = {}
"""The registered methods; `selftaught.methods.registry` looks them up."""


def register(cls: type[Method]) -> type[Method]:
    """Class decorator: make a method known by its key."""
    KNOWN[cls.key] = cls
    return cls
