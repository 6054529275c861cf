"""All pictures of a source, looked at and decoded: by this process where that is quick, else by several."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from selftaught.data import pictures, workers
from selftaught.data.encoded import Pictures
from selftaught.data.preparation import Preparation
from selftaught.data.statistics import power_sums
from selftaught.errors import InputError, together


class UnusableError(InputError):
    """A picture that cannot be decoded."""


OnProgress = Callable[[int, int], None]
"""Called with how many pictures are done, and of how many."""

_CHUNK = 64


@dataclass(frozen=True)
class Format:
    """What every picture of a data set becomes: uint8 of `shape` (K, H, W), by way of the rest, see `Preparation`."""

    shape: tuple[int, int, int]
    crop: float | None = None
    resample: str = "bilinear"
    stretch: bool = False

    @property
    def preparation(self) -> Preparation:
        """The same as what `pictures.decode` takes."""
        channels, height, width = self.shape
        return Preparation((height, width), channels, self.crop, self.resample, stretch=self.stretch)


class Survey(NamedTuple):
    """What the headers say: sizes int32 (N, 2) as height and width, grey bool (N,)."""

    sizes: Tensor
    grey: Tensor


class Facts(NamedTuple):
    """What is known of N prepared pictures, whether or not their pixels are at hand.

    Attributes:
        digests: uint8 (N, 32), the SHA-256 of each one's shape and pixels.
        sums: int64 (N, K), the sum of each one's values.
        squares: int64 (N, K), the sum of their squares.
    """

    digests: Tensor
    sums: Tensor
    squares: Tensor


def decode(source: Pictures, positions: Sequence[int], form: Format) -> np.ndarray:
    """Some pictures as uint8 (n, K, H, W); InputError names one that cannot be read or decoded."""
    images = np.empty((len(positions), *form.shape), dtype=np.uint8)
    for image, position in zip(images, positions, strict=True):
        array = _usable(source, position, partial(pictures.decode, preparation=form.preparation))
        image[:] = array.transpose(2, 0, 1) if array.ndim == 3 else array
    return images


def digest(images: np.ndarray) -> np.ndarray:
    """The SHA-256 of each image's shape and pixels: uint8 (n, 32)."""
    shape = repr(images.shape[1:]).encode()
    digests = [np.frombuffer(hashlib.sha256(shape + image.tobytes()).digest(), np.uint8) for image in images]
    return np.stack(digests)


def survey(source: Pictures, on_progress: OnProgress) -> Survey:
    """Sizes and kinds of all pictures; InputError names those that are none."""
    chunks, problems = [], list[str]()
    for chunk, of_chunk in _reported(_Look(source), len(source), on_progress):
        chunks.append(chunk)
        problems += of_chunk
    _refuse(problems)
    found = np.concatenate(chunks)
    return Survey(torch.from_numpy(found[:, :2].copy()), torch.from_numpy(found[:, 2] != 0))


def decode_all(
    source: Pictures, form: Format, keep: bool, on_progress: OnProgress
) -> tuple[Facts, Tensor | None]:
    """The facts of all pictures and, if `keep`, their pixels: uint8 (N, K, H, W).

    Raises:
        InputError: pictures that cannot be read or decoded, by name.
    """
    pixels = np.empty((len(source), *form.shape), dtype=np.uint8) if keep else None
    facts, done, problems = [], 0, list[str]()
    for images, of_chunk, bad in _reported(_Decode(source, form, keep), len(source), on_progress):
        problems += bad
        if pixels is not None:
            pixels[done : done + len(images)] = images
            done += len(images)
        facts.append(of_chunk)
    _refuse(problems)
    columns = (torch.from_numpy(np.concatenate(column)) for column in zip(*facts, strict=True))
    return Facts(*columns), None if pixels is None else torch.from_numpy(pixels)


@dataclass(frozen=True)
class _Look:
    """Headers of a range of pictures, int32 (n, 3) of height, width and whether they are grey; and what is wrong."""

    source: Pictures

    def __call__(self, positions: range) -> tuple[np.ndarray, list[str]]:
        found, problems = np.zeros((len(positions), 3), dtype=np.int32), []
        for row, position in zip(found, positions, strict=True):
            try:
                row[:] = _usable(self.source, position, pictures.header)
            except UnusableError as error:
                problems.append(str(error))
        return found, problems


@dataclass(frozen=True)
class _Decode:
    """A range of pictures: pixels (none unless `keep`); digests, sums and squares; and what is wrong with some."""

    source: Pictures
    form: Format
    keep: bool

    def __call__(self, positions: range) -> tuple[np.ndarray, tuple[np.ndarray, ...], list[str]]:
        images, problems = np.zeros((len(positions), *self.form.shape), dtype=np.uint8), []
        for image, position in zip(images, positions, strict=True):
            try:
                image[:] = decode(self.source, [position], self.form)[0]
            except UnusableError as error:
                problems.append(str(error))
        return images if self.keep else images[:0], (digest(images), *power_sums(images)), problems


def _reported(task: Callable, total: int, on_progress: OnProgress) -> Iterator:
    """The task of each chunk of 0..total-1, in order."""
    chunks = [range(start, min(start + _CHUNK, total)) for start in range(0, total, _CHUNK)]
    for chunk, result in zip(chunks, workers.patient(task, chunks), strict=True):
        on_progress(chunk.stop, total)
        yield result


def _usable(source: Pictures, position: int, use: Callable) -> np.ndarray:
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
