"""From a name to the training, validation and test parts."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from selftaught.data import splits, store
from selftaught.data.channels import normalisation
from selftaught.data.dataset import ImageData
from selftaught.data.decoding import OnProgress
from selftaught.data.encoded import Chosen, Collection
from selftaught.data.preparation import Preparation
from selftaught.data.sources import SOURCES, open_source
from selftaught.data.splits import Parts
from selftaught.data.store import Store
from selftaught.errors import InputError, shown, unknown


def names() -> list[str]:
    """Names of the data sets that are known by name.

    >>> "digits" in names()
    True
    """
    return list(SOURCES)


def summary(name: str) -> str:
    """One line about a data set.

    >>> summary("cifar10")
    '60,000 photographs, RGB 32x32, 10 classes'
    """
    if name not in SOURCES:
        raise unknown("data", name, SOURCES)
    return SOURCES[name].summary


def load(
    name: str,
    image_size: int | tuple[int, int] | None = None,
    train_size: int | None = None,
    val_fraction: float = 0.0,
    split_seed: int = 0,
    test_fraction: float = 0.2,
    test_size: int | None = None,
    preparation: Preparation = Preparation(),  # noqa: B008  (it is frozen)
    memory: int | None = None,
    on_progress: OnProgress | None = None,
    for_crops: bool = False,
    subset_seed: int | None = None,
    split_by: str | None = None,
) -> ImageData:
    """Labelled images, decoded, resized and divided.

    Args:
        name: one of `names()`, a folder or label file, or a data set of the Hugging Face Hub, see
            `selftaught.data.sources`.
        image_size: height and width in pixels (one number for both); None for the model's, see `preparation`, or
            the pictures' own if they all have one and it is small, else a square of at most 64 pixels.
        train_size: how many training images to use, a stratified choice; None for all.
        val_fraction: share in [0, 1) of those held out for validation, stratified.
        split_seed: seeds every choice of images.
        test_fraction: share in (0, 1) set aside for testing, stratified, where the source has no test part.
        test_size: how many images to test with, a stratified choice, for a first look; None for all.
        preparation: what the model asks of its images.
        memory: bytes that the decoded images may take; None for ``$SELFTAUGHT_MEMORY`` (GiB) or half of what is
            free. Where they take more they are decoded each time they are needed, by ``$SELFTAUGHT_WORKERS`` processes.
        on_progress: told how many pictures are done, of how many, as headers are read and again as they are decoded.
        for_crops: whether to keep the training pictures large as well (`ImageData.originals`), for
            `selftaught.data.batches.Batches` to cut random parts from.
        subset_seed: seeds the choice of training and validation images in place of `split_seed`; the test images stay.
        split_by: what the images are grouped by, so that no group is in two parts: a column of the table or Parquet
            files, or for image files a regular expression, see `splits.group_in_path`.

    Raises:
        InputError: unknown name, a value out of range, data that cannot be found or decoded.

    >>> digits = load("digits", val_fraction=0.1)
    >>> tuple(digits.train_images.shape), len(digits.val_labels), len(digits.test_labels), digits.classes[3]
    ((1294, 1, 16, 16), 144, 359, '3')
    """
    asked = _pair(image_size)
    collection = open_source(name, split_by)
    division = _divide(
        collection, train_size, val_fraction, split_seed, test_fraction, test_size, subset_seed, split_by
    )
    train = division.parts.train
    everything = store.fill(
        collection, train, asked, preparation, memory, on_progress or (lambda _done, _total: None), for_crops
    )
    return _assemble(name, collection, division, everything, preparation)


def _assemble(
    name: str, collection: Collection, division: "_Division", everything: Store, preparation: Preparation
) -> ImageData:
    labels, parts, digests = division.labels, division.parts, everything.facts.digests
    duplicates = _duplicates(digests, parts)
    called = everything.source.name
    mean, std = _normalisation(everything, parts.train, preparation)
    return ImageData(
        name=name,
        classes=collection.classes,
        train_images=everything.part(parts.train),
        train_labels=labels[parts.train],
        val_images=everything.part(parts.val),
        val_labels=labels[parts.val],
        test_images=everything.part(parts.test),
        test_labels=labels[parts.test],
        fingerprint=_fingerprint(collection.classes, labels, digests, parts),
        mean=mean,
        std=std,
        crop=preparation.crop,
        resample=preparation.resample,
        stretch=preparation.stretch,
        levels=everything.form.levels,
        test_part=division.test_part,
        duplicates=len(duplicates),
        notes=(
            *collection.notes,
            *everything.notes,
            *division.notes,
            *_duplicates_note(duplicates, parts, called),
        ),
        test_name=Chosen(everything.source, parts.test).name,
        originals=everything.originals(parts.train),
    )


class _Division(NamedTuple):
    """Who is in which part: all labels, int64 (N,), the positions of each part, and what to say of the test part."""

    labels: Tensor
    parts: Parts
    test_part: str
    notes: tuple[str, ...]


def _divide(
    collection: Collection,
    train_size: int | None,
    val_fraction: float,
    split_seed: int,
    test_fraction: float,
    test_size: int | None,
    subset_seed: int | None,
    split_by: str | None,
) -> _Division:
    labels, classes = collection.train.labels, collection.classes
    groups, names = _groups(collection)
    notes: tuple[str, ...] = ()
    if collection.test is None:
        before, test = splits.set_aside(labels, test_fraction, split_seed, classes, groups)
        by = "" if groups is None else f" by group ({shown(split_by)})"
        test_part = f"{100 * test_fraction:g} % set aside{by}, stratified, split seed {split_seed}"
        notes = (f"no test part in the data: {len(test):,} of {len(labels):,} images, {test_part}",)
    else:
        before = torch.arange(len(labels))
        labels = torch.cat([labels, collection.test.labels])
        test, test_part = torch.arange(len(before), len(labels)), "the source's own"
    if groups is not None:
        notes += _about_groups(groups, names, before, test, shown(split_by))
    if test_size is not None:
        test_part = f"{test_size:,} of {len(test):,}, stratified: {test_part}"
        test = splits.choose(labels, test, test_size, split_seed)
    chosen_by = split_seed if subset_seed is None else subset_seed
    of_training = None if groups is None else groups[before]
    train, val = splits.hold_out(
        labels[before], train_size, val_fraction, chosen_by, len(classes), of_training
    )
    return _Division(labels, Parts(before[train], before[val], test), test_part, notes)


def _groups(collection: Collection) -> tuple[Tensor | None, list[str]]:
    """Which group each image of both parts belongs to, int64 (N,), and what the groups are called."""
    parts = [part for part in (collection.train, collection.test) if part is not None]
    called = [name for part in parts for name in part.groups or ()]
    return splits.numbered_groups(called) if called else (None, [])


def _about_groups(
    groups: Tensor, names: list[str], before: Tensor, test: Tensor, split_by: str
) -> tuple[str, ...]:
    sizes = groups.bincount()
    smallest, largest = int(sizes.min()), int(sizes.max())
    of = f"{smallest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
    tested, known = groups[test].unique(), torch.isin(groups[test], groups[before])
    text = (
        f"split by {split_by}: {len(names):,} groups of {of} images, {len(tested):,} of them in the test part"
    )
    if not known.any():
        return (text,)
    first = names[int(groups[test][known][0])]
    return (
        text,
        f"{int(known.sum()):,} of the {len(test):,} test images, which the data itself sets apart, are of groups that "
        f"are trained with as well (such as {shown(first)!r}): what the model scores on them is in part memory; remove "
        "them, or join the parts and let --split-by divide them",
    )


def _normalisation(
    everything: Store, train: Tensor, preparation: Preparation
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation: the model's where it has some, else those of the training part."""
    channels, height, width = everything.form.shape
    facts = everything.facts
    mean, std = normalisation(facts.sums[train], facts.squares[train], height * width)
    return _for_channels(preparation.mean, channels) or mean, _for_channels(preparation.std, channels) or std


def _for_channels(values: Sequence[float] | None, channels: int) -> tuple[float, ...] | None:
    """One value per channel: repeated for colour, averaged for grey."""
    if values is None or len(values) == channels:
        return None if values is None else tuple(values)
    return (sum(values) / len(values),) * channels


def _fingerprint(classes: tuple[str, ...], labels: Tensor, digests: Tensor, parts: Parts) -> str:
    content = hashlib.sha256(json.dumps(classes).encode())
    for positions in parts:
        content.update(f"{len(positions)} images;".encode())
        content.update(labels[positions].numpy().tobytes())
        content.update(digests[positions].numpy().tobytes())
    return content.hexdigest()


def _duplicates(digests: Tensor, parts: Parts) -> list[tuple[int, int]]:
    """The positions of test images that equal one that is trained with or held out, each with that one's."""
    rows = digests.contiguous().numpy().view("V32")[:, 0]
    seen = {rows[position].tobytes(): position for position in torch.cat([parts.train, parts.val]).tolist()}
    copies = ((position, seen.get(rows[position].tobytes())) for position in parts.test.tolist())
    return [(position, copy) for position, copy in copies if copy is not None]


def _duplicates_note(found: list[tuple[int, int]], parts: Parts, called: Callable[[int], str]) -> list[str]:
    if not found:
        return []
    test, copy = found[0]
    return [
        f"{len(found):,} of the {len(parts.test):,} test images also occur in the training part (such as "
        f"{called(test)}, which equals {called(copy)}): what the model scores on them is memory; remove the copies for "
        "an honest number"
    ]


def _pair(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or min(pair) < 1:
        raise InputError(f"image_size must be one number or (height, width), at least 1, got {image_size}")
    return pair
