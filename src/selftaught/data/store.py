"""All pictures of a source, brought to one format: held in memory, or known by their facts and decoded on demand."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from selftaught.data import cache, decoding, levels, sizing, streaming
from selftaught.data.decoding import Facts, Format, OnProgress, Survey, Target
from selftaught.data.encoded import Collection, Joined, Pictures
from selftaught.data.originals import Decoded, Held, Large, Originals, Uncut
from selftaught.data.preparation import Preparation
from selftaught.data.remarks import remarks
from selftaught.data.streaming import Images, Streamed

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """The pictures of both parts of a source, training first.

    Attributes:
        source: all of them, encoded.
        form: what they become.
        facts: digests and sums of each.
        pixels: uint8 (N, K, H, W); None where they are too many.
        notes: what to tell the user.
        originals: what parts of the source's training pictures are cut from; None where nobody asked for it.
    """

    source: Pictures
    form: Format
    facts: Facts
    pixels: Tensor | None
    notes: tuple[str, ...]
    uncut: Held | Decoded | None

    def part(self, positions: Tensor) -> Images:
        """The images at some positions, int64 and ascending."""
        if self.pixels is None:
            return Streamed(self.source, self.form, positions, self.facts.digests)
        return streaming.part(self.pixels, positions)

    def originals(self, positions: Tensor) -> Originals | None:
        """What parts of the training pictures at these positions are cut from."""
        return None if self.uncut is None else self.uncut.part(positions)


def fill(
    collection: Collection,
    train: Tensor,
    asked: tuple[int, int] | None,
    preparation: Preparation,
    memory: int | None,
    on_progress: OnProgress,
    for_crops: bool = False,
) -> Store:
    """The pictures of a collection in the size that was `asked` for, or else as `sizing.settle` says.

    The positions `train`, int64, are those that are trained with, which settle what becomes black and white. With
    `for_crops` random parts are to be cut from the training pictures. `memory` is what `sizing.budget` takes.

    Raises:
        InputError: a picture cannot be decoded, or it is not known which values are black and white.
    """
    source = collection.train.pictures
    if collection.test is not None:
        source = Joined(source, collection.test.pictures)
    kept = _Kept(collection.key)
    survey = _survey(source, kept, on_progress)
    form, resized = sizing.settle(asked, preparation, collection.size, survey)
    chosen, scaled = preparation.levels, None
    if chosen is None:
        chosen, scaled = levels.choose(survey.deep, survey.extents, train, source.name)
    form = replace(form, levels=chosen)
    needed, allowed = form.space(len(source)), sizing.budget(memory)
    keep = needed <= allowed
    notes = [note for note in (resized, scaled) if note]
    if not keep:
        notes.append(f"the decoded images take {_gib(needed)}, {_too_much(allowed)}")
    images, large, uncut = _Entry(kept, form, f"facts {form}", f"pixels {form}", keep), None, None
    if for_crops:
        uncut = Large(Uncut(form), survey.sizes[: len(collection.train.pictures)])
        large = _large(kept, uncut, allowed - needed if keep else allowed, notes)
    _make(source, collection.train.pictures, images, large, on_progress)
    facts = Facts(**images.facts)
    odd = {"endless": facts.endless, "several": survey.several, "coarse": survey.coarse}
    notes += remarks({matter: which.numpy() for matter, which in odd.items()}, source.name)
    notes += kept.notes
    originals = _originals(uncut, large, collection.train.pictures) if uncut and large else None
    return Store(source, form, facts, images.pixels, tuple(notes), originals)


class _Entry:
    """What the cache has, or is to have, of pictures that are decoded into a target: facts by name, and kept pixels."""

    def __init__(self, kept: "_Kept", target: Target, of_facts: str, of_pixels: str, keep: bool) -> None:
        self.target, self.keep = target, keep
        self._kept, self._of_facts, self._of_pixels = kept, of_facts, of_pixels
        self.facts = kept.read(of_facts) or {}
        self.pixels = (kept.read(of_pixels) or {}).get("pixels") if keep else None
        self.missing = not self.facts or (keep and self.pixels is None)

    def fill(self, facts: dict[str, Tensor], pixels: Tensor | None) -> None:
        """Keep what was decoded, as entries of their own: streaming needs no pixels, and no second pass for facts."""
        self.facts, self.pixels, self.missing = facts, pixels, False
        self._kept.write(self._of_facts, facts)
        if pixels is not None:
            self._kept.write(self._of_pixels, {"pixels": pixels})
            # From here on the file's pages, which other processes share, rather than memory of this one.
            self.pixels = (self._kept.read(self._of_pixels) or {"pixels": pixels})["pixels"]


def _make(
    source: Pictures, training: Pictures, images: _Entry, large: _Entry | None, on_progress: OnProgress
) -> None:
    """Decode what is missing, all of it at the same time."""
    missing = [entry for entry in (images, large) if entry is not None and entry.missing]
    if not missing:
        return
    wanted = [(entry.target, entry.keep) for entry in missing]
    made, endless = decoding.decode_all(source if images.missing else training, wanted, on_progress)
    for entry, (columns, pixels) in zip(missing, made, strict=True):
        if entry is images:
            facts = dict(zip(Facts._fields, [*columns, endless], strict=True))
            form = images.target.form(0)
            entry.fill(facts, pixels.view(len(source), *form.shape) if pixels is not None and form else None)
        else:
            entry.fill({"digests": columns[0]}, pixels)


def _large(kept: "_Kept", target: Large, allowed: int, notes: list[str]) -> _Entry:
    """The training pictures to cut from: in memory if they take no more than `allowed`, which `notes` are told."""
    uncut, needed = target.uncut, target.space(len(target.sizes))
    notes.append(
        f"random crops are cut from the original pictures, kept at up to {uncut}: {_gib(needed)}"
        + ("" if needed <= allowed else f", {_too_much(allowed)}")
    )
    return _Entry(kept, target, f"digests of {uncut!r}", f"pixels of {uncut!r}", needed <= allowed)


def _originals(target: Large, made: _Entry, source: Pictures) -> Held | Decoded:
    sizes, proportions = target.sizes, target.uncut.proportions(target.found)
    if made.pixels is not None:
        channels = target.uncut.form.shape[0]
        return Held(made.pixels, target.starts()[:-1], sizes, proportions, channels)
    digests = made.facts["digests"]
    return Decoded(source, target.uncut, torch.arange(len(source)), digests, sizes, proportions)


def _too_much(allowed: int) -> str:
    return (
        f"more than the {_gib(allowed)} that may be used: they are decoded each time they are needed "
        "(SELFTAUGHT_MEMORY=GIB allows more)"
    )


class _Kept:
    """What the cache holds of a collection; `notes` say which of it was damaged."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.notes: list[str] = []

    def read(self, what: str) -> dict[str, Tensor] | None:
        """None where it is missing or damaged."""
        try:
            return cache.read(f"{what} {self.key}")
        except cache.DamagedError as error:
            # Said at once as well: the notes of a study's worker are read by nobody.
            _LOG.warning("%s", error)
            self.notes.append(str(error))
            return None

    def write(self, what: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep it."""
        cache.write(f"{what} {self.key}", tensors)


def _survey(source: Pictures, kept: _Kept, on_progress: OnProgress) -> Survey:
    found = kept.read("survey")
    if found is not None:
        return Survey(**found)
    survey = decoding.survey(source, on_progress)
    kept.write("survey", survey._asdict())
    return survey


def _gib(count: int) -> str:
    return f"{count / 2**30:.2g} GiB" if count > 2**27 or not count else f"{count / 2**20:.2g} MiB"
