"""All pictures of a source, looked at and decoded: by this process where that is quick, else by several."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from selftaught.data import pictures, workers
from selftaught.data.channels import power_sums
from selftaught.data.encoded import Pictures
from selftaught.data.levels import Levels
from selftaught.data.preparation import Preparation
from selftaught.errors import InputError, together


class UnusableError(InputError):
    """A picture that cannot be decoded."""


OnProgress = Callable[[int, int], None]
"""Called with how many pictures are done, and of how many."""

Value = TypeVar("Value")

_CHUNK = 64


class Target(Protocol):
    """Something that pictures are decoded into. Can be pickled, so that worker processes can ask it."""

    def form(self, position: int) -> "Format | None":
        """What the picture at this position becomes; None where it is left out, as are all that follow it."""
        ...

    def space(self, count: int) -> int:
        """How many values the pixels of the first `count` pictures have."""
        ...

    def facts(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """What is known of decoded pictures, uint8 (K, H, W) each: columns of as many rows."""
        ...

    def flat(self, image: np.ndarray) -> np.ndarray:
        """The values of a decoded picture in the order in which they are held."""
        ...


@dataclass(frozen=True)
class Format:
    """What every picture of a data set becomes: uint8 of `shape` (K, H, W), by way of the rest, see `Preparation`."""

    shape: tuple[int, int, int]
    crop: float | None = None
    resample: str = "bilinear"
    stretch: bool = False
    levels: Levels | None = None

    @property
    def preparation(self) -> Preparation:
        """The same as what `pictures.decode` takes."""
        channels, height, width = self.shape
        return Preparation(
            (height, width), channels, self.crop, self.resample, stretch=self.stretch, levels=self.levels
        )

    def form(self, _: int) -> "Format":
        """See `Target`: every picture becomes the same."""
        return self

    def space(self, count: int) -> int:
        """See `Target`."""
        return count * math.prod(self.shape)

    def facts(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """See `Target`: digests, uint8 (n, 32), and the columns of `statistics.power_sums`."""
        together = np.stack(images)
        return digest(together), *power_sums(together)

    def flat(self, image: np.ndarray) -> np.ndarray:
        """See `Target`: channel by channel."""
        return image.reshape(-1)


class Survey(NamedTuple):
    """What is known of N pictures before they are prepared.

    Attributes:
        sizes: int32 (N, 2), height and width.
        grey: bool (N,), and so are the next three, see `pictures.Header`.
        deep: whether there are more than 8 bits in a grey value.
        coarse: whether there are 16 bits in a colour channel.
        several: whether there are more frames.
        extents: float64 (N, 4), of the deep ones, see `levels.Extent`; zeros for others.
    """

    sizes: Tensor
    grey: Tensor
    deep: Tensor
    coarse: Tensor
    several: Tensor
    extents: Tensor


class Facts(NamedTuple):
    """What is known of N prepared pictures, whether or not their pixels are at hand.

    Attributes:
        digests: uint8 (N, 32), the SHA-256 of each one's shape and pixels.
        sums: int64 (N, K), the sum of each one's values.
        squares: int64 (N, K), the sum of their squares.
        endless: bool (N,), whether the file lacks its end, though none of its pixels.
    """

    digests: Tensor
    sums: Tensor
    squares: Tensor
    endless: Tensor


def decode_again(
    source: Pictures, positions: Sequence[int], form: Format, digests: Sequence[Tensor] | Tensor
) -> np.ndarray:
    """As `decode`; InputError also names a picture whose digest, uint8 (n, 32), is another one than before."""
    images = decode(source, positions, form)
    for position, found, before in zip(
        positions, digest(images) if len(images) else (), digests, strict=True
    ):
        if not np.array_equal(found, before.numpy()):
            raise InputError(f"{source.name(position)} has changed while it was being used: start again")
    return images


def decode(source: Pictures, positions: Sequence[int], form: Format) -> np.ndarray:
    """Some pictures as uint8 (n, K, H, W); InputError names one that cannot be read or decoded."""
    images = np.empty((len(positions), *form.shape), dtype=np.uint8)
    for image, position in zip(images, positions, strict=True):
        image[:] = _decode(source, position, [form])[0][0]
    return images


def _decode(source: Pictures, position: int, forms: Sequence[Format]) -> tuple[list[np.ndarray], bool]:
    """One picture in each form, (K, H, W) or for grey ones (H, W), and whether its file lacks its end."""
    decode = partial(pictures.decode_several, preparations=[form.preparation for form in forms])
    arrays, endless = _usable(source, position, decode)
    return [array.transpose(2, 0, 1) if array.ndim == 3 else array for array in arrays], endless


def digest(images: np.ndarray) -> np.ndarray:
    """The SHA-256 of each image's shape and pixels: uint8 (n, 32)."""
    shape = repr(images.shape[1:]).encode()
    digests = [np.frombuffer(hashlib.sha256(shape + image.tobytes()).digest(), np.uint8) for image in images]
    return np.stack(digests)


def survey(source: Pictures, on_progress: OnProgress) -> Survey:
    """Sizes and kinds of all pictures; InputError names those that are none."""
    chunks, problems = [], list[str]()
    for chunk, of_chunk in reported(_Look(source), len(source), on_progress):
        chunks.append(chunk)
        problems += of_chunk
    _refuse(problems)
    columns = [torch.from_numpy(np.concatenate(column)) for column in zip(*chunks, strict=True)]
    headers, extents = columns
    grey, deep, coarse, several = (headers[:, column] != 0 for column in range(2, 6))
    return Survey(headers[:, :2].clone(), grey, deep, coarse, several, extents)


class Made(NamedTuple):
    """What has become of pictures: the columns of `Target.facts`, and the pixels, flat uint8, where they are kept."""

    facts: list[Tensor]
    pixels: Tensor | None


def decode_all(
    source: Pictures, wanted: Sequence[tuple[Target, bool]], on_progress: OnProgress
) -> tuple[list[Made], Tensor]:
    """What becomes of all pictures, for each target, which agree in channels and levels, and whose pixels may be kept.

    Each picture is decoded once. The second result, bool (N,), says which files lack their end, though no pixels.

    Raises:
        InputError: pictures that cannot be read or decoded, by name.
    """
    buffers = [np.empty(target.space(len(source)) if keep else 0, np.uint8) for target, keep in wanted]
    facts: list[list[tuple[np.ndarray, ...]]] = [[] for _ in wanted]
    done, endless, problems = [0] * len(wanted), [], list[str]()
    for of_targets, without_end, bad in reported(_Decode(source, tuple(wanted)), len(source), on_progress):
        problems += bad
        endless.append(without_end)
        for number, (columns, flat) in enumerate(of_targets):
            if columns:
                facts[number].append(columns)
            buffers[number][done[number] : done[number] + len(flat)] = flat
            done[number] += len(flat)
    _refuse(problems)
    made = [
        Made(
            [torch.from_numpy(np.concatenate(column)) for column in zip(*rows, strict=True)],
            torch.from_numpy(buffer) if keep else None,
        )
        for rows, buffer, (_, keep) in zip(facts, buffers, wanted, strict=True)
    ]
    return made, torch.from_numpy(np.concatenate(endless))


@dataclass(frozen=True)
class _Look:
    """A range of pictures: headers int32 (n, 6), extents float64 (n, 4) of those that are deep; and what is wrong."""

    source: Pictures

    def __call__(self, positions: range) -> tuple[tuple[np.ndarray, np.ndarray], list[str]]:
        headers, extents = np.zeros((len(positions), 6), np.int32), np.zeros((len(positions), 4))
        problems = []
        for header, extent, position in zip(headers, extents, positions, strict=True):
            try:
                found = _usable(self.source, position, pictures.header)
                header[:] = found
                if found.deep:
                    extent[:] = _usable(self.source, position, pictures.extent)
            except UnusableError as error:
                problems.append(str(error))
        return (headers, extents), problems


@dataclass(frozen=True)
class _Decode:
    """A range of pictures: for each target the facts and the pixels (none unless kept); the endless; what is wrong."""

    source: Pictures
    wanted: tuple[tuple[Target, bool], ...]

    def __call__(
        self, positions: range
    ) -> tuple[list[tuple[tuple[np.ndarray, ...], np.ndarray]], np.ndarray, list[str]]:
        images: list[list[np.ndarray]] = [[] for _ in self.wanted]
        endless, problems = np.zeros(len(positions), dtype=bool), []
        for row, position in enumerate(positions):
            forms = [target.form(position) for target, _ in self.wanted]
            try:
                found, endless[row] = _decode(self.source, position, [form for form in forms if form])
            except UnusableError as error:
                problems.append(str(error))
                continue
            left = iter(found)
            for of_target, form in zip(images, forms, strict=True):
                if form:
                    of_target.append(next(left).reshape(form.shape))
        return list(map(self._taken, self.wanted, images)), endless, problems

    def _taken(
        self, wanted: tuple[Target, bool], images: list[np.ndarray]
    ) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        target, keep = wanted
        flat = [target.flat(image) for image in images] if keep else []
        return target.facts(images) if images else (), np.concatenate([np.empty(0, np.uint8), *flat])


def reported(task: Callable, total: int, on_progress: OnProgress) -> Iterator:
    """The result of the task for each chunk of 0..total-1, in order; tells how many are done."""
    chunks = [range(start, min(start + _CHUNK, total)) for start in range(0, total, _CHUNK)]
    for chunk, result in zip(chunks, workers.patient(task, chunks), strict=True):
        on_progress(chunk.stop, total)
        yield result


def _usable(source: Pictures, position: int, use: Callable[[bytes], Value]) -> Value:
    try:
        return use(source.read(position))
    except InputError:
        raise
    except ValueError as error:
        name = source.name(position)
        raise UnusableError(
            f"{name}: the picture cannot be decoded ({error}): remove or replace it"
        ) from error


def _refuse(problems: list[str]) -> None:
    """All at once: whoever has thirty bad files among thousands should not have to start thirty times."""
    if problems:
        raise InputError(together(problems))
