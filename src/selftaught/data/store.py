"""All pictures of a source, brought to one format: held in memory, or known by their facts and decoded on demand."""

from dataclasses import dataclass

from torch import Tensor

from selftaught.data import cache, decoding, sizing, streaming
from selftaught.data.decoding import Facts, Format, OnProgress, Survey
from selftaught.data.encoded import Collection, Pictures
from selftaught.data.preparation import Preparation
from selftaught.data.streaming import Images, Streamed


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
    """

    source: Pictures
    form: Format
    facts: Facts
    pixels: Tensor | None
    notes: tuple[str, ...]

    def part(self, positions: Tensor) -> Images:
        """The images at some positions, int64 and ascending."""
        if self.pixels is None:
            return Streamed(self.source, self.form, positions, self.facts.digests)
        return streaming.part(self.pixels, positions)


def fill(
    collection: Collection,
    asked: tuple[int, int] | None,
    preparation: Preparation,
    memory: int | None,
    on_progress: OnProgress,
) -> Store:
    """The pictures of a collection in the size that was `asked` for, or else as `sizing.settle` says.

    `memory` is what `sizing.budget` takes. Raises InputError for a picture that cannot be decoded.
    """
    source = collection.train.pictures
    if collection.test is not None:
        source = Joined(source, collection.test.pictures)
    survey = _survey(source, collection.key, on_progress)
    form, note = sizing.settle(asked, preparation, collection.size, survey)
    channels, height, width = form.shape
    needed, allowed = len(source) * channels * height * width, sizing.budget(memory)
    facts, pixels = _decoded(source, collection.key, form, needed <= allowed, on_progress)
    notes = [note] if note else []
    if needed > allowed:
        notes.append(
            f"the decoded images take {_gib(needed)}, more than the {_gib(allowed)} that may be used: they are "
            "decoded each time they are needed (SELFTAUGHT_MEMORY=GIB allows more)"
        )
    return Store(source, form, facts, pixels, tuple(notes))


def _survey(source: Pictures, key: str, on_progress: OnProgress) -> Survey:
    entry = f"survey {key}"
    found = cache.read(entry)
    if found is not None:
        return Survey(**found)
    survey = decoding.survey(source, on_progress)
    cache.write(entry, survey._asdict())
    return survey


def _decoded(
    source: Pictures, key: str, form: Format, keep: bool, on_progress: OnProgress
) -> tuple[Facts, Tensor | None]:
    """Facts and, if `keep`, pixels: from the cache if they are there, else decoded and kept there.

    They are entries of their own, so that streaming needs no pixels, and no pass over the pictures if they have been
    in memory before.
    """
    of_facts, of_pixels = f"facts {key} {form}", f"pixels {key} {form}"
    facts, kept = cache.read(of_facts), cache.read(of_pixels) if keep else {}
    if facts is not None and kept is not None:
        return Facts(**facts), kept.get("pixels")
    fresh, pixels = decoding.decode_all(source, form, keep, on_progress)
    cache.write(of_facts, fresh._asdict())
    if pixels is not None:
        cache.write(of_pixels, {"pixels": pixels})
        # From here on the file's pages, which other processes share, rather than memory of this one.
        pixels = (cache.read(of_pixels) or {"pixels": pixels})["pixels"]
    return fresh, pixels


def _gib(count: int) -> str:
    return f"{count / 2**30:.2g} GiB"
