"""A source before its pictures are decoded: what every kind of source is turned into."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Pictures(Protocol):
    """Encoded pictures by position. Can be pickled, so that worker processes can read them as well."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """The encoded picture; `InputError` where it cannot be read."""
        ...

    def name(self, index: int) -> str:
        """What to call it in a message: a file's path, or a file and its row."""
        ...


@dataclass(frozen=True, eq=False)
class Chosen:
    """Those of some pictures that are at the given positions, int64 (N,)."""

    pictures: Pictures
    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, index: int) -> bytes:
        """See `Pictures.read`."""
        return self.pictures.read(int(self.positions[index]))

    def name(self, index: int) -> str:
        """See `Pictures.name`."""
        return self.pictures.name(int(self.positions[index]))


@dataclass(frozen=True)
class Joined:
    """The pictures of both parts of a source in one row, training first."""

    train: Pictures
    test: Pictures

    def __len__(self) -> int:
        return len(self.train) + len(self.test)

    def read(self, index: int) -> bytes:
        """See `Pictures.read`."""
        ahead = len(self.train)
        return self.train.read(index) if index < ahead else self.test.read(index - ahead)

    def name(self, index: int) -> str:
        """See `Pictures.name`."""
        ahead = len(self.train)
        return self.train.name(index) if index < ahead else self.test.name(index - ahead)


@dataclass(frozen=True, eq=False)
class Part:
    """Pictures and their labels, int64 (N,); where somebody asked for them the groups that they belong to."""

    pictures: Pictures
    labels: Tensor
    groups: Sequence[str] | None = None


@dataclass(frozen=True, eq=False)
class Collection:
    """A labelled source as it is found.

    Attributes:
        classes: the C class names; labels lie in 0..C-1.
        train: the training part, or everything where the source is not divided.
        test: the test part; None where the source has none of its own.
        key: another one whenever a picture or a label may have changed: what was decoded is cached under it.
        size: the size (height, width) to use where nobody asks for one; None for the pictures' own.
        notes: what a user should know about how the source was read, one line each.
    """

    classes: tuple[str, ...]
    train: Part
    test: Part | None
    key: str
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
