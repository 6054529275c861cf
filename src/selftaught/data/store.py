"""All pictures of a source, brought to one format: held in memory, or known by their facts and decoded on demand."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from selftaught.data import cache, decoding, levels, originals, sizing, streaming
from selftaught.data.decoding import Facts, Format, OnProgress, Survey
from selftaught.data.encoded import Collection, Pictures
from selftaught.data.originals import Decoded, Held, Making, Originals, Uncut
from selftaught.data.preparation import Preparation
from selftaught.data.remarks import remarks
from selftaught.data.streaming import Images, Streamed

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Joined:
    """The pictures of both parts of a source in one row, training first; see `Pictures`."""

    train: Pictures
    test: Pictures

    def __len__(self) -> int:
        return len(self.train) + len(self.test)

    def read(self, index: int) -> bytes:
        """The encoded picture."""
        ahead = len(self.train)
        return self.train.read(index) if index < ahead else self.test.read(index - ahead)

    def name(self, index: int) -> str:
        """What to call it in a message."""
        ahead = len(self.train)
        return self.train.name(index) if index < ahead else self.test.name(index - ahead)


@dataclass(frozen=True)
class Store:
    """The pictures of both parts of a source, training first.

    Attributes:
        source: all of them, encoded.
        form: what they become.
        facts: digests and sums of each.
        pixels: uint8 (N, K, H, W); None where they are too many.
        notes: what to tell the user.
        uncut: what parts of the source's training pictures are cut from; None where nobody asked for it.
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

    Args:
        collection: the pictures.
        train: int64, the positions of those that are trained with, which settle what becomes black and white.
        asked: height and width.
        preparation: what the model asks for.
        memory: what `sizing.budget` takes.
        on_progress: told how many pictures are done.
        for_crops: whether random parts are to be cut from the training pictures.

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
    needed, allowed = len(source) * math.prod(form.shape), sizing.budget(memory)
    keep, large = needed <= allowed, None
    if for_crops:
        left = allowed - needed if keep else allowed
        large = _Large(collection.train.pictures, kept, Uncut(form), survey, left)
    facts, pixels = _decoded(source, kept, form, keep, on_progress, large)
    notes = [note for note in (resized, scaled) if note]
    if needed > allowed:
        notes.append(f"the decoded images take {_gib(needed)}, {_too_much(allowed)}")
    uncut = None
    if large is not None:
        uncut = large.originals(on_progress)
        notes.append(large.note)
    odd = {"endless": facts.endless, "several": survey.several, "coarse": survey.coarse}
    notes += remarks({matter: which.numpy() for matter, which in odd.items()}, source.name)
    notes += kept.notes
    return Store(source, form, facts, pixels, tuple(notes), uncut)


class _Large:
    """The training pictures to cut from, in memory if they take no more than `allowed`; `note` tells of them.

    Attributes:
        missing: what has to be told of the pictures, since the cache does not have it; None where it does.
    """

    def __init__(self, source: Pictures, kept: "_Kept", uncut: Uncut, survey: Survey, allowed: int) -> None:
        found = survey.sizes[: len(source)]
        self._source, self._kept, self._uncut = source, kept, uncut
        self._sizes, self._proportions = uncut.sizes(found), uncut.proportions(found)
        self._starts = originals.offsets(self._sizes, uncut.form.shape[0])
        needed = int(self._starts[-1])
        keep = needed <= allowed
        self.note = (
            f"random crops are cut from the original pictures, kept at up to {uncut}: {_gib(needed)}"
            + ("" if keep else f", {_too_much(allowed)}")
        )
        self._of_digests, self._of_pixels = f"digests of {uncut!r}", f"pixels of {uncut!r}"
        self._digests = kept.read(self._of_digests)
        self._pixels = kept.read(self._of_pixels) if keep else {}
        known = self._digests is not None and self._pixels is not None
        self.missing = None if known else Making(uncut, self._sizes, keep)

    def originals(self, on_progress: OnProgress) -> Held | Decoded:
        """Decoded now, unless they have been told of or are in the cache."""
        if self.missing is not None:
            originals.decode_all(self._source, self.missing, on_progress)
            self.write()
        assert self._digests is not None
        assert self._pixels is not None
        if "pixels" in self._pixels:
            channels = self._uncut.form.shape[0]
            return Held(self._pixels["pixels"], self._starts[:-1], self._sizes, self._proportions, channels)
        everything, digests = torch.arange(len(self._source)), self._digests["digests"]
        return Decoded(self._source, self._uncut, everything, digests, self._sizes, self._proportions)

    def write(self) -> None:
        """Keep what was told."""
        assert self.missing is not None
        digests, decoded = self.missing.made()
        self._digests, self._pixels, self.missing = {"digests": digests}, {}, None
        self._kept.write(self._of_digests, self._digests)
        if decoded is not None:
            self._kept.write(self._of_pixels, {"pixels": decoded})
            # From here on the file's pages, which other processes share, rather than memory of this one.
            self._pixels = self._kept.read(self._of_pixels) or {"pixels": decoded}


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


def _decoded(
    source: Pictures,
    kept: _Kept,
    form: Format,
    keep: bool,
    on_progress: OnProgress,
    large: _Large | None,
) -> tuple[Facts, Tensor | None]:
    """Facts and, if `keep`, pixels: from the cache if they are there, else decoded and kept there.

    Where they are decoded, what is missing of the `large` pictures is made at the same time.

    They are entries of their own, so that streaming needs no pixels, and no pass over the pictures if they have been
    in memory before.
    """
    of_facts, of_pixels = f"facts {form}", f"pixels {form}"
    facts, pixels = kept.read(of_facts), kept.read(of_pixels) if keep else {}
    if facts is not None and pixels is not None:
        return Facts(**facts), pixels.get("pixels")
    missing = large.missing if large is not None else None
    beside = (missing.further, missing.add) if missing is not None else ()
    fresh, decoded = decoding.decode_all(source, form, keep, on_progress, *beside)
    if large is not None and missing is not None:
        large.write()
    kept.write(of_facts, fresh._asdict())
    if decoded is None:
        return fresh, None
    kept.write(of_pixels, {"pixels": decoded})
    # From here on the file's pages, which other processes share, rather than memory of this one.
    return fresh, (kept.read(of_pixels) or {"pixels": decoded})["pixels"]


def _gib(count: int) -> str:
    return f"{count / 2**30:.2g} GiB" if count > 2**27 or not count else f"{count / 2**20:.2g} MiB"
