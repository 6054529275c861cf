"""All pictures of a source, looked at and decoded: by this process where that is quick, else by several."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from selftaught.data import pictures, workers
from selftaught.data.encoded import Pictures
from selftaught.data.levels import Levels
from selftaught.data.preparation import Preparation
from selftaught.data.statistics import power_sums
from selftaught.errors import InputError, together


class UnusableError(InputError):
    """A picture that cannot be decoded."""


OnProgress = Callable[[int, int], None]
"""Called with how many pictures are done, and of how many."""

Value = TypeVar("Value")

_CHUNK = 64


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


class Further(Protocol):
    """What else is made of pictures while they are decoded. Can be pickled, so that worker processes can ask it."""

    def form(self, position: int) -> Format | None:
        """The second form of a picture, of the same channels and levels; None where it has none."""
        ...

    def take(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        """What is kept of a picture in its second form, uint8 (K, H, W)."""
        ...


def decode_all(
    source: Pictures,
    form: Format,
    keep: bool,
    on_progress: OnProgress,
    further: Further | None = None,
    on_further: Callable[..., None] | None = None,
) -> tuple[Facts, Tensor | None]:
    """The facts of all pictures and, if `keep`, their pixels: uint8 (N, K, H, W).

    With `further` each picture is brought to a second form as well; `on_further` is told, in their order, what that
    keeps of each.

    Raises:
        InputError: pictures that cannot be read or decoded, by name.
    """
    pixels = np.empty((len(source), *form.shape), dtype=np.uint8) if keep else None
    facts, done, problems = [], 0, list[str]()
    task = _Decode(source, form, keep, further)
    for images, of_chunk, bad, beside in reported(task, len(source), on_progress):
        problems += bad
        if on_further is not None:
            for taken in beside:
                on_further(*taken)
        if pixels is not None:
            pixels[done : done + len(images)] = images
            done += len(images)
        facts.append(of_chunk)
    _refuse(problems)
    columns = (torch.from_numpy(np.concatenate(column)) for column in zip(*facts, strict=True))
    return Facts(*columns), None if pixels is None else torch.from_numpy(pixels)


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
    """A range of pictures: pixels (none unless `keep`), the columns of `Facts`, what is wrong, and what is further."""

    source: Pictures
    form: Format
    keep: bool
    further: Further | None

    def __call__(self, positions: range) -> tuple[np.ndarray, tuple[np.ndarray, ...], list[str], list[Any]]:
        images, problems = np.zeros((len(positions), *self.form.shape), dtype=np.uint8), []
        endless, beside = np.zeros(len(positions), dtype=bool), []
        for row, position in enumerate(positions):
            try:
                second = self.further and self.further.form(position)
                forms = [self.form, second] if second else [self.form]
                (images[row], *more), endless[row] = _decode(self.source, position, forms)
                if self.further and second:
                    beside.append(self.further.take(more[0].reshape(second.shape)))
            except UnusableError as error:
                problems.append(str(error))
        facts = digest(images), *power_sums(images), endless
        return images if self.keep else images[:0], facts, problems, beside


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
