"""Batches of a data set: shuffled, augmented and normalised on the device."""

from collections.abc import Generator, Iterator, Sequence

import torch
from torch import Tensor

from selftaught._inputs import check_range
from selftaught.data import augment, policies
from selftaught.data.augment import Boxes, Placement, View
from selftaught.data.originals import Alike, Originals
from selftaught.data.policies import POLICIES, Choices, Holes
from selftaught.data.sampling import SAMPLINGS, seeded
from selftaught.data.streaming import Images, Streamed, fetch
from selftaught.errors import InputError, unknown

_BYTES_AT_ONCE = 2**26
"""How large the batches are that a GPU makes in one go."""


class Batches:
    """An image data set as batches, epoch by epoch.

    What epoch n holds, its order and its augmentation, depends on (`seed`, n) alone: not on earlier epochs, nor
    on the global RNG, which is left alone. So a resumed run sees what it would have seen.

    Args:
        images: uint8 (N, K, H, W), as `selftaught.data.ImageData` has them, moved to `device` if there is room.
        labels: int64 (N,).
        batch_size: images per batch. A last batch of one image is not trained with: batch normalisation refuses it.
        mean: per channel, of images scaled to [0, 1]; subtracted.
        std: per channel; divided by.
        device: where the batches are made.
        seed: at least 0; None to evaluate: in order, every image, as it is.
        padding: zero padding in pixels for random crops, see `augment.crop_flip`.
        flip: mirror at random.
        min_scale: in (0, 1], for crops as `augment.draw_boxes` draws them, in place of padding.
        policy: what is done to each image after that, one of `policies.POLICIES`, or "none".
        erasing: the share in [0, 1) of the images that lose a random rectangle, see `policies.draw_holes`.
        sampling: how an epoch's images are drawn, one of `sampling.SAMPLINGS`.
        originals: what these are cut from, see `selftaught.data.originals`; None for the images themselves.
        memory_format: of the batches; `torch.channels_last` for convolutions that like it.

    Raises:
        InputError: sizes that do not agree, a value out of range.

    >>> images = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    >>> batches = Batches(images, torch.arange(5), 2, mean=[0.5], std=[0.25], seed=0)
    >>> [tuple(x.shape) for x, y in batches.epoch(0)]
    [(2, 1, 8, 8), (2, 1, 8, 8)]
    """

    def __init__(
        self,
        images: Images,
        labels: Tensor,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str = "cpu",
        seed: int | None = None,
        padding: int = 0,
        flip: bool = False,
        min_scale: float | None = None,
        memory_format: torch.memory_format = torch.contiguous_format,
        originals: Originals | None = None,
        policy: str = "none",
        erasing: float = 0.0,
        sampling: str = "shuffle",
    ) -> None:
        _check_tensors(images, labels, mean, std)
        self.batch_size, self.seed, self.padding, self.flip = batch_size, seed, padding, flip
        self.min_scale, self.erasing, self.memory_format = min_scale, erasing, memory_format
        _check_settings(self, sampling, policy)
        self.device = torch.device(device)
        # What parts are cut from is used in place of the images.
        self.images = images if originals is not None else _moved(images, self.device)
        self.originals = Alike(self.images) if originals is None else originals.to(self.device)
        self.labels = labels.to(device)
        self.policy = POLICIES.get(policy)
        self.draw_order = SAMPLINGS[sampling]
        # (x / 255 - mean) / std in two passes over the batch.
        self._shift = 255 * torch.tensor(mean, dtype=torch.float32, device=device).view(-1, 1, 1)
        self._scale = 255 * torch.tensor(std, dtype=torch.float32, device=device).view(-1, 1, 1)

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self.labels), self.batch_size)
        lonely = self.seed is not None and rest == 1 and whole > 0
        return whole + (rest > 0) - lonely

    def epoch(self, n: int, first: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        """The batches of epoch n: x float32 (B, K, H, W), normalised, and y int64 (B,).

        From batch number `first` on, each the same as if those before it had been made.
        """
        parts = self._parts(first)
        if self.seed is None:
            for samples, x in zip(parts, fetch(self.images, parts), strict=True):
                yield self._normalise(x.to(self.device)), self.labels[samples]
            return
        generator = seeded(self.seed, n)
        order = self._order(n, generator)
        labels = self.labels[order.to(self.device)]
        joined = self._joined(parts)
        # Drawn for the whole epoch, so that a GPU waits for one transfer and not for one per batch.
        augmented = self._shifted if self.min_scale is None else self._cut
        choices, holes = self._further(n)
        for samples, x in zip(joined, augmented(order, joined, generator), strict=True):
            if choices is not None:
                x = policies.apply(x, augment.taken(choices, samples))
            made = self._normalise(x)
            if holes is not None:
                policies.erase(made, augment.taken(holes, samples))
            yield from zip(made.split(self.batch_size), labels[samples].split(self.batch_size), strict=True)

    def samples(self, n: int, first: int = 0) -> list[Tensor]:
        """Which images epoch n's batches hold, from batch number `first` on: int64 (B,) each, on the CPU.

        No image is touched.

        >>> labels = torch.arange(5)
        >>> batches = Batches(torch.zeros(5, 1, 8, 8, dtype=torch.uint8), labels, 3, mean=[0.5], std=[0.25], seed=0)
        >>> [samples.tolist() for samples in batches.samples(0)] == [y.tolist() for _, y in batches.epoch(0)]
        True
        """
        count = len(self.labels)
        order = torch.arange(count) if self.seed is None else self._order(n, seeded(self.seed, n))
        return [order[part] for part in self._parts(first)]

    def views(self, n: int, first: int = 0) -> list[View]:
        """Which parts of their pictures epoch n's batches show, from batch number `first` on, on the CPU.

        No image is touched. What a policy does to images after they are cut is left out.
        """
        (height, width), count = self.images.shape[2:], len(self.labels)
        zeros = torch.zeros(count, dtype=torch.int64)
        whole = Placement(zeros, zeros, zeros.bool())
        if self.seed is None:
            view = whole.view((height, width), 0)
        else:
            generator = seeded(self.seed, n)
            order = self._order(n, generator)
            if self.min_scale is not None:
                view = self._boxes(order, generator).view(self.originals.sizes[order])
            else:
                view = (self._placement(count, generator) or whole).view((height, width), self.padding)
        return [View(view.boxes[part], view.flips[part]) for part in self._parts(first)]

    def _parts(self, first: int) -> list[slice]:
        """Where the batches lie in an epoch's order."""
        return [slice(b * self.batch_size, (b + 1) * self.batch_size) for b in range(first, len(self))]

    def _at_once(self) -> int:
        """How many batches are made in one go: on a GPU many, since asking for one takes longer than making it."""
        if isinstance(self.images, Tensor) and self.images.device.type == "cuda":
            return max(1, _BYTES_AT_ONCE // (4 * self.batch_size * self.images[0].numel()))
        return 1

    def _joined(self, parts: Sequence[slice]) -> list[slice]:
        """Where the batches lie that are made in one go."""
        count = self._at_once()
        runs = [parts[first : first + count] for first in range(0, len(parts), count)]
        return [slice(run[0].start, run[-1].stop) for run in runs]

    def _order(self, n: int, generator: torch.Generator) -> Tensor:
        """What is drawn first in an epoch."""
        assert self.seed is not None
        return self.draw_order(self.labels, self.seed, n, generator)

    def _further(self, n: int) -> tuple[Choices | None, Holes | None]:
        """What is done to the images at the places of epoch n beside cropping, which it leaves as it is without."""
        if self.seed is None or not (self.policy or self.erasing):
            return None, None
        height, width = self.images.shape[2:]
        count, size, generator = len(self.labels), (height, width), seeded(self.seed, n, 1)
        choices = self.policy.draw(count, size, generator) if self.policy else None
        holes = policies.draw_holes(count, size, self.erasing, generator) if self.erasing else None
        return choices, holes

    def _cut(self, order: Tensor, joined: list[slice], generator: torch.Generator) -> Iterator[Tensor]:
        """Random parts of the originals at these places of an epoch's order, each as large as an image."""
        height, width = self.images.shape[2:]
        boxes = self._boxes(order, generator)
        chosen = [order[samples] for samples in joined]
        of_chosen = [augment.taken(boxes, samples) for samples in joined]
        for x in self.originals.cut(chosen, of_chosen, (height, width)):
            yield x.to(self.device)

    def _boxes(self, order: Tensor, generator: torch.Generator) -> Boxes:
        """What is cut out of the originals at these places of an epoch's order."""
        assert self.min_scale is not None
        sizes, proportions = self.originals.sizes[order], self.originals.proportions[order]
        return augment.draw_boxes(len(order), sizes, generator, self.min_scale, self.flip, proportions)

    def _placement(self, count: int, generator: torch.Generator) -> Placement | None:
        """Where the images of an epoch lie in their padded pictures; None where nothing is done to them."""
        if not (self.padding or self.flip):
            return None
        return augment.draw(count, generator, self.padding, self.flip)

    def _shifted(self, order: Tensor, joined: list[slice], generator: torch.Generator) -> Iterator[Tensor]:
        """The images at these places of an epoch's order, padded, cropped and mirrored if they should be."""
        drawn = self._placement(len(order), generator)
        placement = drawn and augment.Placement(*(tensor.to(self.device) for tensor in drawn))
        if isinstance(self.images, Tensor):
            order = order.to(self.images.device)
        chosen = [order[samples] for samples in joined]
        for samples, images in zip(joined, fetch(self.images, chosen), strict=True):
            x = images.to(self.device)
            cropped = placement and augment.crop_flip(x, augment.taken(placement, samples), self.padding)
            yield x if cropped is None else cropped

    def _normalise(self, x: Tensor) -> Tensor:
        x = x.to(torch.float32, memory_format=self.memory_format)
        return x.sub_(self._shift).div_(self._scale)


def _moved(images: Images, device: torch.device) -> Images:
    """The images on the device, or where they are if they are decoded on demand or would fill a GPU."""
    if device.type == "cpu" or isinstance(images, Streamed):
        return images
    if device.type == "cuda" and images.shape.numel() > torch.cuda.mem_get_info(device)[0] // 2:
        return images
    return images[:].to(device)


def _check_tensors(images: Images, labels: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
    if isinstance(images, Tensor) and (images.dtype != torch.uint8 or images.ndim != 4):
        raise InputError(
            f"images must be uint8 of shape (N, K, H, W), got {images.dtype} of shape {tuple(images.shape)}"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise InputError(
            f"labels must be int64 of shape ({len(images)},), got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if not len(mean) == len(std) == images.shape[1]:
        raise InputError(f"mean and std must have {images.shape[1]} values, got {len(mean)} and {len(std)}")


def _check_settings(batches: Batches, sampling: str, policy: str) -> None:
    check_range("batch_size", batches.batch_size, lambda size: size >= 1, "at least 1")
    check_range("padding", batches.padding, lambda pixels: pixels >= 0, "at least 0")
    check_range("erasing", batches.erasing, lambda share: 0.0 <= share < 1.0, "at least 0 and below 1")
    if batches.seed is not None:
        check_range("seed", batches.seed, lambda seed: seed >= 0, "at least 0")
    if batches.min_scale is not None:
        check_range("min_scale", batches.min_scale, lambda share: 0.0 < share <= 1.0, "above 0 and at most 1")
        if batches.padding:
            raise InputError(
                f"min_scale {batches.min_scale} and padding {batches.padding} are two ways to crop: set padding to 0"
            )
    if policy not in ("none", *POLICIES):
        raise unknown("policy", policy, ["none", *POLICIES])
    if sampling not in SAMPLINGS:
        raise unknown("sampling", sampling, SAMPLINGS)
